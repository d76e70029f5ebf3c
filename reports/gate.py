"""The gate: whether what was judged lets a release pass, and the one sentence that says why."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from reports import comparison, facts, policy, waived
from reports.comparison import Comparison, Regression
from reports.facts import Facts, FactsError
from reports.policy import STRICT, Policy, PolicyError
from reports.promise import place
from reports.record import Cell, Matrix, Verdict
from reports.text import count, some, visible

Require = Mapping[str, Sequence[str]]

SHUTS = (Verdict.FAIL, Verdict.ERROR, Verdict.UNEXPECTED_PASS)
OPEN_QUESTIONS = (Verdict.INCONCLUSIVE, Verdict.UNAVAILABLE)
# An inconclusive or broken measurement reached no judgement: counting it would let a worse cell open the gate.
JUDGED = (Verdict.FAIL, Verdict.UNEXPECTED_PASS, Verdict.WAIVED, Verdict.PASS)
NAMES_SHOWN = 3
# A lineup over several cards has cells of each of them, and of all together: fixtures/machine.py.
_CARDS = re.compile(r"(.*?) (#\d+(?: \+ #\d+)*)", re.DOTALL)


@dataclass(frozen=True)
class Gate:
    """Open or shut, and why in one sentence. `deciding` are the cells that shut it, worst first; `missing` are clauses about
    required promises for which there is no cell; `regressions` are what is worse than in the baseline, `notes` what was said
    beside of the comparison."""

    open: bool
    reason: str
    counts: Mapping[Verdict, int] = field(default_factory=dict)
    deciding: tuple[Cell, ...] = ()
    missing: tuple[str, ...] = ()
    regressions: tuple[Regression, ...] = ()
    notes: tuple[str, ...] = ()

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

    def is_part_of(self, other: _Deployment) -> bool:
        """Whether it is what stands on one card, `H200 #0`, of a lineup over several, `H200 #0 + #1`."""
        whole, own = _CARDS.fullmatch(other.device), _CARDS.fullmatch(self.device)
        if self._replace(device=other.device) != other or not whole or not own or own[1] != whole[1]:
            return False
        return set(own[2].split(" + ")) < set(whole[2].split(" + "))


def of(matrix: Matrix, require: Sequence[str] = (), *, rules: Policy | None = None, also: Sequence[str] = ()) -> Gate:
    """The gate of a run as it was recorded: its facts say what each lineup requires, whether it came to its end, by which
    policy and against which baseline it was judged, and what became of its waivers.

    `require` adds promises or check ids to every lineup, `also` clauses that shut the gate by themselves; `rules` stand in
    for the recorded policy where they are no looser. Raises FactsError where the facts have the wrong shape.
    """
    recorded = facts.of(matrix.run)
    known = _policy(matrix.run)
    compared = comparison.recorded(matrix.run)
    lineups = {*(cell.lineup for cell in matrix.cells), *recorded.require}
    names = {lineup: (*recorded.require.get(lineup, ()), *require) for lineup in sorted(lineups)}
    clauses = (*also, *_planned(recorded, matrix), *(one.clause for one in compared if one.clause),
               *waived.clauses(waived.recorded(matrix.run), matrix.cells))
    found = judge(matrix.cells, names, unfinished=recorded.unfinished, also=clauses,
                  rules=known if rules is None else policy.strictest([known, rules]))
    untold = "; ".join(f"{count(one.untold, 'figure')} could not be held against baseline {visible(one.name, 80)}"
                       for one in compared if one.untold)
    reason = f"{found.reason.removesuffix('.')}; {untold}." if untold and found.open else found.reason
    return replace(found, reason=reason, regressions=tuple(bad for one in compared for bad in one.regressions),
                   notes=tuple(note for one in compared for note in _notes(one)))


def judge(cells: Iterable[Cell], require: Require | Sequence[str] = (), *, unfinished: str = "", rules: Policy = STRICT,
          also: Sequence[str] = ()) -> Gate:
    """Judge the cells; `require` names promises or check ids, by lineup or (as a sequence) for every lineup.

    A lineup that is named must have cells, and each deployment of it a cell for each name. `unfinished`, a clause
    such as "the run was interrupted", shuts the gate by itself: what was still to come may have failed. So does each of
    `also`. What inconclusive and unavailable do is for the `rules` to say.
    """
    cells = list(cells)
    require = require if isinstance(require, Mapping) else {cell.lineup: require for cell in cells}
    counts = Counter(cell.verdict for cell in cells)
    shutting = (cell for cell in cells if _shuts(cell, require, rules))
    deciding = sorted(shutting, key=lambda cell: (cell.verdict.rank, place(cell.check), cell.name, repr(cell)))
    missing = tuple(_missing(cells, require))
    judged = any(counts[verdict] for verdict in JUDGED)
    if unfinished or not judged or deciding or missing or also:
        nothing = "" if judged else _nothing(counts)
        clauses = [unfinished, nothing, *_clauses(deciding, require), *also, *missing[:NAMES_SHOWN]]
        more = len(missing) - NAMES_SHOWN
        clauses += [f"{count(more, 'other required promise')} without a cell"] if more > 0 else []
        return Gate(False, f"Gate shut: {'; '.join(filter(None, clauses))}.", counts, tuple(deciding), missing)
    return Gate(True, f"Gate open: {_summary(counts)}{_aside(cells, require)}.", counts)


def requires(names: Sequence[str], cell: Cell) -> bool:
    """Whether the names (promises or check ids) include this cell's check."""
    return cell.promise in names or cell.check in names


