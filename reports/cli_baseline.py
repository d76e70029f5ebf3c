"""baseline: save runs for later ones to be held against, and show what was saved."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

from reports import baseline as baselines
from reports import samples, terminal
from reports.baseline import Baseline, HeldFigure
from reports.busy import ALLOWED
from reports.significance import Runs
from reports.store import read
from reports.text import count, some, visible

NOISY = 0.10  # a figure that varies by more from run to run is named


def add(parser: argparse.ArgumentParser) -> None:
    """Declare what stands after `baseline`."""
    parser.add_argument("what", choices=("save", "show"), metavar="save|show")
    parser.add_argument("name", nargs="?", default="", metavar="NAME")
    parser.add_argument("results", nargs="*", type=Path, metavar="RESULTS", help="with save: five runs or more")
    parser.add_argument("--replace", action="store_true", help="write a baseline of that name anew")


def save(name: str, paths: Sequence[Path], *, replace: bool) -> int:
    """Write baselines/NAME.json of the checkout and say what it holds. Raises BaselineError."""
    matrices = {}
    for number, path in enumerate(paths):
        words = str(path) if str(path) not in matrices else f"{path} (number {number + 1})"
        matrices[words] = samples.with_medians(read(path), path if path.is_dir() else path.parent)
    made = baselines.make(name, matrices)
    file = baselines.save(made, replace=replace)
    out = terminal.console()
    for line in _about(made):
        out.print(visible(line, 600), soft_wrap=True)
    out.print(f"{file}: {count(len(made.cells), 'cell')} of {count(len(made.runs), 'run')}; commit it", soft_wrap=True)
    return 0


def show(name: str) -> int:
    """Print what a baseline holds, or which there are where none is named. Raises BaselineError."""
    out = terminal.console()
    if not name:
        there = baselines.names()
        out.print(f"{count(len(there), 'baseline')} in {baselines.BASELINES}: {some(there, 50) or 'none'}", soft_wrap=True)
        return 0
    held = baselines.load(name)
    for line in (*_about(held), *_figures(held)):
        out.print(visible(line, 600), soft_wrap=True)
    return 0


def _about(held: Baseline) -> Iterator[str]:
    yield f"baseline {held.name}, saved {held.saved} from {', '.join(run.id for run in held.runs)}"
    where = held.place
    cards = some([*where.gpus], 8) or "no GPU"
    yield f"machine {', '.join(where.machines)}: {where.cpu}; {cards}; driver {where.driver or 'none'}"
    yield from (f"engine {name} {'; '.join(builds)}" for name, builds in where.engines.items())
    if busy := [f"{run.id} {run.busy:.0%}" for run in held.runs if run.busy > ALLOWED]:
        yield f"other work took much of the machine during {count(len(busy), 'run')}, quiet runs tell more: {some(busy, 8)}"
    passed = [cell for cell in held.cells if cell.passed]
    yield (f"{count(len(passed), 'cell')} of {len(held.cells)} passed in every run and will be held; "
           f"{count(sum(len(cell.figures) for cell in passed), 'figure')} will be compared")
    if unsteady := [cell.subject.name for cell in held.cells if not cell.passed]:
        yield f"not held, as they did not pass in every run: {some(unsteady, 5)}"
    noisy = [f"{cell.subject.name} {name} ({_noise(figure):.0%})" for cell in passed
             for name, figure in cell.figures.items() if _noise(figure) > NOISY]
    if noisy:
        yield f"{count(len(noisy), 'figure')} vary by more than {NOISY:.0%} from run to run and tell large changes only: " \
              f"{some(noisy, 5)}"


def _figures(held: Baseline) -> Iterator[str]:
    for cell in held.cells:
        for name, figure in cell.figures.items():
            better = "lower" if figure.lower_is_better else "higher"
            limit = "" if figure.limit is None else f", limit {figure.limit:g}"
            yield (f"{cell.subject.name} {name}: {Runs(figure.values).mean:.4g} {figure.unit} ± {_noise(figure):.1%} "
                   f"({better} is better{limit})")


def _noise(figure: HeldFigure) -> float:
    """The standard deviation between the runs, as a share of the mean."""
    mean = fmean(figure.values)
    squares = sum((value - mean) ** 2 for value in figure.values)
    return float((squares / (len(figure.values) - 1)) ** 0.5 / mean)
