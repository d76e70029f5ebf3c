"""The picture of a matrix: the terminal's own grid as an SVG, for a page that shows no terminal.

`python -m reports.picture RESULTS -o matrix.svg`: the same records give the same file, byte for byte.
"""

from __future__ import annotations

import argparse
import io
import re
from collections.abc import Sequence
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text

from reports import gate, grid
from reports.matrix import View
from reports.record import Matrix
from reports.store import read
from reports.text import visible

WIDTH = 120
# The font would be fetched from somebody's server; without it a viewer takes its own monospaced one.
FORMAT = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


def draw(matrix: Matrix, width: int = WIDTH) -> str:
    """The grid of the matrix and the gate's sentence as an SVG document; `width` in characters."""
    out = Console(file=io.StringIO(), record=True, width=width, highlight=False, markup=False, emoji=False,
                  force_terminal=True, color_system="truecolor", legacy_windows=False)
    view, judged = View(matrix.cells), gate.of(matrix)
    counts = ", ".join(f"{number} {verdict}" for verdict, number in view.verdicts.items())
    grid.show(view, out)
    out.print(Text(f"\n{len(view.cells)} cells: {counts}"))
    out.print(Text(visible(judged.reason, 2000), "bold green" if judged.open else "bold red"))
    title = " · ".join(("cotenant", *(visible(part, 80) for part in view.shared)))
    return out.export_svg(title=title, theme=SVG_EXPORT_THEME, code_format=FORMAT, unique_id="matrix")


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the matrix of a run's folder or of a matrix.json."""
    parser = argparse.ArgumentParser(prog="python -m reports.picture", description="Draw the matrix of a run as an SVG.")
    parser.add_argument("results", type=Path, help="a run's folder, or its matrix.json")
    parser.add_argument("-o", "--output", type=Path, default=Path("matrix.svg"))
    given = parser.parse_args(arguments)
    given.output.write_text(draw(read(given.results)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
