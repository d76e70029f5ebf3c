"""The samples: what the figures of a cell were made from, read from its evidence, and the medians that they give."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from reports.measure import number
from reports.record import Cell, Figure, Matrix

SERIES = ("ttft", "itl", "tpot", "e2e")
FEWEST = 10
LARGEST_FILE = 64 << 20  # bytes; an evidence file of 20,000 gaps takes half a MiB


def with_medians(matrix: Matrix, folder: Path) -> Matrix:
    """The matrix with a median, and the ends of its 95 % interval, of each series of samples that its evidence holds.

    The median of all answers varies less from run to run than the percentiles that are judged, so it tells smaller changes.
    A figure that is there already stays as it is, and without the evidence nothing is added.
    """
    cells = []
    for cell in matrix.cells:
        found = {name: figure for series, values in read(cell, folder).items() for name, figure in _median(series, values)}
        cells.append(cell.model_copy(update={"figures": {**found, **cell.figures}}) if found else cell)
    return matrix.model_copy(update={"cells": tuple(cells)})


def read(cell: Cell, folder: Path) -> dict[str, list[float]]:
    """The series of samples in milliseconds that the cell's evidence holds; nothing of a file that is not sound."""
    root = folder.resolve()
    for path in cell.evidence:
        file = (root / path).resolve()
        if path.endswith(".json") and file.is_relative_to(root) and file.is_file() and file.stat().st_size <= LARGEST_FILE:
            return _series(file)
    return {}


def _series(file: Path) -> dict[str, list[float]]:
    try:
        document = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    samples = document.get("samples") if isinstance(document, dict) else None
    if not isinstance(samples, dict):
        return {}
    series = {name: values for name in SERIES if isinstance(values := samples.get(name), list)}
    return {name: [float(value) for value in values] for name, values in series.items() if _sound(values)}


def _sound(values: Sequence[object]) -> bool:
    found = [number(value) for value in values]
    return len(found) >= FEWEST and all(value is not None and math.isfinite(value) for value in found)


def _median(series: str, values: Sequence[float]) -> list[tuple[str, Figure]]:
    """By order statistics: between them lies the median of what was sampled, whatever its distribution."""
    ordered, half = sorted(values), 0.98 * math.sqrt(len(values))
    middle = len(ordered) / 2
    low, high = ordered[max(0, math.floor(middle - half))], ordered[min(len(ordered) - 1, math.ceil(middle + half))]
    shown = {"": median(ordered), "_low": low, "_high": high}
    return [(f"{series}_p50{end}_ms", Figure(value=round(value, 3), unit="ms")) for end, value in shown.items()]
