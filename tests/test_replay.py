"""What runs on a real card recorded, judged again here: by the same code, with the same verdict, unless it was altered."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from fixtures import lineup, waiver
from fixtures.engines import failure
from fixtures.gpu import device
from fixtures.gpu.meter import Meter
from fixtures.lineup import Limits
from fixtures.memory import judge as memory
from fixtures.verdict import Verdict
from reports import picture
from reports.matrix import View
from reports.merge import merge, relocate
from reports.record import Cell
from reports.store import read
from tests.nvml import MIB, FakeNvml
from tests.replaying import FOLDER, JUDGES, NOT_REPLAYED, RECORDED, Record, judge_again, records

ALL = records()
NOT_STARTED = [record for record in ALL if record.document["causes"] == ["not-started"]]
REPLAYED = [record for record in ALL if record.check in JUDGES and record not in NOT_STARTED]
RUNS = sorted(FOLDER.glob("*/runs/*"))
DEVICE = FOLDER / "2026-11-21" / "runs" / "ollama-concurrent" / "logs" / "h200-process-ollama-0.17.4-shapes-device.json"
FASTER = 20  # than it was
DAY = date(2026, 11, 21)


def name(record: Record) -> str:
    """For the test's id: the run and the cell."""
    return "/".join((record.run.name, *record.parts[4:]))


def the(run: str, cell: str) -> Record:
    """One record by its run and the end of its cell's name."""
    return next(record for record in ALL if name(record) == f"{run}/{cell}")


@pytest.mark.parametrize("record", REPLAYED, ids=name)
def test_what_was_recorded_is_judged_as_it_was(record: Record) -> None:
    """The judging code gives the verdict, the causes and the figures that the record holds."""
    again = judge_again(record)
    assert (again.verdict, list(again.causes)) == (record.document["verdict"], record.causes), again.reason
    for key, figure in again.figures.items():
        if not key.endswith(("_low_ms", "_high_ms")):  # drawn from whole answers, which the record does not keep apart
            same = pytest.approx(figure.value, abs=0.0015) if isinstance(figure.value, float) else figure.value
            assert record.document["figures"][key]["value"] == same, key


@pytest.mark.parametrize("record", NOT_STARTED, ids=name)
def test_what_did_not_start_is_told_where_it_did_not(record: Record) -> None:
    """A cell that is unavailable for it has a start of its run that failed: by itself, or with the others at once."""
    starts = [other for other in ALL if other.run == record.run and other.document["verdict"] == "fail"
              and other.check in ("startup.ready", "coexistence.concurrent")]
    assert record.document["verdict"] == "unavailable"
    assert any(start.model in (record.model, "") or not record.model for start in starts)


def test_every_check_is_replayed_or_said_why_not() -> None:
    """No check of the record is left out in silence."""
    assert {record.check for record in ALL} == {*JUDGES, *NOT_REPLAYED}
    assert not set(JUDGES) & set(NOT_REPLAYED)


def figure(key: str, value: Any) -> Callable[[Any], object]:
    """A change of one figure's value."""
    return lambda document: document["figures"][key].update(value=value)


def sample(key: str, change: Callable[[Any], Any]) -> Callable[[Any], object]:
    """A change of one kind of samples."""
    return lambda document: document["samples"].update({key: change(document["samples"][key])})


def slower(*keys: str, by: float) -> Callable[[Any], object]:
    """Every time of these kinds so many times as long, on a machine that nobody else used."""
    def change(document: Any) -> None:
        quiet(document)
        for key in keys:
            sample(key, lambda values: [by * value for value in values])(document)

    return change


def quiet(document: Any) -> None:
    """Nobody else's processes: on that machine three other engines ran on other cards."""
    document["samples"]["noise"].update(steal_share=0.0, foreign_share=0.0)


def fewer(document: Any) -> None:
    """Less than the least throughput, on a machine that nobody else used."""
    quiet(document)
    figure("throughput_min_tok_s", 80.0)(document)


def said(text: str) -> Callable[[Any], object]:
    """Every answer is this one."""
    return lambda document: [answer.update(streamed=text, whole=text) for answer in document["samples"]["answers"]]


def gone_bad(document: Any) -> None:
    """Three probes answered otherwise beside neighbours."""
    probes = list(document["samples"]["alone"])[:3]
    document["samples"]["asked_again"] = [{"prompt": probe, "now": ["?", "!", "."]} for probe in probes]


