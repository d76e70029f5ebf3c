"""The matrix on a terminal or in a job's log: signs with words, any width from 40, nothing by colour alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO, cast

from rich.console import Console
from rich.text import Text

from reports import facts, grid, timesheet
from reports.facts import Facts
from reports.gate import Gate
from reports.grid import STYLES
from reports.matrix import SIGNS, Entry, Row, View
from reports.record import Cell, Figure, Matrix
from reports.text import count, seconds, some, told, visible
from reports.timesheet import Timesheet

EVIDENCE_SHOWN = 3
PAGE = "matrix.html"
_ASCII = str.maketrans({"✓": "+", "✗": "x", "·": "|", "─": "-", "…": "..."})


class _Lenient:
    """A text file that takes any character: what its encoding lacks is written as an ASCII sign or an escape."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        encoding = getattr(self._file, "encoding", None) or "utf-8"
        if not encoding.lower().startswith("utf"):
            text = text.translate(_ASCII).encode(encoding, "backslashreplace").decode(encoding)
        return self._file.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def console(file: TextIO | None = None, width: int | None = None) -> Console:
    """A console as this module needs it: NO_COLOR, or a file that is no terminal, gives plain text."""
    lenient = cast(TextIO, _Lenient(file or sys.stdout))
    return Console(file=lenient, width=width, highlight=False, markup=False, emoji=False)


def show(matrix: Matrix, gate: Gate, to: Console | None = None, folder: Path | None = None, *, verbosity: int = 0) -> None:
    """Print the matrix, what is not pass, where the time went, and the gate's sentence last; of a `verbosity` of -2 or less
    the sentence alone.

    `folder` is the run's, to which the paths of the evidence are relative.
    """
    out = to or console()
    if verbosity > -2:
        _show_matrix(matrix, gate, out, folder)
    sentence(gate, out)


def _show_matrix(matrix: Matrix, gate: Gate, out: Console, folder: Path | None) -> None:
    view, known = View(matrix.cells), facts.of(matrix.run)
    for words in _headlines(known, view):
        _indented(Text(words, "bold"), 0, out)
    for note in known.notes:
        _indented(Text(f"note: {told(note)}"), 0, out)
    out.print()
    grid.show(view, out)
    for shown in view.rows:
        _show_entries(view, shown, out)
    _show_timesheet(known.timesheet, out)
    for bad in gate.regressions:
        _indented(Text(f"regression {visible(bad.cell, 300)}: {told(bad.sentence, 500)}"), 0, out)
    for note in gate.notes:
        _indented(Text(f"baseline: {told(note, 600)}", "dim"), 0, out)
    if folder:
        out.print(f"\nEvidence and logs: {visible(str(folder), 4000)}", soft_wrap=True)
        page = folder / PAGE
        if page.is_file():
            out.print(f"To look at: {visible(str(page), 4000)}", soft_wrap=True)
    out.print()


def sentence(gate: Gate, to: Console | None = None) -> None:
    """Print the gate's one sentence, never folded: it is the last line, and scripts read it."""
    out = to or console()
    out.print(Text(visible(gate.reason, 2000), "bold green" if gate.open else "bold red"), soft_wrap=True)


def row(cells: Sequence[Cell], to: Console | None = None) -> None:
    """Print the rows of these cells alone: what a run calls whenever a deployment is done."""
    grid.show(View(cells), to or console())


def line(cell: Cell, to: Console | None = None, *, figures: bool = False) -> None:
    """Print one judged cell on one line, for logs; with `figures`, those that have a limit beside it."""
    head = (f"{SIGNS[cell.verdict]} {cell.verdict:<12}", STYLES[cell.verdict])
    held = [f"{visible(name, 60)} {_held(figure)}" for name, figure in cell.figures.items() if figure.limit is not None]
    text = ": ".join(part for part in (visible(cell.name), told(cell.reason)) if part)
    shown = Text.assemble(head, " ", text, (f" ({some(held, 8)})", "dim") if figures and held else "")
    (to or console()).print(shown, soft_wrap=True)


def _held(figure: Figure) -> str:
    """`41.2 of 150 ms`."""
    value = f"{figure.value:.4g}" if isinstance(figure.value, float) else told(str(figure.value), 60)
    limit = f"{figure.limit:.4g}" if isinstance(figure.limit, float) else told(str(figure.limit), 60)
    return f"{value} of {limit} {visible(figure.unit, 40)}".rstrip()


def _headlines(facts: Facts, view: View) -> Iterator[str]:
    place = [visible(part, 80) for part in (facts.id, *view.shared) if part]
    if place:
        yield " · ".join(place)
    cells = ", ".join(f"{number} {verdict}" for verdict, number in view.verdicts.items())
    yield f"{count(len(view.cells), 'cell')}: {cells}" if cells else "no cells"


def _show_entries(view: View, shown: Row, out: Console) -> None:
    entries = view.entries(shown)
    if entries:
        engine, rest = (visible(part, 120) for part in view.label(shown.deployment))
        out.print(Text.assemble("\n", (engine, "bold"), f" · {rest}"))
    for entry in entries:
        _show_entry(entry, shown, out)


def _show_entry(entry: Entry, of: Row, out: Console) -> None:
    cell = entry.first
    head = Text(f"{SIGNS[cell.verdict]} {cell.verdict} ", STYLES[cell.verdict])
    what, subjects = entry.named_in(of)
    head.append(visible(what, 1000), "bold").append(f"  {visible(subjects, 1000)}" if subjects else "", "not bold")
    _indented(head, 2, out)
    details = (
        ("", cell.reason),
        ("cause: ", ", ".join(cell.causes)),
        ("cure: ", cell.cure),
        ("evidence: ", some(entry.evidence, EVIDENCE_SHOWN)),
    )
    for name, text in details:
        if text:
            _indented(Text.assemble((name, "dim"), told(text)), 6, out)


def _indented(text: Text, by: int, out: Console) -> None:
    for part in text.wrap(out, max(out.width - by, 20)):
        part.rstrip()
        out.print(Text(" " * by).append_text(part))


def _show_timesheet(sheet: Timesheet | None, out: Console) -> None:
    if not sheet:
        return
    out.print("\nWhere the time went", style="bold")
    for what, value, remark in timesheet.lines(sheet):
        _indented(Text(f"{what:<12}{seconds(value):>12}  {visible(remark)}".rstrip()), 2, out)