def _policy(run: Mapping[str, object]) -> Policy:
    try:
        return policy.recorded(run)
    except PolicyError as fault:
        raise FactsError(f"run.{policy.FACT}: {fault}") from None


def _planned(recorded: Facts, matrix: Matrix) -> Iterator[str]:
    """How many cells a run was to judge stands in its facts before the first: one that was taken out is missed."""
    planned = (recorded.model_extra or {}).get("planned", 0)
    if not isinstance(planned, int):
        raise FactsError("run.planned: not a number of cells")
    if not recorded.merged and len(matrix.cells) < planned:
        yield f"{planned - len(matrix.cells)} of {count(planned, 'planned cell')} missing"


def _notes(compared: Comparison) -> Iterator[str]:
    runs, figures = count(compared.runs, "run"), count(compared.compared, "figure")
    yield f"held against baseline {compared.name} of {runs}: {figures} compared"
    yield from compared.notes


def _shuts(cell: Cell, require: Require, rules: Policy) -> bool:
    if cell.verdict not in OPEN_QUESTIONS:
        return cell.verdict in SHUTS
    return rules.of(cell.profile).shuts(cell.verdict, required=_is_required(cell, require))


def _is_required(cell: Cell, require: Require) -> bool:
    return requires(require.get(cell.lineup, ()), cell)


def _missing(cells: Sequence[Cell], require: Require) -> Iterator[str]:
    """One clause for each required name for which a deployment, or a whole lineup, has no cell."""
    present: dict[_Deployment, set[str]] = {}
    for cell in cells:
        present.setdefault(_deployment(cell), set()).update((cell.promise, cell.check))
    for one in [*present]:
        if wholes := [other for other in present if one.is_part_of(other)]:
            found = present.pop(one)
            for other in wholes:
                present[other] |= found
    started = {deployment.lineup for deployment in present}
    for lineup in sorted(require):
        if lineup not in started:
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
    Verdict.INCONCLUSIVE: ("cell is inconclusive", "cells are inconclusive"),
    Verdict.UNAVAILABLE: ("cell is unavailable", "cells are unavailable"),
}


def _clauses(deciding: Sequence[Cell], require: Require) -> Iterator[str]:
    for verdict, (one, many) in _PHRASES.items():
        cells = [cell for cell in deciding if cell.verdict is verdict]
        names = list(dict.fromkeys(f"{visible(cell.engine, 40)} {visible(cell.check, 60)}" for cell in cells))
        required = verdict in OPEN_QUESTIONS and all(_is_required(cell, require) for cell in cells)
        if cells:
            words = f"{'required ' if required else ''}{one if len(cells) == 1 else many}"
            yield f"{len(cells)} {words} ({some(names, NAMES_SHOWN)})"


def _aside(cells: Sequence[Cell], require: Require) -> str:
    """Why open questions leave the gate open: nobody requires them, or a policy lets them through, which is said."""
    open_ = [cell for cell in cells if cell.verdict in OPEN_QUESTIONS]
    through = Counter(cell.verdict for cell in open_ if _is_required(cell, require))
    if through:
        return f"; the policy lets {_listed(through)} through although required"
    return " (not required)" if open_ else ""


def _nothing(counts: Mapping[Verdict, int]) -> str:
    return "no cell was judged" + (f" ({_listed(counts)})" if sum(counts.values()) else ": there is none")


def _summary(counts: Mapping[Verdict, int]) -> str:
    rest = dict(counts)
    passed = f"{rest.pop(Verdict.PASS, 0)} of {count(sum(counts.values()), 'cell')} passed"
    return f"{passed}, {_listed(rest)}" if any(rest.values()) else passed


def _listed(counts: Mapping[Verdict, int]) -> str:
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in reversed(Verdict) if counts.get(verdict))
