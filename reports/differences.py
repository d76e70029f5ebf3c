"""The differences between two runs, cell by cell: verdicts that changed, and figures old, new and their ratio."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from reports.promise import place
from reports.record import Cell, Figure, Matrix

_UNIT = re.compile(r"_(ms|s|gib|mib)\Z")


@dataclass(frozen=True)
class Pair:
    """The same cell in both runs; None where a run did not judge it."""

    name: str
    old: Cell | None
    new: Cell | None

    @property
    def either(self) -> Cell:
        """The newer of the two that are there."""
        found = self.new or self.old
        assert found is not None, "a pair is made of at least one cell"
        return found

    @property
    def verdicts(self) -> tuple[str, ...]:
        """The old one and the new one, as far as they are there."""
        return tuple(cell.verdict.value for cell in (self.old, self.new) if cell)

    @property
    def changed(self) -> bool:
        """Whether both runs judged it, with another verdict."""
        return self.old is not None and self.new is not None and self.old.verdict is not self.new.verdict

    @property
    def worse(self) -> bool:
        """Whether the verdict changed for the worse."""
        return self.old is not None and self.new is not None and self.new.verdict.rank < self.old.verdict.rank


@dataclass(frozen=True)
class Change:
    """A number that both runs hold. `apart`: the intervals do not meet; None where a run states none."""

    pair: Pair
    name: str
    old: float
    new: float
    unit: str
    limit: float | int | str | None
    apart: bool | None

    @property
    def ratio(self) -> float | None:
        """New by old; None where there is none, as from zero."""
        return self.new / self.old if self.old and self.old * self.new >= 0 else None

    @property
    def size(self) -> float:
        """How large the change is, up or down alike: 0 for none."""
        return abs(math.log(self.ratio)) if self.ratio else math.inf if self.old != self.new else 0.0


class Differences:
    """Two runs beside each other. Machine, device and version are not part of what pairs two cells: they may differ."""

    def __init__(self, old: Matrix, new: Matrix) -> None:
        self.old, self.new = old, new

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """Every cell of either run, in the contract's order."""
        twice = {name for matrix in (self.old, self.new)
                 for name, number in Counter(cell.name for cell in matrix.cells).items() if number > 1}
        older, newer = ({_name(cell, twice): cell for cell in matrix.cells} for matrix in (self.old, self.new))
        pairs = (Pair(name, older.get(name), newer.get(name)) for name in dict.fromkeys((*newer, *older)))
        return tuple(sorted(pairs, key=lambda pair: (pair.either.engine, place(pair.either.check), pair.name)))

    @cached_property
    def changed(self) -> tuple[Pair, ...]:
        """Cells with another verdict, the worse first."""
        found = (pair for pair in self.pairs if pair.changed)
        return tuple(sorted(found, key=lambda pair: (not pair.worse, pair.either.verdict.rank)))

    @cached_property
    def vanished(self) -> tuple[Pair, ...]:
        """Cells that the new run does not have."""
        return tuple(pair for pair in self.pairs if pair.new is None)

    @cached_property
    def appeared(self) -> tuple[Pair, ...]:
        """Cells that the old run does not have."""
        return tuple(pair for pair in self.pairs if pair.old is None)

    @cached_property
    def figures(self) -> tuple[Change, ...]:
        """Figures that changed: first those whose intervals do not meet, then by the size of the change."""
        found = (change for pair in self.pairs for change in _changes(pair) if change.old != change.new)
        return tuple(sorted(found, key=lambda change: (not change.apart, change.limit is None, -change.size)))

    @cached_property
    def circumstances(self) -> tuple[tuple[str, str, str], ...]:
        """What else is not the same: (what, old, new)."""
        older, newer = _circumstances(self.old), _circumstances(self.new)
        return tuple((name, older.get(name, ""), newer.get(name, "")) for name in sorted({*older, *newer})
                     if older.get(name) != newer.get(name))


def _name(cell: Cell, twice: set[str]) -> str:
    """The cell's name; with its version and machine where a run holds the name for several."""
    if cell.name not in twice:
        return cell.name
    return f"{cell.name} ({', '.join((cell.version, cell.machine, cell.device))})"


def _changes(pair: Pair) -> Iterator[Change]:
    if pair.old is None or pair.new is None:
        return
    for name, new in pair.new.figures.items():
        older, newer = _value(pair.old.figures.get(name)), _value(new)
        if older is not None and newer is not None and not _is_end(name, pair.new.figures):
            yield Change(pair, name, older, newer, new.unit, new.limit, _apart(name, pair.old.figures, pair.new.figures))


def _value(figure: Figure | None) -> float | None:
    value = figure.value if figure else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _ends(name: str) -> tuple[str, str]:
    unit = _UNIT.search(name)
    stem, end = (name[: unit.start()], unit[0]) if unit else (name, "")
    return f"{stem}_low{end}", f"{stem}_high{end}"


def _is_end(name: str, figures: Mapping[str, Figure]) -> bool:
    """Whether the figure is an end of another one's interval."""
    return any(re.sub(rf"_{end}(?=_|\Z)", "", name, count=1) in figures for end in ("low", "high")
               if re.search(rf"_{end}(?=_|\Z)", name))


def _apart(name: str, old: Mapping[str, Figure], new: Mapping[str, Figure]) -> bool | None:
    low, high = _ends(name)
    ends = [_value(figures.get(end)) for figures in (old, new) for end in (low, high)]
    if any(end is None for end in ends):
        return None
    old_low, old_high, new_low, new_high = (end or 0.0 for end in ends)
    return old_high < new_low or new_high < old_low


def _circumstances(matrix: Matrix) -> dict[str, str]:
    found = {"machine": _joined([cell.machine for cell in matrix.cells]),
             "device": _joined([cell.device for cell in matrix.cells])}
    for engine in dict.fromkeys(cell.engine for cell in matrix.cells):
        found[f"version of {engine}"] = _joined([cell.version for cell in matrix.cells if cell.engine == engine])
        found[f"build of {engine}"] = _joined([cell.build for cell in matrix.cells if cell.engine == engine])
    for name in ("driver", "cuda", "kernel", "python", "cpu"):
        found |= {name: str(matrix.run[name])} if matrix.run.get(name) else {}
    recorded = matrix.run.get("circumstances")
    told = {str(name): str(value) for name, value in recorded.items()} if isinstance(recorded, Mapping) else {}
    return {**{name: value for name, value in told.items() if not name.startswith("build of")}, **found}


def _joined(values: Sequence[str]) -> str:
    return ", ".join(value for value in dict.fromkeys(values) if value)
