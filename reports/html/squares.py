"""The squares of the matrix and the cells inside them, as the page lays them out."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from reports.html import latency
from reports.html.evidence import Document, Evidence
from reports.html.excerpt import Excerpt
from reports.html.words import figure, number
from reports.matrix import SIGNS, Row, Tally, View, tally
from reports.promise import place as place_of
from reports.record import Cell, Verdict

TOLD = 1200  # so many cells are told in full, the worst first; a page of more would open too slowly
PLOTS = 120
COMMANDS = 12
FEWEST_SAMPLES = 8
SAMPLED = {"ttft": "ms", "itl": "ms", "e2e": "ms", "pss_mib": "MiB"}
_END = re.compile(r"_(ms|s|gib|mib)\Z")


@dataclass(frozen=True)
class FigureLine:
    """A figure with its interval and its limit, in words."""

    name: str
    value: str
    interval: str
    limit: str


@dataclass(frozen=True)
class Told:
    """One cell as it is told: the body is there only where the cell is told in full."""

    cell: Cell
    anchor: str
    key: FigureLine | None
    body: Body | None

    @property
    def subject(self) -> str:
        """Model and variant, `deployment` where there is neither."""
        return " · ".join(part for part in (self.cell.model, self.cell.variant) if part) or "deployment"


@dataclass(frozen=True)
class Body:
    """What a cell shows when it is opened."""

    figures: tuple[FigureLine, ...]
    document: Document
    plots: tuple[tuple[str, Any], ...]
    excerpt: Excerpt | None


@dataclass(frozen=True)
class Square:
    """A promise of one deployment."""

    promise: str
    anchor: str
    tally: Tally
    models: tuple[tuple[str, Verdict], ...]
    cells: tuple[Told, ...]


@dataclass(frozen=True)
class Line:
    """A row of the matrix; a square that is None has no cell."""

    engine: str
    rest: str
    anchor: str
    squares: tuple[Square | None, ...]

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands of its servers, each once: most cells share them."""
        bodies = (told.body for square in self.squares if square for told in square.cells)
        found = dict.fromkeys(words for body in bodies if body for words in body.document.command)
        return tuple(found)[:COMMANDS]


def lines(view: View, evidence: Evidence) -> list[Line]:
    """The rows of the matrix, each with a square for each of the view's columns."""
    worst = sorted(range(len(view.cells)), key=lambda index: view.cells[index].verdict.rank)[:TOLD]
    teller = _Teller(evidence, {id(view.cells[index]) for index in worst})
    return [_line(view, row, place, teller) for place, row in enumerate(view.rows, 1)]


def anchor(cell: Cell) -> str:
    """The cell's name in a link, the same in every run that judged it."""
    return f"c-{hashlib.blake2s(repr(cell.key).encode(), digest_size=5).hexdigest()}"


def figure_lines(cell: Cell) -> Iterator[FigureLine]:
    """The figures, those with a limit first; `x_low` and `x_high` are the interval of `x`."""
    ends = {end for name in cell.figures for end in _ends(name) if end in cell.figures}
    for name, found in sorted(cell.figures.items(), key=lambda pair: pair[1].limit is None):
        if name not in ends:
            low, high = (cell.figures.get(end) for end in _ends(name))
            interval = f"{number(low.value)} to {number(high.value)}" if low and high else ""
            limit = "" if found.limit is None else f"{number(found.limit)} {found.unit}".strip()
            yield FigureLine(name, figure(found), interval, limit)


def _ends(name: str) -> tuple[str, str]:
    unit = _END.search(name)
    stem, end = (name[: unit.start()], unit[0]) if unit else (name, "")
    return f"{stem}_low{end}", f"{stem}_high{end}"


def _line(view: View, row: Row, place: int, teller: _Teller) -> Line:
    engine, rest = view.label(row.deployment)
    families: dict[str, list[Cell]] = {}
    for cell in sorted(row.cells, key=lambda cell: place_of(cell.check)):
        families.setdefault(cell.promise, []).append(cell)
    squares = (_square(families.get(promise, ()), place, teller) for promise in view.columns)
    return Line(engine, rest, f"r-{place}", tuple(squares))


def _square(cells: Sequence[Cell], place: int, teller: _Teller) -> Square | None:
    found = tally(cells)
    if not found:
        return None
    models = dict.fromkeys(cell.model for cell in cells if cell.model)
    by_model = ((model, tally(cell for cell in cells if cell.model == model)) for model in models)
    promise = cells[0].promise
    slug = re.sub(r"[^a-z0-9]+", "-", promise.lower())[:30] + ("" if promise.isalnum() else anchor(cells[0])[1:])
    return Square(promise, f"s-{place}-{slug}", found, tuple((model, of.verdict) for model, of in by_model if of),
                  tuple(teller.told(cell) for cell in cells))


class _Teller:
    """Tells cells, those in `full` with their bodies, until the pictures are used up."""

    def __init__(self, evidence: Evidence, full: set[int]) -> None:
        self._evidence, self._full, self._plots = evidence, full, PLOTS

    def told(self, cell: Cell) -> Told:
        figures = tuple(figure_lines(cell))
        body = self._body(cell, figures) if id(cell) in self._full else None
        return Told(cell, anchor(cell), figures[0] if figures else None, body)

    def _body(self, cell: Cell, figures: tuple[FigureLine, ...]) -> Body:
        document = self._evidence.document(cell)
        excerpt = None if cell.verdict is Verdict.PASS else self._evidence.excerpt(cell)
        return Body(figures, document, tuple(self._draw(cell, document)), excerpt)

    def _draw(self, cell: Cell, document: Document) -> Iterator[tuple[str, Any]]:
        for name, unit in SAMPLED.items():
            values = document.numbers(name)
            if len(values) >= FEWEST_SAMPLES and len(set(values)) > 1 and self._plots > 0:
                self._plots -= 1
                limit = next((found.limit for key, found in cell.figures.items()
                              if key.startswith(f"{name}_") and isinstance(found.limit, int | float)), None)
                yield (words := _words(name, values, limit, unit)), latency.sparkline(values, limit, words)


def _words(name: str, values: Sequence[float], limit: float | None, unit: str) -> str:
    middle = number(sorted(values)[len(values) // 2])
    judged = f"; dashed: the limit, {number(limit)} {unit}" if limit else ""
    return f"{name}, {len(values)} samples: {number(min(values))} to {number(max(values))} {unit}, median {middle}{judged}"


def sign(verdict: Verdict) -> str:
    """The sign that stands beside the word."""
    return SIGNS[verdict]
