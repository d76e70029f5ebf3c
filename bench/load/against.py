"""Ours beside `vllm bench serve` on a real server: same prompts, lengths and concurrency, in turn."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy

from bench.load import measure
from bench.load.clients import Client, Load, Ours, Seen, Vllm
from bench.load.peers import Unavailable
from fixtures.load.traffic import PROMPTS
from fixtures.setup.environment import Say

# Both get it: without a fixed length the two would not measure the same answers.
BODY = {"temperature": 0, "ignore_eos": True}
QUANTILES = (50, 95)


@dataclass(frozen=True)
class Task:
    """What both are to do, `rounds` times each."""

    url: str
    model: str
    streams: int = 8
    requests: int = 64
    tokens: int = 64
    rounds: int = 4
    tokenizer: Path | None = None


def run(task: Task, say: Say) -> str:
    """The Markdown table of both tools' figures. Raises Unavailable."""
    tools: list[Client] = [Ours(), Vllm(task.tokenizer) if task.tokenizer else Vllm()]
    load = Load(task.streams, task.requests, task.tokens, PROMPTS, task.model, BODY)
    answers: dict[str, list[Seen]] = {tool.name: [] for tool in tools}
    for tool in tools:
        tool.ready(say)
    _ask(tools[0], task.url, load)  # engines compile and fill caches with what they answer first
    for number in range(task.rounds):
        for tool in tools if number % 2 == 0 else tools[::-1]:
            say(f"round {number + 1} of {task.rounds}: {tool.name}")
            answers[tool.name] += _ask(tool, task.url, load)
    return table(list(answers.items()))


def _ask(tool: Client, url: str, load: Load) -> Sequence[Seen]:
    with tempfile.TemporaryDirectory(prefix="cotenant-bench-") as folder:
        told, _ = measure.ask(tool, url, load, Path(folder))
    if told.failed or not told.seen:
        raise Unavailable(f"{tool.name}: {told.failed} of {load.requests} requests failed")
    return told.seen


def table(tools: Sequence[tuple[str, Sequence[Seen]]]) -> str:
    """Each figure of the tools beside each other, in ms, and the second less the first."""
    names = [name for name, _ in tools]
    rows = [f"| ms | {' | '.join(names)} | difference |", f"|---|{'---|' * len(names)}---|"]
    columns = [_figures(seen) for _, seen in tools]
    for figure in columns[0]:
        values = [column[figure] for column in columns]
        rows.append(f"| {figure} | {' | '.join(f'{value:.3f}' for value in values)} | {values[-1] - values[0]:+.3f} |")
    rows.append(f"| answers | {' | '.join(str(len(seen)) for _, seen in tools)} | |")
    return "\n".join(rows)


def _figures(seen: Sequence[Seen]) -> dict[str, float]:
    """ITL is by chunk, as both tools tell it; TPOT is by token, of the server's count."""
    ttft = [one.ttft_s for one in seen]
    gaps = [gap for one in seen for gap in one.gaps_s or ()]
    by_token = [sum(one.gaps_s) / (one.tokens - 1) for one in seen if one.gaps_s and one.tokens and one.tokens > 1]
    return {f"{name} p{quantile}": 1000 * float(numpy.percentile(values, quantile)) if values else float("nan")
            for name, values in (("TTFT", ttft), ("ITL", gaps), ("TPOT", by_token)) for quantile in QUANTILES}
