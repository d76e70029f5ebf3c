"""The progress: what a run prints while the matrix fills; redrawn in place on a terminal, a line for each cell elsewhere."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from reports import grid, terminal
from reports.grid import STYLES
from reports.matrix import SIGNS, View
from reports.record import Cell, Verdict
from reports.text import visible

QUIET = -1
BAR, NAME_WIDTH = 24, 28
MIB, GIB = 2**20, 2**30


class Held(NamedTuple):
    """What one model holds of the memory now, and the most that it has held, in bytes."""

    model: str
    now: int
    most: int


class Progress:
    """Prints as pytest's users expect: with `-q` (-1) nothing before the end, with `-v` (1) every cell and its figures.

    Nothing is drawn between two calls: a thread that redraws would be measured along with the servers. Every call must find
    standard output as the console had it when it was made.
    """

    def __init__(self, planned: int, verbosity: int = 0, to: Console | None = None, before: Sequence[Cell] = ()) -> None:
        self._out, self._planned, self._verbosity = to or terminal.console(), planned, verbosity
        self._counted = Counter(cell.verdict for cell in before)
        self._own: list[Cell] = []
        self._live: Live | None = None
        self._here = self._out.is_terminal and not self._out.is_dumb_terminal and verbosity > QUIET

    def say(self, text: str) -> None:
        """Print a line to stay. What is redrawn goes until the next cell: a question may follow, or minutes of set-up."""
        self._clear()
        if self._verbosity > -2:
            self._out.print(Text(text), soft_wrap=True)

    def judging(self, name: str, held: Sequence[Held] = ()) -> None:
        """A cell is about to be judged."""
        if self._here:
            self._draw(f"judging {visible(name, 200)}", held)

    def judged(self, cell: Cell, *, told: bool = False) -> None:
        """One more cell; `told` is for a reason that was said before."""
        self._counted[cell.verdict] += 1
        self._own.append(cell)
        if self._verbosity > QUIET and self._is_line(cell, told):
            self._clear()
            terminal.line(cell, self._out, figures=self._verbosity > 0)

    def done(self, *, last: bool) -> None:
        """The deployment's cells are all judged: its rows, to stay; not those of the last, as the matrix follows."""
        self._clear()
        if self._own and not last and self._verbosity > QUIET:
            terminal.row(self._own, self._out)
        self._own = []

    def stop(self) -> None:
        """Nothing is redrawn any more."""
        self._clear()

    def _is_line(self, cell: Cell, told: bool) -> bool:
        if self._verbosity > 0:
            return True
        return not told and (cell.verdict is not Verdict.PASS or not self._here)

    def _clear(self) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def _draw(self, what: str, held: Sequence[Held]) -> None:
        shown = Group(*self._rows(), Text(what, overflow="ellipsis", no_wrap=True), *_bars(held), self._counts())
        if self._live is None:
            self._live = Live(console=self._out, auto_refresh=False, transient=True, redirect_stdout=False,
                              redirect_stderr=False)
            self._live.start()
            self._out.show_cursor(True)  # a run that is killed must not leave a terminal without one
        self._live.update(shown, refresh=True)

    def _rows(self) -> list[Text]:
        """The grid of the deployment that runs."""
        if not self._own:
            return []
        file = io.StringIO()
        out = Console(file=file, width=self._out.width, force_terminal=True, highlight=False, markup=False, emoji=False,
                      color_system="truecolor" if self._out.color_system else None, no_color=self._out.no_color)
        grid.show(View(self._own), out)
        return [Text.from_ansi(line) for line in file.getvalue().splitlines()]

    def _counts(self) -> Text:
        text = Text(f"{self._counted.total()} of {self._planned} cells", no_wrap=True, overflow="ellipsis")
        for verdict in Verdict:
            if number := self._counted[verdict]:
                text.append("  ").append(f"{SIGNS[verdict]} {number} {verdict}", STYLES[verdict])
        return text


def _bars(held: Sequence[Held]) -> list[Text]:
    """A bar for each model: full what it holds, light what it once held."""
    whole = max((one.most for one in held), default=0)
    if not whole:
        return []
    width = min(NAME_WIDTH, max(len(visible(one.model, NAME_WIDTH)) for one in held))
    return [_bar(one, whole, width) for one in held]


def _bar(one: Held, whole: int, width: int) -> Text:
    full, light = round(BAR * one.now / whole), round(BAR * one.most / whole)
    bar = f"{'█' * full}{'░' * max(0, light - full)}".ljust(BAR)
    return Text(f"{visible(one.model, NAME_WIDTH):<{width}} {bar} {_size(one.now)}, at most {_size(one.most)}", no_wrap=True,
                overflow="ellipsis")


def _size(size: int) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / MIB:.0f} MiB"
