"""What runs and logs on an H200 recorded of memory, and the plan of the same servers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fixtures import lineup as lineups
from fixtures.engines.registry import engine
from fixtures.gpu.pool import Pool
from fixtures.lineup import Lineup
from fixtures.planner import card as cards
from fixtures.planner import costs
from fixtures.planner.plan import Plan, make
from fixtures.planner.seat import Seat
from fixtures.planner.span import GIB, tokens

ROOT = Path(__file__).resolve().parents[1]
RUNS = {run.name: run for run in sorted((ROOT / "docs" / "results" / "h200").glob("*/runs/*"))}
LOGS = ROOT / "tests" / "engine_logs"
# The servers of a log, in the order that they were started in, each with what the share's flag said.
_SHARES = re.compile(r"'gpu_memory_utilization': ([\d.]+)|mem_fraction_static=([\d.]+)")
_MODELS = {"tinyllama": "tinyllama", "qwen": "qwen2.5-3b", "yi": "yi-6b"}


@dataclass(frozen=True)
class Row:
    """One model of one run or log: GiB that NVML said when it was ready and at most, tokens of its cache, and its own log's
    pool; None for what is not recorded.
    """

    source: str
    model: str
    engine: str
    held_gib: float | None
    peak_gib: float | None
    tokens: float | None
    pool: Pool | None
    seat: Seat

    @property
    def name(self) -> str:
        """As costs.toml names it."""
        return f"{self.source}/{self.model}" if self.source in RUNS else self.source

    @property
    def calibrated(self) -> bool:
        """Whether the ranges were set from it."""
        return self.name in costs.committed().of(self.engine).calibrated_on


def rows() -> list[Row]:
    """All of them."""
    return [*(row for run in RUNS.values() for row in _of_run(run)), *_of_logs()]


def _of_run(run: Path) -> Iterator[Row]:
    told = json.loads((run / "run.json").read_text(encoding="utf-8"))
    cells = [json.loads(line) for line in (run / "cells.jsonl").read_text(encoding="utf-8").splitlines()]
    if not any(cell["check"] == "memory.plan" for cell in cells):
        return
    plan = _plan(cells[0]["lineup"], cells[0]["engine"], json.dumps(told["engine_arguments"]))
    for seat in plan.seats:
        said = {(cell["check"], figure): entry["value"] for cell in cells if cell["model"] == seat.ask.model
                for figure, entry in cell["figures"].items()}
        if ("memory.plan", "held_gib") not in said:  # it did not start
            continue
        yield Row(run.name, seat.ask.model, seat.ask.engine, said.get(("memory.plan", "held_gib")),
                  said.get(("memory.ceiling", "peak_gib")), said.get(("memory.capacity", "kv_tokens")),
                  _pool(run / "logs", seat), seat)


def _pool(logs: Path, seat: Seat) -> Pool | None:
    """By the log of the model's first server."""
    file = next((file for file in sorted(logs.glob("*.log")) if file.stem.endswith(f"-{seat.ask.model}")), None)
    return engine(seat.ask.engine).pool(file.read_text(encoding="utf-8")) if file else None


@cache
def _plan(lineup: str, name: str, arguments: str) -> Plan:
    found = lineups.load(lineup)
    given: dict[str, Sequence[str]] = json.loads(arguments)
    models = tuple(model.model_copy(update={"flags": {key: tuple(words) for key, words in given.items()}})
                   for model in found.models)
    return make(found.model_copy(update={"models": models}), name, "", cards.find("h200", found), reorder=False)


def _of_logs() -> Iterator[Row]:
    for name in ("vllm", "sglang"):
        files = {model: next(LOGS.glob(f"{name}-*-sequential-{model}.log")) for model in _MODELS}
        plan = make(sequential(name, files), name, "", cards.find("h200", sequential(name, files)), reorder=False)
        for (model, file), seat in zip(files.items(), plan.seats, strict=True):
            pool = engine(name).pool(file.read_text(encoding="utf-8"))
            yield Row(f"sequential-{model}", model, name, None, None, pool.tokens if pool else None, pool, seat)
    for seat in make(mixed(), "mixed", "", cards.find("h200", mixed()), reorder=False).seats[1:]:
        file = next(LOGS.glob(f"{seat.ask.engine}-*-mixed-{seat.ask.model}*.log"))
        pool = engine(seat.ask.engine).pool(file.read_text(encoding="utf-8"))
        held = pool.tokens if pool else None
        yield Row(f"mixed-{seat.ask.model}", seat.ask.model, seat.ask.engine, None, None, held, pool, seat)