ITL = ("itl", "itl_lows", "itl_highs")
ALTERED = [
    ("vllm-shapes", "tinyllama/startup.ready", figure("ready_s", 300.5), "too-slow"),
    ("vllm-shapes", "tinyllama/memory.plan", figure("held_gib", 12.9), "below-plan"),
    ("sglang-shapes", "yi-6b/memory.plan", figure("held_gib", 61.6), "above-plan"),
    ("vllm-shapes", "tinyllama/memory.capacity", figure("kv_tokens", 8191), "capacity-too-small"),
    ("vllm-shapes", "yi-6b/memory.ceiling", figure("peak_gib", 62.1), "above-ceiling"),
    ("sglang-shapes", "memory.returned", figure("device_left_mib", 129), "memory-left"),
    ("ollama-shapes", "yi-6b/memory.growth",
     sample("pss_mib", lambda rounds: [size + 0.7 * at for at, size in enumerate(rounds)]), "memory-grows"),
    ("vllm-shapes", "coexistence.sequential", figure("yi-6b kv_tokens", 736_000), "capacity-below-plan"),
    ("ollama-concurrent", "coexistence.concurrent", figure("qwen2.5-3b kv_tokens (try 2)", 8000), "capacity-below-plan"),
    ("mixed", "coexistence.beside", figure("yi-6b kv_tokens", 700_000), "capacity-below-plan"),
    ("mixed", "coexistence.return", figure("qwen2.5-3b answers_after", 0), "neighbour-silent"),
    ("sglang-shapes", "coexistence.crash", figure("tinyllama answers_after", 0), "neighbour-silent"),
    ("vllm-shapes", "coexistence.leave", figure("qwen2.5-3b answers_before", 0), "neighbour-silent"),
    ("sglang-sleep", "coexistence.sleep", figure("asleep_mib", 3200), "memory-left"),
    ("vllm-trilingual", "trilingual-4m/coexistence.isolation", gone_bad, "answers-changed"),
    ("mixed", "tinyllama/coexistence.busy", slower(*ITL, by=1.4), "slow-tokens"),
    ("vllm-shapes", "qwen2.5-3b/latency.ttft", slower("ttft", by=33), "slow-first-token"),
    ("vllm-shapes", "yi-6b/latency.itl", slower(*ITL, by=24), "slow-tokens"),
    ("sglang-shapes", "tinyllama/latency.e2e", slower("e2e", by=57), "slow-answers"),
    ("ollama-shapes", "qwen2.5-3b/latency.throughput", fewer, "low-throughput"),
    ("vllm-trilingual", "trilingual-2m/languages.script/ko", said("The capital is Seoul, of course."), "wrong-language"),
    ("sglang-trilingual", "trilingual-4m/languages.utf8/zh", said("北京是\ufffd中国的首都"), "replacement-character"),
    ("ollama-trilingual", "trilingual-8m/languages.content/en", said("autumn autumn " * 12), "repeated-token"),
]


@pytest.mark.parametrize(("run", "cell", "change", "cause"), ALTERED, ids=[f"{one[0]}/{one[1]}" for one in ALTERED])
def test_an_altered_recording_fails(run: str, cell: str, change: Callable[[Any], object], cause: str) -> None:
    """The verdict comes from what was recorded: change that, and it is another, for each kind of check."""
    record = the(run, cell)
    assert judge_again(record).verdict is Verdict.PASS
    altered = judge_again(record.altered(change))
    assert cause in altered.causes, altered.reason
    assert altered.verdict is Verdict.FAIL


def test_a_broken_limit_on_a_busy_machine_is_in_doubt() -> None:
    """Where other processes had a seventh of the processors, an altered recording neither passes nor fails."""
    busy = the("mixed", "tinyllama/coexistence.busy")
    slow = busy.altered(slower(*ITL, by=1.4))
    altered = judge_again(slow.altered(lambda document: document["samples"]["noise"].update(busy.samples["noise"])))
    assert (altered.verdict, altered.causes) == (Verdict.INCONCLUSIVE, ("busy-machine",))


def test_no_kind_of_check_is_left_unaltered() -> None:
    """Each check that is replayed has a recording that an alteration turns."""
    assert {the(run, cell).check for run, cell, _, _ in ALTERED} | {"kernels.live"} == set(JUDGES)


