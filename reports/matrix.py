"""The matrix as people look at it: deployments down, promises across, and an entry for whatever is not pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from reports.promise import PROMISES, place
from reports.record import Cell, Verdict, worst
from reports.text import count, some

NAMES_SHOWN = 12
PLACE = ("profile", "machine", "device")

# Always printed beside the word: neither the sign nor its colour is told apart by everybody.
SIGNS: dict[Verdict, str] = {
    Verdict.FAIL: "✗",
    Verdict.ERROR: "!",
    Verdict.UNEXPECTED_PASS: "^",
    Verdict.INCONCLUSIVE: "?",
    Verdict.UNAVAILABLE: "-",
    Verdict.WAIVED: "~",
    Verdict.PASS: "✓",
}


class Deployment(NamedTuple):
    """What a row of the matrix stands for."""

    engine: str
    version: str
    launcher: str
    lineup: str
    profile: str
    machine: str
    device: str

    @classmethod
    def of(cls, cell: Cell) -> Deployment:
        """The deployment that a cell belongs to."""
        return cls(cell.engine, cell.version, cell.launcher, cell.lineup, cell.profile, cell.machine, cell.device)


class Tally(NamedTuple):
    """A cell of the matrix: the worst verdict of a promise, how many cells have it, of how many."""

    verdict: Verdict
    number: int
    total: int

    @property
    def share(self) -> str:
        """`2/14`."""
        return f"{self.number}/{self.total}"


def tally(cells: Iterable[Cell]) -> Tally | None:
    """The worst verdict of the cells with its share, None where there is no cell."""
    counts = Counter(cell.verdict for cell in cells)
    verdict = worst(counts)
    return Tally(verdict, counts[verdict], counts.total()) if verdict else None


@dataclass(frozen=True)
class Row:
    """One deployment with its cells."""

    deployment: Deployment
    cells: tuple[Cell, ...]

    @cached_property
    def promises(self) -> dict[str, Tally]:
        """Each promise that has cells, with its tally."""
        families: dict[str, list[Cell]] = {}
        for cell in self.cells:
            families.setdefault(cell.promise, []).append(cell)
        return {promise: found for promise, cells in families.items() if (found := tally(cells))}

    @property
    def unavailable(self) -> bool:
        """Whether nothing of it could be run."""
        return all(cell.verdict is Verdict.UNAVAILABLE for cell in self.cells)


@dataclass(frozen=True)
class Entry:
    """Cells of one deployment that are not pass for the same reason, told once."""

    deployment: Deployment
    cells: tuple[Cell, ...]

    @property
    def first(self) -> Cell:
        """The cell whose verdict, causes, reason and cure all of them share."""
        return self.cells[0]

    @property
    def checks(self) -> tuple[str, ...]:
        """The checks in the contract's order."""
        return tuple(sorted({cell.check for cell in self.cells}, key=place))

    @property
    def subjects(self) -> str:
        """Which models and variants: `a, b`, `a, b: en, ko` where each model has each, else `a/en, b/ko`."""
        models = list(dict.fromkeys(cell.model or "" for cell in self.cells))
        variants = list(dict.fromkeys(cell.variant for cell in self.cells))
        pairs = dict.fromkeys((cell.model or "", cell.variant) for cell in self.cells)
        if len(pairs) < len(models) * len(variants):
            return some(["/".join(part for part in pair if part) or "deployment" for pair in pairs], NAMES_SHOWN)
        named = some([model or "deployment" for model in models], NAMES_SHOWN) if any(models) else ""
        shown = some([variant or "plain" for variant in variants], NAMES_SHOWN) if any(variants) else ""
        return ": ".join(part for part in (named, shown) if part)

    def named_in(self, row: Row) -> tuple[str, str]:
        """What it is about and for which models and variants, as short as it is still exact.

        A promise stands for its checks where all the row's cells of it are meant, and many checks for their models.
        """
        if len(self.cells) == len(row.cells) > 1:
            return "everything", count(len(self.cells), "cell")
        if len(self.checks) == 1:
            return self.checks[0], self.subjects
        whole = {promise for promise, found in row.promises.items() if found.total == self._of(promise)}
        names = dict.fromkeys(name if (name := check.partition(".")[0]) in whole else check for check in self.checks)
        return some(list(names), NAMES_SHOWN), count(len(self.cells), "cell")

    def _of(self, promise: str) -> int:
        return sum(cell.promise == promise for cell in self.cells)

    @property
    def evidence(self) -> tuple[str, ...]:
        """Every path, each once."""
        return tuple(dict.fromkeys(path for cell in self.cells for path in cell.evidence))


class View:
    """Cells in the arrangement that every report shows."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.cells = tuple(cells)

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """A row for each deployment, in the order of its first cell."""
        found: dict[Deployment, list[Cell]] = {}
        for cell in self.cells:
            found.setdefault(Deployment.of(cell), []).append(cell)
        return tuple(Row(deployment, tuple(cells)) for deployment, cells in found.items())

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The promises that have cells, in the contract's order."""
        present = {cell.promise for cell in self.cells}
        return (*(promise for promise in PROMISES if promise in present), *sorted(present.difference(PROMISES)))

    @cached_property
    def verdicts(self) -> Mapping[Verdict, int]:
        """How many cells have each verdict, worst first."""
        counts = Counter(cell.verdict for cell in self.cells)
        return {verdict: counts[verdict] for verdict in Verdict if counts[verdict]}

    @cached_property
    def shared(self) -> tuple[str, ...]:
        """What is the same in every row (machine, device, profile) and so is said once, not in each."""
        if not self.rows:
            return ()
        values = [getattr(self.rows[0].deployment, name) for name in PLACE if name not in self._varying]
        return tuple(dict.fromkeys(value for value in values if value))

    @cached_property
    def _varying(self) -> frozenset[str]:
        values = {name: {getattr(row.deployment, name) for row in self.rows} for name in PLACE}
        return frozenset(name for name, found in values.items() if len(found) > 1)

    def label(self, deployment: Deployment) -> tuple[str, str]:
        """Engine and version; launcher, lineup, and whatever else tells this row from the others."""
        extra = [getattr(deployment, name) for name in PLACE if name in self._varying]
        rest = [deployment.launcher, deployment.lineup, *extra]
        return f"{deployment.engine} {deployment.version}".strip(), " · ".join(part for part in rest if part)

    def entries(self, row: Row) -> tuple[Entry, ...]:
        """What there is to say of the row, worst first: what is not pass, and what passes with a remark.

        The same reason of several models or variants is one entry.
        """
        folded: dict[tuple[object, ...], list[Cell]] = {}
        for cell in row.cells:
            if cell.verdict is not Verdict.PASS or cell.reason:
                folded.setdefault(_sameness(cell), []).append(cell)
        entries = [Entry(row.deployment, tuple(cells)) for cells in folded.values()]
        return tuple(sorted(entries, key=lambda entry: (entry.first.verdict.rank, place(entry.checks[0]))))


def _sameness(cell: Cell) -> tuple[object, ...]:
    # What could not run mostly shares one reason over many checks; a failure is read check by check.
    check = "" if cell.verdict is Verdict.UNAVAILABLE else cell.check
    return check, cell.verdict, cell.causes, cell.reason, cell.cure