def sequential(name: str, files: dict[str, Path]) -> Lineup:
    """The lineup that these logs are of: shares as the logs say, no graphs."""
    shares = {model: share_of(file) for model, file in files.items()}
    eager = {"vllm": ["--enforce-eager"], "sglang": ["--disable-cuda-graph"]}[name]
    models: list[dict[str, Any]] = []
    for model, share in shares.items():
        words = [*eager, *(["--mem-fraction-static", str(share)] if name == "sglang" else [])]
        models.append({"name": model, "source": f"random:{_MODELS[model]}", "context": 2048, "share": share,
                       "flags": {name: tuple(words)}})
    return Lineup.model_validate({"name": "sequential", "profiles": ("h200",), "engines": (name,), "models": tuple(models),
                                  "overcommit": True, "path": LOGS / "sequential.toml"})


def mixed() -> Lineup:
    """The lineup of the logs of three engines on one device: Ollama, vLLM with graphs, SGLang without."""
    files = {"qwen": next(LOGS.glob("vllm-*-mixed-qwen.log")), "yi": next(LOGS.glob("sglang-*-mixed-yi-*.log"))}
    words = ("--disable-cuda-graph", "--mem-fraction-static", str(share_of(files["yi"])))
    models = ({"name": "tinyllama", "engine": "ollama", "source": "random:tinyllama", "context": 2048},
              {"name": "qwen", "engine": "vllm", "source": "random:qwen2.5-3b", "context": 2048,
               "share": share_of(files["qwen"])},
              {"name": "yi", "engine": "sglang", "source": "random:yi-6b", "context": 2048, "flags": {"sglang": words}})
    return Lineup.model_validate({"name": "mixed", "profiles": ("h200",), "engines": ("mixed",), "models": models,
                                  "path": LOGS / "mixed.toml"})


def share_of(file: Path) -> float:
    """The share that a server's log says it was given."""
    found = _SHARES.search(file.read_text(encoding="utf-8"))
    assert found is not None, f"{file} names no share"
    return float(found.group(1) or found.group(2))


def table() -> str:
    """The rows as docs/planner.md has them: predicted by measured. `*`: the ranges were set from it."""
    lines = ["| server | GiB when ready: predicted, **measured** | under load | tokens: predicted, **measured** | off by |",
             "|---|---|---|---|---|"]
    for row in sorted(rows(), key=lambda row: (row.engine, row.source)):
        seat, figures = row.seat, []
        for span, measured in ((seat.held, row.held_gib), (seat.peak, row.peak_gib)):
            figures.append("" if measured is None else f"{span.low / GIB:.2f} to {span.high / GIB:.2f}, **{measured:.2f}**")
        held = f"{(seat.held.mid / GIB - row.held_gib):+.2f} GiB, " if row.held_gib else ""
        off = f"{held}{100 * (seat.tokens.mid / (row.tokens or 1) - 1):+.1f} % tokens"
        shown = f"{row.engine} {row.source} {row.model}{' *' if row.calibrated else ''}"
        lines.append(f"| {shown} | {figures[0]} | {figures[1]} | {tokens(seat.tokens)}, **{row.tokens:,.0f}** | {off} |")
    return "\n".join(lines)


def others() -> str:
    """What other rules say of the same vLLM servers, GiB: docs/planner.md has this too."""
    lines = ["| | measured | planner's middle | share x total | weights + share x what they leave |",
             "|---|---|---|---|---|"]
    for row in (row for row in rows() if row.source == "vllm-shapes" and row.held_gib):
        total, weights = row.seat.ask.card.usable.mid / GIB, row.seat.ask.anatomy.weights / GIB
        share = row.seat.ask.share
        said = (row.seat.held.mid / GIB, share * total, weights + share * (total - weights))
        shown = " | ".join(f"{value:.2f} ({value - (row.held_gib or 0):+.2f})" for value in said)
        lines.append(f"| {row.model} at {share:g} | {row.held_gib:.2f} | {shown} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(), others(), sep="\n\n")
