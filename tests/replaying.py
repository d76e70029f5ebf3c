"""What a run on a card recorded, handed to the code that judged it then."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fixtures import lineup as lineups
from fixtures.coexistence import isolation, neighbours
from fixtures.deployment.events import Boot, Nap, Stop
from fixtures.deployment.ready import judge_ready
from fixtures.deployment.script import Bystander, Scene
from fixtures.engines import failure
from fixtures.engines.failure import Failure
from fixtures.kernels import live
from fixtures.languages import content, script, utf8
from fixtures.languages.observe import Asked, LanguageObserved
from fixtures.languages.prompts import Prompt
from fixtures.lineup import Limits
from fixtures.load import latency
from fixtures.load.answer import Answer, Usage
from fixtures.load.latency import LIMITS_OF
from fixtures.load.result import ClientError, LoadResult, Noise
from fixtures.memory import judge as memory
from fixtures.memory.growth import REQUESTS, GrowthObserved
from fixtures.verdict import Judgement
from reports.promise import PROMISES

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "results" / "h200"
RECORDED = sorted(FOLDER.iterdir())  # a machine's matrix with the runs that it was merged from, each
MIB, GIB = 2**20, 2**30

# Checks whose judges look at more than the record keeps, and at what.
NOT_REPLAYED = {
    "startup.identity": "the owner of the port and the server's own words are not recorded",
    "kernels.static": "judged from the libraries themselves, of which only the tally is recorded",
    "api.contract": "of fifty exchanges only the count and the shares are recorded",
    "api.errors": "the replies are recorded as causes and as one sentence",
    "api.robust": "the replies are recorded as causes and as one sentence; the requests come again from the seed",
    "faults.disconnect": "judged then by the time on a processor alone; how busy it is when idle was not taken",
    "faults.overload": "of the answers only the counts are recorded",
    "faults.shutdown": "how each stream ended is not recorded",
    "faults.kill": "how each stream ended is not recorded",
}

# Causes that had no name on the day of the record, by run: today's code finds them in the same logs.
NAMED_SINCE = {("two-devices-sglang", "killed-by-signal"): "devices-unequal"}


@dataclass(frozen=True)
class Record:
    """The evidence of one cell: what was found, and the samples and figures it was found from."""

    file: Path
    document: Mapping[str, Any]

    @classmethod
    def read(cls, file: Path) -> Record:
        """From logs/cells/ of a run."""
        return cls(file, json.loads(file.read_text(encoding="utf-8")))

    def altered(self, change: Callable[[Any], object]) -> Record:
        """A copy in which something was changed."""
        document = json.loads(json.dumps(self.document))
        change(document)
        return Record(self.file, document)

    @property
    def parts(self) -> list[str]:
        """profile, launcher, engine, lineup, then the model where there is one, the check, and the variant."""
        return str(self.document["cell"]).split("/")

    @property
    def check(self) -> str:
        """Its id."""
        return next(part for part in self.parts[4:] if part.partition(".")[0] in PROMISES)

    @property
    def causes(self) -> list[str]:
        """Those of that day, by today's names."""
        return [NAMED_SINCE.get((self.run.name, cause), cause) for cause in self.document["causes"]]

    @property
    def model(self) -> str:
        """Empty where the check is about the deployment."""
        return self.parts[4] if self.parts[4] != self.check else ""

    @property
    def variant(self) -> str:
        """A language, `eager`, or empty."""
        return self.parts[-1] if self.parts[-1] != self.check else ""

    @property
    def run(self) -> Path:
        """The run's folder."""
        return self.file.parents[2]

    @property
    def samples(self) -> Mapping[str, Any]:
        """What the figures were made from."""
        found: Mapping[str, Any] = self.document["samples"]
        return found

    @property
    def limits(self) -> Limits:
        """The limits that were in force."""
        return {name: float(figure["limit"]) for name, figure in self.document["figures"].items()
                if isinstance(figure["limit"], int | float)}

    def figure(self, name: str, default: Any = None) -> Any:
        """The value of a figure."""
        return self.document["figures"].get(name, {"value": default})["value"]


def records() -> list[Record]:
    """Every cell of every run."""
    return [Record.read(file) for file in sorted(FOLDER.glob("*/runs/*/logs/cells/*.json"))]


def judge_again(record: Record, limits: Limits | None = None) -> Judgement:
    """The judgement of the record by the judging code, under other limits than those of that day if some are given."""
    return JUDGES[record.check](record, record.limits if limits is None else limits)


def _boot(model: str = "", seconds: float = 0.0, limit_s: float = 300.0, **more: Any) -> Boot:
    return Boot(model, "sequential", seconds, limit_s, **more)


