"""The regression: what was right in every run of a baseline and is not, or is worse by more than a share and than noise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from pydantic import ValidationError

from reports import busy, measure, place, policy, significance
from reports.baseline import Baseline, BaselineError, HeldCell, HeldFigure, Subject
from reports.comparison import Comparison, Regression, What
from reports.measure import Kind
from reports.place import Place
from reports.policy import Policy
from reports.record import Cell, Matrix, Verdict
from reports.significance import Change, Runs
from reports.text import count, some, visible

# Together one in twenty, whatever the number of figures: what was promised, and medians, get most of it.
LEVELS = {True: 0.04, False: 0.01}
STEPS = {"s": 0.1}  # starts and ends are seen by polling
VAGUE = 0.50  # a figure that could be this much worse unnoticed is named
NAMES_SHOWN = 3
BUSY = "other work took more of the machine than in any run of the baseline; run again on a quiet one"

class _Pair(NamedTuple):
    """One figure of one cell, before and now."""

    cell: Cell
    name: str
    held: HeldFigure
    before: Runs
    now: Runs

    @property
    def key(self) -> str:
        return f"{'/'.join((self.cell.machine, self.cell.device, self.cell.version))} {self.cell.name} {self.name}"

    @property
    def judged(self) -> bool:
        return measure.is_judged(self.name, self.held.limit)

    @property
    def group(self) -> tuple[str, ...]:
        """Figures of the same meaning, whose noise is pooled."""
        return self.cell.profile, self.cell.check, self.name.rpartition(" ")[2], self.held.unit


@dataclass(frozen=True)
class _Judged:
    pair: _Pair
    change: Change
    found: bool
    level: float


def compare(baseline: Baseline, matrix: Matrix, rules: Policy = policy.STRICT) -> Comparison:
    """Hold a run, or several of the same cells merged, against a baseline.

    Verdicts are compared wherever the cells are from, times and rates on the same machine and device only, memory on the
    same type of device. `reports.samples.with_medians` beforehand adds figures that tell smaller changes.
    Raises BaselineError.
    """
    _not_its_own(baseline, matrix)
    now = place.of(matrix)
    cells: dict[Subject, list[Cell]] = {}
    for cell in matrix.cells:
        cells.setdefault(Subject.of(cell), []).append(cell)
    held = [one for one in baseline.cells if one.passed]
    found = [regression for one in held for regression in _verdicts(one, cells.get(one.subject, ()))]
    earlier = _earlier(matrix)
    most, usual = max(busy.ALLOWED, *(run.busy for run in baseline.runs)), busy.usual(matrix.cells)
    pairs: list[_Pair] = []
    aside = Counter[str]()
    for one in held:
        for cell in cells.get(one.subject, ()):
            if cell.verdict is Verdict.PASS:
                found += _lost_figures(one, cell)
                quiet = _quiet([cell, *earlier.get(cell.key, ())], most, usual)
                pairs += _pairs(baseline.place, now, one, cell, quiet, aside)
    judged = _judge(pairs, rules)
    found += [_regression(one) for one in judged if one.found]
    notes = (*_about_places(baseline, now), *_about_cells(baseline, cells), *_about_figures(baseline, aside, judged, rules))
    return Comparison(name=baseline.name, sha256=baseline.digest, runs=len(baseline.runs), compared=len(judged),
                      untold=aside.total(),
                      regressions=tuple(found), notes=notes)


def _verdicts(held: HeldCell, cells: Sequence[Cell]) -> Iterator[Regression]:
    runs = f"passed in all {len(held.verdicts)} runs of the baseline"
    if not cells:
        yield _of(held.subject, "vanished", f"{runs} and has no cell now")
    for cell in cells:
        # An unexpected pass is a pass that the gate refuses for its waiver alone.
        if cell.verdict not in (Verdict.PASS, Verdict.UNEXPECTED_PASS):
            reason = f": {visible(cell.reason, 160)}" if cell.reason else ""
            yield _of(held.subject, "verdict", f"{runs}, is {cell.verdict} now{reason}")


def _lost_figures(held: HeldCell, cell: Cell) -> Iterator[Regression]:
    """A promise that was measured and is not, or in another unit, is not known to hold."""
    for name, before in held.figures.items():
        figure, shown = cell.figures.get(name), visible(name, 80)
        value = measure.number(figure.value) if figure else None
        if value is not None and value <= 0 and not before.lower_is_better:
            yield _of(held.subject, "figure", f"{shown} is {value:g} now and was {min(before.values):.4g} or more")
        elif before.limit is not None and (figure is None or value is None):
            yield _of(held.subject, "figure-vanished", f"{shown} was measured in the baseline and has no value now")
        elif before.limit is not None and figure and figure.unit != before.unit:
            unit = visible(figure.unit, 40) or "no unit"
            yield _of(held.subject, "figure-vanished", f"{shown} was in {before.unit or 'no unit'} and is in {unit} now")


def _quiet(cells: Sequence[Cell], most: float, usual: float) -> dict[bool, list[Cell]]:
    """The cells that passed: all (False), and those during which no other work took more of the machine than `most`."""
    passed = [cell for cell in cells if cell.verdict is Verdict.PASS]
    shares = [usual if (share := busy.of(cell)) is None else share for cell in passed]
    return {False: passed, True: [cell for cell, share in zip(passed, shares, strict=True) if share <= most]}


def _pairs(before: Place, now: Place, held: HeldCell, newest: Cell, cells: Mapping[bool, Sequence[Cell]],
           aside: Counter[str]) -> Iterator[_Pair]:
    """The figures of one cell that can be compared: of the newest run, and of older ones that judged the same."""
    for name, figure in held.figures.items():
        if why := _not_comparable(before, now, newest, figure):
            aside[why] += 1
            continue
        of_time = figure.kind is not Kind.MEMORY
        if of_time and not cells[True]:
            aside[BUSY] += 1
            continue
        same = [one for one in cells[of_time] if name in one.figures and one.figures[name].unit == figure.unit]
        values = [(value, measure.error(name, one.figures)) for one in same
                  if (value := measure.number(one.figures[name].value)) is not None and value > 0]
        if not values:
            aside["no value above 0 now"] += 1
            continue
        numbers, errors = zip(*values, strict=True)
        yield _Pair(newest, name, figure, Runs(figure.values, figure.errors), Runs(numbers, errors))


def _not_comparable(before: Place, now: Place, cell: Cell, figure: HeldFigure) -> str:
    if figure.kind is Kind.MEMORY:
        return "" if place.same_device(before, cell) else "memory of another type of device"
    return "" if place.same_machine(before, now, cell) else "times, rates and shares of another machine or device"


def _not_its_own(baseline: Baseline, matrix: Matrix) -> None:
    own = {run.id for run in baseline.runs if run.id}
    ids = [str(run.get("id") or "") for run in (matrix.run.get("merged") or [matrix.run])]
    if both := sorted(own.intersection(ids)):
        raise BaselineError(f"run {both[0]} is one of baseline {baseline.name}'s own: hold a new run against it")


def _earlier(matrix: Matrix) -> dict[tuple[str | None, ...], list[Cell]]:
    """What older ones of the merged runs said of the same cells: more samples of the same."""
    found: dict[tuple[str | None, ...], list[Cell]] = {}
    try:
        for older in matrix.run.get("superseded") or ():
            cell = Cell.model_validate(older["cell"])
            found.setdefault(cell.key, []).append(cell)
    except (KeyError, ValidationError):
        raise BaselineError("run.superseded holds something else than older cells: merge the runs again") from None
    return found


def _judge(pairs: Sequence[_Pair], rules: Policy) -> list[_Judged]:
    spreads: dict[tuple[str, ...], list[float]] = {}
    own = {pair.key: significance.noise(pair.before, pair.now, STEPS.get(pair.held.unit, 0.0)) for pair in pairs}
    for pair in pairs:
        spreads.setdefault(pair.group, []).append(own[pair.key])
    changes = {pair.key: significance.change(
        pair.before, pair.now, max(own[pair.key], significance.pooled(spreads[pair.group])),
        lower_is_better=pair.held.lower_is_better) for pair in pairs}
    told: set[str] = set()
    families = {judged: {pair.key: changes[pair.key].p for pair in pairs if pair.judged is judged} for judged in LEVELS}
    for judged, level in LEVELS.items():
        told |= significance.holm(families[judged], level)
    return [_Judged(pair, changes[pair.key], pair.key in told and _is_worse(pair, changes[pair.key], rules),
                    LEVELS[pair.judged] / max(1, len(families[pair.judged]))) for pair in pairs]


def _is_worse(pair: _Pair, change: Change, rules: Policy) -> bool:
    """By more than tolerance, and outside all runs of the baseline.

    One new run may be the odd one out: then it must lie as far outside as those lie apart, and the time of a single request,
    for which nobody stated a limit, needs a second run.
    """
    alone = len(pair.now.values) == 1
    outside = change.beyond > (change.width if alone else 0.0)
    return outside and change.worse > rules.of(pair.cell.profile).worse_by and (
        pair.judged or not alone or pair.held.kind is not Kind.TIME)


def _regression(one: _Judged) -> Regression:
    pair, change = one.pair, one.change
    which = "above" if pair.held.lower_is_better else "below"
    sentence = (f"{visible(pair.name, 80)} is {pair.now.mean:.4g} {pair.held.unit}, {_percent(change.worse)} worse than "
                f"{pair.before.mean:.4g} {pair.held.unit} in the baseline and {which} all {len(pair.before.values)} runs "
                f"(noise of a run {_percent(change.noise)}, p = {change.p:.2g}, {count(len(pair.now.values), 'new run')})")
    return _of(Subject.of(pair.cell), "figure", sentence)


def _of(subject: Subject, what: What, sentence: str) -> Regression:
    return Regression(what=what, cell=subject.name, deployment=subject.deployment, sentence=sentence)


# --- what is said beside --------------------------------------------------------------------------------------------------


def _about_places(baseline: Baseline, now: Place) -> Iterator[str]:
    for clause in place.differences(baseline.place, now):
        yield f"since baseline {baseline.name}: {clause}"


def _about_cells(baseline: Baseline, cells: Mapping[Subject, Sequence[Cell]]) -> Iterator[str]:
    held = {one.subject: one for one in baseline.cells}
    if unsteady := [one.subject.name for one in baseline.cells if not one.passed]:
        yield f"{count(len(unsteady), 'cell')} did not pass in every run of the baseline and are not held against it: " \
              f"{some(unsteady, NAMES_SHOWN)}"
    if new := [subject.name for subject in cells if subject not in held]:
        yield f"{count(len(new), 'cell')} are not in the baseline: {some([visible(name, 120) for name in new], NAMES_SHOWN)}"
    moved = [f"{subject.name} {name} from {before.limit:g} to {cell.figures[name].limit}"
             for subject, found in cells.items() if subject in held for cell in found
             for name, before in held[subject].figures.items()
             if before.limit is not None and name in cell.figures and _moved(before, cell.figures[name].limit)]
    if moved:
        yield f"{count(len(moved), 'limit')} moved: {some([visible(one, 160) for one in moved], NAMES_SHOWN)}"


def _moved(before: HeldFigure, limit: object) -> bool:
    now = measure.number(limit)
    assert before.limit is not None
    return now is None or abs(now - before.limit) > 1e-9 * max(abs(now), abs(before.limit))


def _about_figures(baseline: Baseline, aside: Counter[str], judged: Sequence[_Judged], rules: Policy) -> Iterator[str]:
    for why, number in sorted(aside.items()):
        yield f"{count(number, 'figure')} not compared: {why}"
    if baseline.not_compared:
        names = [visible(name, 60) for name in baseline.not_compared]
        yield f"not compared, as which way is better or a share says nothing: {some(names, 12)}"
    worse = [one for one in judged if not one.found and one.change.worse > rules.of(one.pair.cell.profile).worse_by]
    if worse:
        yield (f"not told from noise though it looks worse: {count(len(worse), 'figure')}, "
               f"{some(list(map(_untold, sorted(worse, key=_by_p))), NAMES_SHOWN)}; give more runs")
    yield from _power(baseline, judged)


def _by_p(one: _Judged) -> float:
    return one.change.p


def _untold(one: _Judged) -> str:
    least = one.change.detectable(one.level)
    return (f"{visible(one.pair.cell.name, 120)} {visible(one.pair.name, 60)} by {_percent(one.change.worse)} "
            f"(would show from {_percent(least)})")


def _power(baseline: Baseline, judged: Sequence[_Judged]) -> Iterator[str]:
    least = [one.change.detectable(one.level) for one in judged if one.pair.judged]
    if least:
        vague = sum(share > VAGUE for share in least)
        runs = max(len(one.pair.now.values) for one in judged)
        yield (f"with {count(len(baseline.runs), 'run')} before and {runs} now, half of the {len(least)} judged figures "
               f"show a change of {_percent(median(least))} or less, and {vague} would not show {_percent(VAGUE)}")


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if abs(share) >= 0.095 else f"{100 * share:.1f} %"
