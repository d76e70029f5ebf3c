"""The errors of a client: what it told of each answer less what the server wrote down of the same one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from bench.load.clients import Seen
from bench.load.measure import Run
from bench.load.truth import Sent

SLACK_S = 0.00005
Floats = NDArray[numpy.float64]


@dataclass(frozen=True)
class Errors:
    """Absolute errors in ms. Without `gaps_told` the ITL errors are those of each request's mean gap.

    `unmatched` answers could not be found in the log; of `merged` ones the client told fewer or more gaps than there
    were. Of the `moments` that the client told, `bounded` are intervals, and `outside` are where no token can have come.
    """

    ttft_ms: Floats
    itl_ms: Floats
    gaps_told: bool = True
    unmatched: int = 0
    merged: int = 0
    moments: int = 0
    bounded: int = 0
    outside: int = 0


def errors(run: Run) -> Errors:
    """Match by the number that the mock server put into each text, which every client here keeps."""
    sent = {one.number: one for one in run.truth.requests}
    found = [(seen, sent[seen.number]) for seen in run.told.seen if seen.number in sent]
    ttft = numpy.array([abs(seen.ttft_s - true.ttft_s) for seen, true in found])
    itl, merged = [], 0
    for seen, true in found:
        off = _gap_errors(seen, true.gaps_s)
        merged += off is None
        itl.append(off if off is not None else numpy.array([]))
    told = any(seen.gaps_s is not None for seen, _ in found)
    exact = [early == late for seen, _ in found for early, late in zip(seen.earliest_s, seen.arrived_s, strict=True)]
    return Errors(1000 * ttft, 1000 * numpy.concatenate([numpy.array([]), *itl]), told, len(run.told.seen) - len(found),
                  merged, len(exact), exact.count(False), sum(_outside(seen, true) for seen, true in found))


def _outside(seen: Seen, true: Sent) -> int:
    """Arrivals dated wholly before or wholly after their send(), within which loopback delivers, give or take the slack."""
    dated = zip(seen.earliest_s, seen.arrived_s, true.sent_s, true.after_s, strict=False)
    return sum(late < before - SLACK_S or early > after + SLACK_S for early, late, before, after in dated)


def _gap_errors(seen: Seen, true: tuple[float, ...]) -> Floats | None:
    """Gap by gap, or of the mean where only that is told; None where the counts differ, so that no gap has a partner."""
    if seen.gaps_s is None:
        mean = seen.mean_gap_s
        return None if mean is None or not true else numpy.array([abs(mean - sum(true) / len(true))])
    if len(seen.gaps_s) != len(true):
        return None
    off: Floats = numpy.abs(numpy.array(seen.gaps_s) - numpy.array(true))
    return off
