"""What a run prints while it goes: as much as was asked for, redrawn only on a terminal, and never between two calls."""

from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console

from reports.progress import Held, Progress
from reports.record import Cell, Figure
from tests.cells import cell

CELLS = [cell("startup.ready", figures={"ready_s": Figure(value=1.5, unit="s", limit=180.0)}),
         cell("api.contract", "fail", reason="3 tokens of 8"), cell("api.errors", "unavailable", reason="out of budget")]
HELD = [Held("small", 50 << 20, 100 << 20), Held("large", 3 << 30, 4 << 30)]


def printed(verbosity: int, *, terminal: bool = False, cells: list[Cell] = CELLS, width: int = 80) -> str:
    file = io.StringIO()
    out = Console(file=file, force_terminal=terminal, width=width, highlight=False, markup=False, color_system=None,
                  legacy_windows=False)
    progress = Progress(len(cells), verbosity, out)
    progress.say("run 1: 3 cells")
    for one in cells:
        progress.judging(one.name, HELD)
        progress.judged(one, told=one.reason == "out of budget")
    progress.done(last=False)
    progress.stop()
    return file.getvalue()


def test_a_line_for_each_cell_in_a_log() -> None:
    """Not a terminal: each cell on a line, then the deployment's row; a reason that was said is not said again."""
    lines = printed(0).splitlines()
    assert lines[0] == "run 1: 3 cells"
    assert lines[1] == "✓ pass         cpu/process/vllm/trilingual/small/startup.ready"
    assert lines[2] == "✗ fail         cpu/process/vllm/trilingual/small/api.contract: 3 tokens of 8"
    assert lines[3].split() == ["startup", "api"]
    assert "\x1b" not in printed(0)


def test_verbose_tells_figures() -> None:
    """-v: every cell, with what it was judged by."""
    lines = printed(1).splitlines()
    assert lines[1] == "✓ pass         cpu/process/vllm/trilingual/small/startup.ready (ready_s 1.5 of 180 s)"
    assert lines[3].endswith("api.errors: out of budget")


@pytest.mark.parametrize(("verbosity", "terminal"), [(-1, False), (-1, True), (-2, False), (-2, True)])
def test_quiet(verbosity: int, terminal: bool) -> None:
    """-q: nothing of the cells before the end; -qq not even what a run says of itself."""
    assert printed(verbosity, terminal=terminal) == ("run 1: 3 cells\n" if verbosity == -1 else "")


@pytest.mark.parametrize("width", [40, 80, 200])
def test_drawn_on_a_terminal(width: int) -> None:
    """The row so far, what is judged now, a bar for each model and the counts; no line is wider than the terminal."""
    shown = printed(0, terminal=True, width=width)
    drawn = shown[shown.rindex("judging") :]
    assert "2 of 3 cells" in shown
    assert "large ██████████████████░░░░░░ 3.0 GiB, at most 4.0 GiB"[:width - 1] in drawn
    assert "small █" in drawn or "small ░" in drawn
    assert max(len(line) for line in drawn.split("\x1b[2K")[0].splitlines()) <= width
    assert "✓ pass         cpu" not in shown, "a pass is in the row"
    assert shown.count("✗ fail         cpu") == 1


def test_no_thread_draws() -> None:
    """A display that redraws by itself would be measured along with the servers."""
    before = threading.active_count()
    progress = Progress(2, 0, Console(file=io.StringIO(), force_terminal=True, width=80))
    progress.judging("a/b", HELD)
    assert threading.active_count() == before
    progress.stop()


def test_the_cursor_is_never_hidden() -> None:
    """A run that is killed while it draws leaves a terminal that can be used."""
    shown = printed(0, terminal=True)
    assert shown.count("\x1b[?25l") <= shown.count("\x1b[?25h")
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


def test_a_question_stands_alone() -> None:
    """What is said during set-up is not drawn over, and nothing is drawn below it until the next cell."""
    file = io.StringIO()
    progress = Progress(2, 0, Console(file=file, force_terminal=True, width=80, color_system=None))
    progress.judging("a/b", HELD)
    progress.say("go on? [Y/n] ")
    assert file.getvalue().endswith("go on? [Y/n] \n")


def test_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR leaves the movement of the cursor and takes every colour, also from the row."""
    monkeypatch.setenv("NO_COLOR", "1")
    file = io.StringIO()
    progress = Progress(2, 0, Console(file=file, force_terminal=True, width=80, color_system="truecolor"))
    for one in CELLS:
        progress.judged(one)
        progress.judging("a/b", HELD)
    progress.stop()
    assert not [code for code in ("[31m", "[32m", "[1;31m", "38;") if code in file.getvalue()]
