"""The grid of the matrix on a terminal: deployments down, promises across, laid out for the width there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from rich.console import Console
from rich.text import Text

from reports.matrix import SIGNS, Row, Tally, View
from reports.record import Verdict
from reports.text import count, visible

STYLES: dict[Verdict, str] = {
    Verdict.FAIL: "bold red",
    Verdict.ERROR: "bold magenta",
    Verdict.UNEXPECTED_PASS: "bold yellow",
    Verdict.INCONCLUSIVE: "yellow",
    Verdict.UNAVAILABLE: "dim",
    Verdict.WAIVED: "cyan",
    Verdict.PASS: "green",
}
# Where a word must break to fit a column of an 80 character terminal.
_PARTED = {
    Verdict.UNEXPECTED_PASS: ("unex-", "pected", "pass"),
    Verdict.INCONCLUSIVE: ("incon-", "clusive"),
    Verdict.UNAVAILABLE: ("unavail-", "able"),
}
LABEL_MAX, PROMISE_MAX = 60, 16
MARGIN = 2
NO_CELL = "."

Block = tuple[str, ...]


@dataclass(frozen=True)
class _Layout:
    """One way to lay out a cell: verdict and count on one line or below each other, long words parted or not."""

    stacked: bool
    parted: bool
    gap: int

    def block(self, tally: Tally | None) -> Block:
        """The lines of one cell of the grid."""
        if tally is None:
            return (NO_CELL,)
        words = _PARTED.get(tally.verdict, (tally.verdict.value,)) if self.parted else (tally.verdict.value,)
        first = f"{SIGNS[tally.verdict]} {words[0]}"
        return (first, *words[1:], tally.share) if self.stacked else (f"{first} {tally.share}",)

    def widths(self, rows: Sequence[Row], columns: Sequence[str]) -> list[int]:
        """The width of each column, without the gap before it."""
        found = [row.promises for row in rows if not row.unavailable]
        blocks = {name: [self.block(tallies.get(name)) for tallies in found] for name in columns}
        return [max(map(len, (_head(name), *(line for block in blocks[name] for line in block)))) for name in columns]


_LAYOUTS = (
    _Layout(stacked=False, parted=False, gap=2),
    _Layout(stacked=True, parted=False, gap=2),
    _Layout(stacked=True, parted=True, gap=2),
    _Layout(stacked=True, parted=True, gap=1),
)


def show(view: View, out: Console) -> None:
    """Print the grid; where no layout fits the width, each row as a list of its promises."""
    if not view.rows:
        out.print("No cell was judged.")
        return
    for layout in _LAYOUTS:
        widths = layout.widths(view.rows, view.columns)
        if MARGIN + sum(widths) + layout.gap * (len(widths) - 1) <= out.width:
            _show_grid(view, layout, widths, out)
            return
    for row in view.rows:
        _show_list(view, row, out)


def _show_grid(view: View, layout: _Layout, widths: list[int], out: Console) -> None:
    if any(not row.unavailable for row in view.rows):
        names = (_head(name).ljust(width) for name, width in zip(view.columns, widths, strict=True))
        out.print(Text(" " * MARGIN + (" " * layout.gap).join(names).rstrip(), "bold"))
        out.print(Text("─" * (MARGIN + sum(widths) + layout.gap * (len(widths) - 1)), "dim"))
    for row in view.rows:
        out.print(_label(view, row))
        if row.unavailable:
            _show_unavailable(row, out)
        else:
            _show_blocks(row.promises, view.columns, layout, widths, out)


def _show_blocks(
    tallies: Mapping[str, Tally], columns: Sequence[str], layout: _Layout, widths: list[int], out: Console
) -> None:
    blocks = [layout.block(tallies.get(name)) for name in columns]
    styles = [STYLES[tallies[name].verdict] if name in tallies else "dim" for name in columns]
    for fields in zip_longest(*blocks, fillvalue=""):
        line = Text(" " * MARGIN)
        for field, width, style in zip(fields, widths, styles, strict=True):
            line.append(field.ljust(width), style).append(" " * layout.gap)
        line.rstrip()
        out.print(line)


def _head(promise: str) -> str:
    # The contract's promises are plain words; what else a file may hold must still not break the columns.
    return visible(promise.encode("ascii", "backslashreplace").decode(), PROMISE_MAX)


def _label(view: View, row: Row) -> Text:
    engine, rest = (visible(part, LABEL_MAX) for part in view.label(row.deployment))
    return Text.assemble((engine, "bold"), f" · {rest}")


def _show_unavailable(row: Row, out: Console) -> None:
    # A row in which nothing ran says so once: its reason stands below, with its cure.
    number = f"all {count(len(row.cells), 'cell')}" if len(row.cells) > 1 else "its one cell"
    out.print(Text(f"{' ' * MARGIN}{SIGNS[Verdict.UNAVAILABLE]} unavailable, {number}", STYLES[Verdict.UNAVAILABLE]))


def _show_list(view: View, row: Row, out: Console) -> None:
    out.print(_label(view, row))
    if row.unavailable:
        _show_unavailable(row, out)
        return
    tallies = row.promises
    wide = max(len(_head(name)) for name in view.columns)
    for name in (name for name in view.columns if name in tallies):
        found = tallies[name]
        verdict = (f"{SIGNS[found.verdict]} {found.verdict} {found.share}", STYLES[found.verdict])
        out.print(Text.assemble(f"{' ' * MARGIN}{_head(name):<{wide}}  ", verdict))