def _plan(record: Record, _: Limits) -> Judgement:
    held, planned = (round(record.figure(name) * GIB) for name in ("held_gib", "planned_gib"))
    cards = next(len(model.devices) for model in lineups.load(record.parts[3]).models if model.name == record.model)
    return memory.judge_plan(_boot(record.model, held_bytes=cards * held, planned_bytes=planned, by_device=(held,) * cards))


def _capacity(record: Record, limits: Limits) -> Judgement:
    return memory.judge_capacity(_boot(record.model, capacity=record.figure("kv_tokens")),
                                 limits.get("kv_tokens_min", limits.get("kv_tokens", 0.0)))


def _ceiling(record: Record, limits: Limits) -> Judgement:
    peak = round(record.figure("peak_gib") * GIB)
    return memory.judge_ceiling((peak, peak), limits.get("memory_gib", limits.get("peak_gib", 0.0)))


def _growth(record: Record, _: Limits) -> Judgement:
    rounds = tuple(round(size * MIB) for size in record.samples["pss_mib"])
    return memory.judge_growth(GrowthObserved(rounds, REQUESTS))


def _returned(record: Record, _: Limits) -> Judgement:
    """The device; what processes left is in the reason alone, and there was none."""
    return memory.judge_returned([Stop(record.model, "term", 1.0, 10.0)], round(record.figure("device_left_mib") * MIB))


def _ready(record: Record, limits: Limits) -> Judgement:
    ended = None if record.document["verdict"] == "pass" else _failure(record, record.model, "")
    return judge_ready(_boot(record.model, record.figure("ready_s"), limits["ready_s"], failure=ended))


def _boots(record: Record, ending: str = "") -> list[Boot]:
    """The starts of one try: one without a capacity did not become ready, for the cause that its log shows."""
    ready = [name for name in record.document["figures"] if name.endswith(f" ready_s{ending}")]
    return [_boot_of(record, name.removesuffix(f" ready_s{ending}"), ending) for name in ready]


def _boot_of(record: Record, model: str, ending: str) -> Boot:
    seconds = record.document["figures"][f"{model} ready_s{ending}"]
    tokens = record.document["figures"].get(f"{model} kv_tokens{ending}")
    if tokens is None:
        return _boot(model, seconds["value"], seconds["limit"], failure=_failure(record, model, ending))
    return _boot(model, seconds["value"], seconds["limit"], capacity=tokens["value"], planned=tokens["limit"])


def _failure(record: Record, model: str, ending: str) -> Failure:
    """Told again from the model's log of that try; where there was one try among other starts, from the one that failed."""
    logs = sorted((record.run / "logs").glob(f"*-{model}.log"))
    if number := re.search(r"\d+", ending):
        logs = [logs[int(number[0]) - 1]]
    told = (failure.find_cause(record.parts[2], log.read_text(encoding="utf-8"), neighbours_started=True, gpu=True)
            for log in logs)
    return next(cause for cause in told if cause)


def _sequential(record: Record, _: Limits) -> Judgement:
    boots = _boots(record)
    return neighbours.judge_starts(boots, len(boots))


def _concurrent(record: Record, _: Limits) -> Judgement:
    endings = list(dict.fromkeys(re.findall(r" \(try \d+\)", " ".join(record.document["figures"])))) or [""]
    tries = [_boots(record, ending) for ending in endings]
    return neighbours.judge_races(tries, max(map(len, tries)))


def _bystanders(record: Record) -> tuple[Bystander, ...]:
    names = [name.removesuffix(" answers_after") for name in record.document["figures"] if name.endswith(" answers_after")]
    return tuple(Bystander(name, record.figure(f"{name} answers_before"), record.figure(f"{name} answers_after"), (), True)
                 for name in names)


def _arrival(record: Record, _: Limits) -> Judgement:
    [boot] = _boots(record)
    return neighbours.judge_arrival(Scene(boot.model, _bystanders(record), boot=boot))


def _departure(record: Record, _: Limits) -> Judgement:
    """What was still held stands in the reason alone."""
    held = re.search(r"(\S+) still held (\d+) MiB", record.document["reason"])
    victim, size = (held[1], int(held[2]) * MIB) if held else ("", 0)
    stop = Stop(victim, "kill", 0.1, 10.0, held_bytes=size)
    return neighbours.judge_departure(Scene(victim, _bystanders(record), stop=stop))