@pytest.mark.parametrize(("change", "cause"), [
    (lambda samples: samples["residency"].update(utilisation_max=0), "not-on-the-device"),
    (lambda samples: samples["residency"].update(held=0), "not-on-the-device"),
    (lambda samples: samples["residency"]["engine"].update(size_vram=1), "partly-on-the-cpu"),
    (lambda samples: samples["cases"][0]["answers"][0].update(text=""), "no-tokens-prefill-short"),
], ids=["idle", "nothing-held", "partly-offloaded", "an-answer-without-text"])
def test_an_answer_from_elsewhere_fails(change: Callable[[Any], object], cause: str) -> None:
    """Where the answers were made is judged from what the device and the engine showed."""
    answered = the("ollama-shapes", "qwen2.5-3b/kernels.live")
    altered = judge_again(answered.altered(lambda document: change(document["samples"])))
    assert altered.verdict is Verdict.FAIL
    assert cause in altered.causes


def test_a_race_that_ends_well_passes() -> None:
    """The failed starts of the three tries fail by what stands in their logs and records, and by nothing else."""
    def heal(document: Any) -> None:
        for model in ("tinyllama", "qwen2.5-3b", "yi-6b"):
            for at in (1, 2, 3):
                document["figures"][f"{model} kv_tokens (try {at})"] = {"value": 800_000, "unit": "tokens", "limit": 800_000}

    raced = the("vllm-concurrent", "coexistence.concurrent")
    assert judge_again(raced).causes == ("neighbour-took-memory", "capacity-below-plan")
    assert judge_again(raced.altered(heal)).verdict is Verdict.PASS


@pytest.mark.parametrize("run", ["vllm-shapes", "sglang-shapes", "vllm-trilingual", "sglang-trilingual"])
def test_the_logs_tell_the_capacity_that_was_judged(run: str) -> None:
    """Each model's log of its first start, cut as it is, gives the KV cache that the record holds."""
    told = [record for record in ALL if record.run.name == run and record.check == "memory.capacity"]
    assert len(told) == 3
    for record in told:
        log = min((record.run / "logs").glob(f"*-{record.model}.log"))
        found = failure.facts(record.parts[2], log.read_text(encoding="utf-8"))
        assert int(found["kv-cache-tokens"]) == record.figure("kv_tokens"), log


def limits_now(record: Record) -> Limits:
    """The limits that the lineup states today for this model on this card."""
    known = lineup.load(record.parts[3])
    model = next(model for model in known.models if model.name == record.model)
    return known.limits_for(model, "h200", {})


LIMITED = [record for record in REPLAYED if record.check.startswith("latency.")
           or record.check in ("coexistence.busy", "memory.ceiling", "memory.capacity")]


@pytest.mark.parametrize("record", LIMITED, ids=name)
def test_the_limits_of_today_let_pass_what_passed(record: Record) -> None:
    """A healthy figure that was recorded breaks no limit that is stated now."""
    again = judge_again(record, limits_now(record))
    assert again.verdict == record.document["verdict"], again.reason


@pytest.mark.parametrize("of", ["shapes", "mixed"])
def test_no_limit_is_more_than_three_times_the_slowest(of: str) -> None:
    """A limit is at most three times the healthy p95 (a floor at least a third), and so near that a fault breaks it."""
    mine = [record for record in LIMITED if record.parts[3] == of]
    found: dict[tuple[str, str], list[float]] = {}
    for record in mine:
        for key in limits_now(record):
            if isinstance(value := record.figure(key, record.figure("peak_gib") if key == "memory_gib" else None), float):
                found.setdefault((record.model, key), []).append(value)
    for (model, key), values in found.items():
        limit = limits_now(next(record for record in mine if record.model == model))[key]
        share = min(values) / limit if "_min" in key else limit / max(values)
        assert 1 <= share <= (1.1 if key == "memory_gib" else 3), (model, key, limit, values)
    assert len(found) == {"shapes": 15, "mixed": 9}[of]


def cells_as_judged() -> Iterator[Cell]:
    """Every cell with the verdict that it had before any waiver."""
    for run in RUNS:
        evidence = {cell.evidence[0]: cell for cell in read(run).cells}
        for record in (record for record in ALL if record.run == run):
            cell = evidence[str(record.file.relative_to(run))]
            yield cell.model_copy(update={key: record.document[key] for key in ("verdict", "reason")}
                                  | {"causes": tuple(record.document["causes"])})


