"""Planted stalls: one stream of 256 stops for 5, 20 and 100 ms; which of them our client finds, and how it dates them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy

from bench.load import measure
from bench.load.clients import Load, Ours
from bench.load.server import Schedule
from bench.load.truth import Truth

STREAMS, TOKENS, STREAM = 256, 128, 100
PLANTED = ((STREAM, 30, 5.0), (STREAM, 60, 20.0), (STREAM, 90, 100.0))
NOTABLE_S = 0.0025  # beyond the median gap: half of the smallest stall that is planted
BAR_MS = 0.1

Gap = tuple[float, float]  # moment on CLOCK_MONOTONIC at which it began, seconds


@dataclass(frozen=True)
class Found:
    """One planted stall; errors in ms are None where the client did not notice it."""

    planted_ms: float
    start_error_ms: float | None
    length_error_ms: float | None

    @property
    def held(self) -> bool:
        """Found, and dated within the bar."""
        return (self.start_error_ms is not None and self.length_error_ms is not None
                and max(abs(self.start_error_ms), abs(self.length_error_ms)) <= BAR_MS)


@dataclass(frozen=True)
class Stalls:
    """`seen` gaps stood out for the client, `real` ones in the server's log: a busy machine adds some of its own."""

    found: tuple[Found, ...]
    seen: int
    real: int
    remarks: str


def run() -> Stalls:
    """Plant, load, look. Raises Unavailable."""
    one = measure.run(Ours(), Load(STREAMS, STREAMS, TOKENS), Schedule(stalls=PLANTED))
    gaps = {seen.number: list(zip(seen.arrived_s, seen.gaps_s or (), strict=False)) for seen in one.told.seen
            if seen.number is not None}
    limit_s = NOTABLE_S + float(numpy.median([gap for of in gaps.values() for _, gap in of]))
    notable = {(number, index) for number, of in gaps.items() for index, (_, gap) in enumerate(of) if gap > limit_s}
    real = sum(gap > limit_s for sent in one.truth.requests for gap in sent.gaps_s)
    found = tuple(_found(planted_ms, (number, index), notable, gaps[number][index], gap)
                  for number, index, planted_ms, gap in _planted(one.truth))
    return Stalls(found, len(notable), real, one.told.remarks)


def _planted(truth: Truth) -> Iterator[tuple[int, int, float, Gap]]:
    """Request, index of the gap, what was asked for in ms, and what it became: start and length."""
    for stall in truth.planted:
        sent = truth.requests[stall.number]
        index = stall.token - 1
        yield stall.number, index, 1000 * stall.seconds, (sent.sent_s[index], sent.gaps_s[index])


def _found(planted_ms: float, key: tuple[int, int], notable: set[tuple[int, int]], seen: Gap, true: Gap) -> Found:
    if key not in notable:
        return Found(planted_ms, None, None)
    return Found(planted_ms, 1000 * (seen[0] - true[0]), 1000 * (seen[1] - true[1]))


def table(stalls: Stalls) -> str:
    """Markdown."""
    rows = ["| stall planted | found | start off by | length off by | at most 0.1 ms |", "|---|---|---|---|---|"]
    for found in stalls.found:
        off = [f"{error:+.4f} ms" if error is not None else "-" for error in (found.start_error_ms, found.length_error_ms)]
        rows.append(f"| {found.planted_ms:.0f} ms | {'yes' if found.start_error_ms is not None else 'no'} | {off[0]} | "
                    f"{off[1]} | {'pass' if found.held else 'fail'} |")
    rows.append(f"\nGaps that stood out: {stalls.seen} for the client, {stalls.real} in the server's log, "
                f"{len(stalls.found)} planted. {stalls.remarks}.")
    return "\n".join(rows)