def _sleep(record: Record, _: Limits) -> Judgement:
    """The answers before and after are not recorded: one that was none is known by its cause."""
    woke = "did-not-wake" not in record.document["causes"]
    failed = None if woke else Failure("did-not-wake", "an answer without text", "", None, "")
    slept = Stop("it", "sleep", 1.0, 30.0, held_bytes=record.figure("asleep_mib") * MIB)
    return neighbours.judge_sleep(Nap(
        slept, _boot("it", record.figure("wake_s"), failure=failed), record.figure("awake_mib") * MIB,
        record.figure("woken_mib") * MIB, int(record.document["figures"]["asleep_mib"]["limit"]) * MIB))


def _isolation(record: Record, _: Limits) -> Judgement:
    stable = tuple(isolation.Stable(prompt, text) for prompt, text in record.samples["alone"].items())
    other = {again["prompt"]: tuple(again["now"]) for again in record.samples["asked_again"]}
    again = tuple(isolation.Again(one, other.get(one.prompt, (one.text,))) for one in stable)
    baseline = isolation.Baseline(record.model, record.figure("asked"), stable, (record.model,), ())
    return isolation.judge(baseline, [isolation.Observed(record.model, "neighbours idle", again, (record.model,))])


@dataclass(frozen=True)
class Timed(Answer):
    """An answer whose gaps are known and whose chunks are not."""

    rows: tuple[tuple[float, float, float], ...] = ()

    @property
    def gaps_s(self) -> tuple[float, ...]:
        """As dated."""
        return tuple(value for _, value, _ in self.rows)

    @property
    def gap_bounds_s(self) -> tuple[tuple[float, float], ...]:
        """The shortest and the longest that they can have been."""
        return tuple((low, high) for low, _, high in self.rows)


def _latency(record: Record, limits: Limits) -> Judgement:
    kinds = ("ttft", "itl", "tpot", "e2e") if record.check == "coexistence.busy" else LIMITS_OF[record.check]
    stated = {name: limit for name, limit in limits.items() if name.partition("_")[0] in kinds}
    return latency.judge(_load(record), stated, kinds)


def _load(record: Record) -> LoadResult:
    """The load, as far as its samples tell: of which answer a gap was is not recorded, so they are dealt out evenly."""
    samples, count = record.samples, record.figure("requests")
    itl = samples.get("itl", [])
    gaps = [(low / 1e3, value / 1e3, high / 1e3)
            for low, value, high in zip(samples.get("itl_lows", itl), itl, samples.get("itl_highs", itl), strict=True)]
    ttft, e2e = ([value / 1e3 for value in samples.get(kind, [])] or [0.0] * count for kind in ("ttft", "e2e"))
    share = -(-len(gaps) // count)
    # A rate is recorded as such: so many tokens in a thousand seconds.
    tokens, total = (round(1e3 * record.figure(name, 0)) for name in ("throughput_min_tok_s", "throughput_total_tok_s"))
    usages = [Usage(0, tokens, total), *[Usage(0, 0, 0)] * (count - 1)]
    answers = tuple(Timed(200, "…", usage=usages[at], ttft_s=ttft[at], e2e_s=e2e[at],
                          rows=tuple(gaps[at * share:(at + 1) * share])) for at in range(count))
    return LoadResult(answers, 1e3, 4, 24, arrivals=samples["arrivals"], client=ClientError(**samples["client"]),
                      noise=Noise(**samples["noise"]) if samples["noise"] else None)


def _language(judge: Callable[[LanguageObserved], Judgement]) -> Callable[[Record, Limits], Judgement]:
    return lambda record, _: judge(LanguageObserved(record.variant, _asked(record.samples["answers"])))  # type: ignore[arg-type]


def _asked(samples: Sequence[Mapping[str, Any]]) -> tuple[Asked, ...]:
    return tuple(Asked(Prompt(kind=one["kind"], user=one["prompt"], system=one["system"]),
                       Answer(200, one["streamed"], streamed=True, done=True, finish_reason="length"),
                       Answer(200, one["whole"], done=True, finish_reason="length")) for one in samples)


JUDGES: Mapping[str, Callable[[Record, Limits], Judgement]] = {
    "startup.ready": _ready, "kernels.live": lambda record, _: live.judge_recorded(record.samples),
    "memory.plan": _plan, "memory.capacity": _capacity, "memory.ceiling": _ceiling, "memory.growth": _growth,
    "memory.returned": _returned, "coexistence.sequential": _sequential, "coexistence.concurrent": _concurrent,
    "coexistence.beside": _arrival, "coexistence.return": _arrival, "coexistence.leave": _departure,
    "coexistence.crash": _departure, "coexistence.sleep": _sleep, "coexistence.isolation": _isolation,
    "coexistence.busy": _latency, "latency.ttft": _latency, "latency.itl": _latency, "latency.e2e": _latency,
    "latency.throughput": _latency, "languages.script": _language(script.judge), "languages.utf8": _language(utf8.judge),
    "languages.content": _language(content.judge),
}