def test_the_waivers_fit_what_was_seen() -> None:
    """Each names the failures and no pass, and what stays is what nobody should be spared."""
    waived = [waiver.apply(cell, waiver.load(), DAY) for cell in
              (cell.model_copy(update={"verdict": Verdict(cell.verdict)}) for cell in cells_as_judged())]
    assert not [cell.name for cell in waived if cell.verdict is Verdict.UNEXPECTED_PASS]
    left = {(cell.engine, cell.lineup, cell.check) for cell in waived if cell.verdict is Verdict.FAIL}
    lineups = ("shapes", "trilingual")
    assert left == {*((engine, of, "coexistence.concurrent") for engine in ("vllm", "sglang") for of in lineups),
                    *(("sglang", of, check) for of in lineups for check in ("coexistence.sleep", "faults.disconnect")),
                    *(("sglang", "two-devices", check) for check in
                      ("startup.ready", "coexistence.sequential", "coexistence.beside"))}


of_each_machine = pytest.mark.parametrize("folder", RECORDED, ids=lambda folder: folder.name)


@of_each_machine
def test_the_matrix_is_that_of_the_runs(folder: Path) -> None:
    """matrix.json holds what a merge of the runs gives, and every path of evidence is there."""
    again = merge([relocate(read(run), run, folder) for run in sorted((folder / "runs").iterdir())])
    committed = read(folder)
    assert sorted(committed.cells, key=lambda cell: cell.name) == sorted(again.cells, key=lambda cell: cell.name)
    assert [run["id"] for run in committed.run["merged"]] == [run["id"] for run in again.run["merged"]]
    assert all((folder / path).is_file() for cell in committed.cells for path in cell.evidence)


@of_each_machine
def test_the_picture_is_that_of_the_matrix(folder: Path) -> None:
    """matrix.svg shows each row's tallies, and draws the same again."""
    matrix, drawn = read(folder), (folder / "matrix.svg").read_text(encoding="utf-8")
    words = re.sub(r"<[^>]*>|&#160;", " ", drawn)
    for row in View(matrix.cells).rows:
        assert row.deployment.engine in words
        assert all(f"{tally.verdict} {tally.share}" in words for tally in row.promises.values())
    assert picture.draw(matrix) == picture.draw(matrix)
    assert "http" not in re.sub(r"http://www\.w3\.org/\S*|https://www\.textualize\.io", "", drawn)


def test_nothing_tells_of_that_machines_folders() -> None:
    """Paths are shortened, everywhere in the folders."""
    files, theirs = [file for file in FOLDER.rglob("*") if file.is_file()], r"(?<![\w.])/(?:tmp|work|opt|root|home)/"
    assert not [file for file in files if re.search(theirs, file.read_text(encoding="utf-8"))]
    assert sum(file.stat().st_size for file in files) < 5e6


@contextmanager
def stand_ins(names: list[str]) -> Iterator[dict[str, int]]:
    """A living process for each model, to hold what that model held."""
    with ExitStack() as stack:
        started = {name: stack.enter_context(subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE)) for name in names}
        yield {name: process.pid for name, process in started.items()}
        for process in started.values():
            process.kill()


def played(fake: FakeNvml, series: dict[str, list[list[float]]]) -> dict[str, int | None]:
    """The meter's peaks while the recording is played on a fake device, in bytes."""
    changes = sorted((at, name, size) for name, samples in series.items() for at, size in samples)
    with fake, stand_ins(list(series)) as pids, Meter(device.find().devices, hz=50) as meter:
        for name, pid in pids.items():
            meter.watch(name, lambda pid=pid: [pid])  # type: ignore[misc]
        began, first = time.monotonic(), changes[0][0]
        for at, name, size in changes:
            time.sleep(max(0.0, began + (at - first) / FASTER - time.monotonic()))
            fake.process(pids[name], 0, int(size * MIB))
        return {name: meter.peak(name) for name in series}


def test_a_recorded_device_is_metered_as_it_was(tmp_path: Path) -> None:
    """Three models, started together in three tries: the meter finds each one's peak again, and the ceiling holds it."""
    series = json.loads(DEVICE.read_text(encoding="utf-8"))["mib_by_model"]
    fake = FakeNvml(tmp_path)
    fake.gpu(0)
    peaks = played(fake, series)
    for model, samples in series.items():
        highest = max(size for _, size in samples)
        found = peaks[model]
        assert found == int(highest * MIB)
        assert memory.judge_ceiling((found, found), highest / 1024 + 0.01).verdict is Verdict.PASS
        assert memory.judge_ceiling((found, found), highest / 1024 / 1.2).causes == ("above-ceiling",)
