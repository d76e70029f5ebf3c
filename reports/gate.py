"""The gate: whether what was judged lets a release pass, and the one sentence that says why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from reports import facts
from reports.promise import place
from reports.record import Cell, Matrix, Verdict
from reports.text import count, some, visible

Require = Mapping[str, Sequence[str]]

SHUTS = (Verdict.FAIL, Verdict.ERROR, Verdict.UNEXPECTED_PASS)
OPEN_QUESTIONS = (Verdict.INCONCLUSIVE, Verdict.UNAVAILABLE)
# An inconclusive or broken measurement reached no judgement: counting it would let a worse cell open the gate.
JUDGED = (Verdict.FAIL, Verdict.UNEXPECTED_PASS, Verdict.WAIVED, Verdict.PASS)
NAMES_SHOWN = 3


@dataclass(frozen=True)
class Gate:
    """Open or shut, and why in one sentence. `deciding` are the cells that shut it, worst first;
    `missing` are sentences about required promises for which there is no cell."""

    open: bool
    reason: str
    counts: Mapping[Verdict, int] = field(default_factory=dict)
    deciding: tuple[Cell, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 for an open gate, 1 for a shut one."""
        return 0 if self.open else 1


class _Deployment(NamedTuple):
    machine: str
    device: str
    profile: str
    launcher: str
    engine: str
    version: str
    lineup: str

    @property
    def words(self) -> str:
        return "/".join((self.profile, self.launcher, f"{self.engine} {self.version}".strip(), self.lineup))


def of(matrix: Matrix, require: Sequence[str] = ()) -> Gate:
    """The gate of a run as it was recorded: its facts say what each lineup requires and whether it came to its end.

    `require` adds promises or check ids to every lineup. Raises FactsError where the facts have the wrong shape.
    """
    recorded = facts.of(matrix.run)
    lineups = {*(cell.lineup for cell in matrix.cells), *recorded.require}
    names = {lineup: (*recorded.require.get(lineup, ()), *require) for lineup in sorted(lineups)}
    return judge(matrix.cells, names, unfinished=recorded.unfinished)


def judge(cells: Iterable[Cell], require: Require | Sequence[str] = (), *, unfinished: str = "") -> Gate:
    """Judge the cells; `require` names promises or check ids, by lineup or (as a sequence) for every lineup.

    A lineup that is named must have cells, and each deployment of it a cell for each name. `unfinished`, a clause
    such as "the run was interrupted", shuts the gate by itself: what was still to come may have failed.
    """
    cells = list(cells)
    require = require if isinstance(require, Mapping) else {cell.lineup: require for cell in cells}
    counts = Counter(cell.verdict for cell in cells)
    shutting = (cell for cell in cells if _shuts(cell, require))
    deciding = sorted(shutting, key=lambda cell: (cell.verdict.rank, place(cell.check), cell.name, repr(cell)))
    missing = tuple(_missing(cells, require))
    judged = any(counts[verdict] for verdict in JUDGED)
    if unfinished or not judged or deciding or missing:
        nothing = "" if judged else _nothing(counts)
        clauses = [clause for clause in (unfinished, nothing, *_clauses(deciding), *missing[:NAMES_SHOWN]) if clause]
        more = len(missing) - NAMES_SHOWN
        clauses += [f"{count(more, 'other required promise')} without a cell"] if more > 0 else []
        return Gate(False, f"Gate shut: {'; '.join(clauses)}.", counts, tuple(deciding), missing)
    return Gate(True, f"Gate open: {_summary(counts)}.", counts)


def requires(names: Sequence[str], cell: Cell) -> bool:
    """Whether the names (promises or check ids) include this cell's check."""
    return cell.promise in names or cell.check in names


def _shuts(cell: Cell, require: Require) -> bool:
    names = require.get(cell.lineup, ())
    return cell.verdict in SHUTS or (cell.verdict in OPEN_QUESTIONS and requires(names, cell))


def _missing(cells: Sequence[Cell], require: Require) -> Iterator[str]:
    """One clause for each required name for which a deployment, or a whole lineup, has no cell."""
    present: dict[_Deployment, set[str]] = {}
    for cell in cells:
        present.setdefault(_deployment(cell), set()).update((cell.promise, cell.check))
    started = {deployment.lineup for deployment in present}
    for lineup, names in sorted(require.items()):
        if names and lineup not in started:
            yield f"lineup {visible(lineup, 60)} has no cell"
    for deployment, found in sorted(present.items()):
        for name in dict.fromkeys(require.get(deployment.lineup, ())):
            if name not in found:
                yield f"required {visible(name, 60)} has no cell for {visible(deployment.words, 120)}"


def _deployment(cell: Cell) -> _Deployment:
    place = (cell.machine, cell.device, cell.profile, cell.launcher)
    return _Deployment(*place, cell.engine, cell.version, cell.lineup)


_PHRASES = {
    Verdict.FAIL: ("cell failed", "cells failed"),
    Verdict.ERROR: ("cell is an error of the suite or the machine", "cells are errors of the suite or the machine"),
    Verdict.UNEXPECTED_PASS: ("waived cell passed", "waived cells passed"),
    Verdict.INCONCLUSIVE: ("required cell is inconclusive", "required cells are inconclusive"),
    Verdict.UNAVAILABLE: ("required cell is unavailable", "required cells are unavailable"),
}


def _clauses(deciding: Sequence[Cell]) -> Iterator[str]:
    for verdict, (one, many) in _PHRASES.items():
        cells = [cell for cell in deciding if cell.verdict is verdict]
        names = list(dict.fromkeys(f"{visible(cell.engine, 40)} {visible(cell.check, 60)}" for cell in cells))
        if cells:
            yield f"{len(cells)} {one if len(cells) == 1 else many} ({some(names, NAMES_SHOWN)})"


def _nothing(counts: Mapping[Verdict, int]) -> str:
    return "no cell was judged" + (f" ({_listed(counts)})" if sum(counts.values()) else ": there is none")


def _summary(counts: Mapping[Verdict, int]) -> str:
    rest = dict(counts)
    passed = f"{rest.pop(Verdict.PASS, 0)} of {count(sum(counts.values()), 'cell')} passed"
    aside = " (not required)" if any(rest.get(verdict) for verdict in OPEN_QUESTIONS) else ""
    return f"{passed}, {_listed(rest)}{aside}" if any(rest.values()) else passed


def _listed(counts: Mapping[Verdict, int]) -> str:
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in reversed(Verdict) if counts.get(verdict))
