"""The table: the comparison as Markdown, with the bars judged."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import numpy

from bench.load.comparison import FLOOD, TEN, Level, Outcome
from bench.load.errors import Floats
from bench.load.peers import PEERS

BAR_MS, BAR_STREAMS = 0.05, 512
BAR_TEN_S = 1.0


def machine() -> str:
    """What this was measured on, in a line."""
    cpu = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
                if line.startswith("model name")), platform.machine())
    versions = ", ".join(f"{peer.name} {peer.version}" for peer in PEERS.values())
    return (f"{len(os.sched_getaffinity(0))} cores ({cpu}), Linux {platform.release()}, Python {platform.python_version()}, "
            f"load average before {os.getloadavg()[0]:.1f}; {versions}.")


def errors_table(outcomes: Sequence[Outcome], streams: Sequence[int]) -> str:
    """Errors in ms, client by client at each number of streams."""
    rows = ["| streams | client | TTFT error p50 / p99 | ITL error p50 / p99 | tokens/s per core: running / all told | "
            "server's jitter p99 | bar |", "|---|---|---|---|---|---|---|"]
    for count in streams:
        rows += [_row(outcome, count, ours=outcome is outcomes[0]) for outcome in outcomes]
    return "\n".join(rows)


def _row(outcome: Outcome, streams: int, ours: bool) -> str:
    level = next((level for level in outcome.levels if level.streams == streams), None)
    start = f"| {streams} | {outcome.client.name}"
    if level is None:
        return f"{start} | unavailable: {_why(outcome, f'{streams} streams')} | | | | |"
    each = " / ".join(f"{rate / 1000:.1f} k" if rate else "-" for rate in level.tokens_per_core)
    bar = ("pass" if _holds(level) else "fail") if ours and streams <= BAR_STREAMS else ""
    return (f"{start} | {_pair(level.errors.ttft_ms)} | {_itl(level)} | {each} | "
            f"{level.jitter_ms:.2f} | {bar} |")


def _itl(level: Level) -> str:
    found = level.errors
    notes = [f"{found.unmatched} not matched"] * bool(found.unmatched) + [f"{found.merged} uncounted"] * bool(found.merged)
    words = _pair(found.itl_ms) + ("" if found.gaps_told else " of means")
    return f"{words} ({', '.join(notes)})" if notes else words


def _holds(level: Level) -> bool:
    """Every answer is there, and neither 99th percentile is beyond the bar."""
    found = level.errors
    return not found.unmatched and not found.merged and all(
        len(values) > 0 and float(numpy.percentile(values, 99)) <= BAR_MS for values in (found.ttft_ms, found.itl_ms))


def _pair(values: Floats) -> str:
    if not len(values):
        return "-"
    return " / ".join(_ms(float(numpy.percentile(values, quantile))) for quantile in (50, 99))


def _ms(value: float) -> str:
    return f"{value:.3f}" if value < 1 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def flood_table(outcomes: Sequence[Outcome], batch: int) -> str:
    """Tokens a second of the flood: median and range of the runs, and the best peer against ours."""
    rows = [f"| client | flood of {FLOOD.streams} streams, events a send: {batch}; tokens/s read, median (least to most) | "
            "read and parsed | cores taken: client + server | bar |", "|---|---|---|---|---|"]
    parsed = [_median(outcome, batch, "parsed_per_s") for outcome in outcomes]
    best = max((rate for rate in parsed[1:] if rate is not None), default=None)
    for outcome, rate in zip(outcomes, parsed, strict=True):
        if rate is None:
            rows.append(f"| {outcome.client.name} | unavailable: {_why(outcome, f'flood {batch}')} | | | |")
            continue
        bar = "" if outcome is not outcomes[0] or best is None else "pass" if rate >= best else "fail"
        rows.append(f"| {outcome.client.name} | {_rates(outcome, batch, 'tokens_per_s')} | "
                    f"{_rates(outcome, batch, 'parsed_per_s')} | {_median(outcome, batch, 'client_share'):.2f} + "
                    f"{_median(outcome, batch, 'server_share'):.2f} | {bar} |")
    return "\n".join(rows)


def _median(outcome: Outcome, batch: int, figure: str) -> float | None:
    values = [getattr(flood, figure) for flood in outcome.floods.get(batch, [])]
    return median(values) if values else None


def _rates(outcome: Outcome, batch: int, figure: str) -> str:
    of = [getattr(flood, figure) / 1000 for flood in outcome.floods[batch]]
    return f"{median(of):.0f} k ({min(of):.0f} k to {max(of):.0f} k)"


def ten_table(outcomes: Sequence[Outcome]) -> str:
    """Wall seconds of a whole process that sends ten requests."""
    rows = [f"| client | {TEN.requests} requests of {TEN.tokens} tokens, seconds in all: median (least to most) | bar |",
            "|---|---|---|"]
    for outcome in outcomes:
        taken, bar = outcome.ten_s, ""
        if not taken:
            rows.append(f"| {outcome.client.name} | unavailable: {_why(outcome, 'ten requests')} | |")
            continue
        if outcome is outcomes[0]:
            bar = "pass" if median(taken) <= BAR_TEN_S else "fail"
        rows.append(f"| {outcome.client.name} | {median(taken):.2f} ({min(taken):.2f} to {max(taken):.2f}) | {bar} |")
    return "\n".join(rows)


def notes(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """What a reader of the tables must know."""
    for outcome in outcomes:
        if outcome.client.limits:
            yield f"- {outcome.client.name}: {outcome.client.limits}."
        yield from (f"- {outcome.client.name} at {level.streams} streams: {level.remarks}."
                    for level in outcome.levels if level.remarks)
        told = [level.errors for level in outcome.levels]
        if moments := sum(one.moments for one in told):
            yield (f"- {outcome.client.name} gave {sum(one.bounded for one in told)} of its {moments} moments as intervals; "
                   f"{sum(one.outside for one in told)} moments miss the send by more than 0.05 ms.")
    slips = sum(level.slips for outcome in outcomes for level in outcome.levels)
    if slips:
        yield f"- The server was held up for more than one ITL {slips} times; it dates what it does send all the same."


def _why(outcome: Outcome, part: str) -> str:
    words = outcome.refusals.get("set-up") or outcome.refusals.get(part) or "not measured"
    return words.replace("|", "/").replace("\n", " ")
