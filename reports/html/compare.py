"""The page of two runs beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reports import facts, gate
from reports.differences import Change, Differences, Pair
from reports.html.page import page, when
from reports.matrix import Tally, tally
from reports.promise import PROMISES
from reports.record import Matrix

SHOWN = 300


@dataclass(frozen=True)
class Side:
    """A deployment of both runs with, for each promise, the worst verdict of the old and of the new one."""

    label: tuple[str, str]
    squares: tuple[tuple[Tally | None, Tally | None], ...]


def render(found: Differences) -> str:
    """The whole page."""
    promises = _promises(found.pairs)
    return page("compare.html.j2", {
        "title": f"{facts.of(found.old.run).id or 'old'} against {facts.of(found.new.run).id or 'new'}",
        "runs": [_run(name, matrix) for name, matrix in (("old", found.old), ("new", found.new))],
        "found": found, "promises": promises, "sides": _sides(found.pairs, promises), "shown": SHOWN,
        "apart": [change for change in found.figures if change.apart][:SHOWN],
        "judged": [change for change in found.figures if not change.apart and change.limit is not None][:SHOWN],
        "other": [change for change in found.figures if not change.apart and change.limit is None][:SHOWN],
        "ratio": ratio})


def ratio(change: Change) -> str:
    """`×1.34`, in words where there is none."""
    return f"×{change.ratio:.3g}" if change.ratio is not None else "from zero" if not change.old else "other sign"


def _run(name: str, matrix: Matrix) -> tuple[str, str, str, str]:
    known = facts.of(matrix.run)
    judged = gate.of(matrix)
    return name, known.id, when(known.started), judged.reason


def _promises(pairs: Sequence[Pair]) -> tuple[str, ...]:
    present = {pair.either.promise for pair in pairs}
    return (*(promise for promise in PROMISES if promise in present), *sorted(present.difference(PROMISES)))


def _sides(pairs: Sequence[Pair], promises: Sequence[str]) -> list[Side]:
    rows: dict[tuple[str, str], list[Pair]] = {}
    for pair in pairs:
        cell = pair.either
        rows.setdefault((cell.engine, " · ".join((cell.profile, cell.launcher, cell.lineup))), []).append(pair)
    return [Side(label, tuple(_tallies([pair for pair in found if pair.either.promise == promise]) for promise in promises))
            for label, found in rows.items()]


def _tallies(pairs: Sequence[Pair]) -> tuple[Tally | None, Tally | None]:
    return tally(pair.old for pair in pairs if pair.old), tally(pair.new for pair in pairs if pair.new)

