"""Many runs as one matrix: of two cells with the same key the newer stands, the older is kept beside it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reports import facts
from reports.record import Cell, Matrix
from reports.store import new_id


def merge(matrices: Sequence[Matrix]) -> Matrix:
    """One matrix of all the runs' cells, oldest run first (by `started`, then as given).

    The facts hold `merged` (each run's own), `require` (the union by lineup), `notes`, and `superseded`: older cells
    whose key a newer run judged again, each with the id of its run. One run alone is returned as it is.
    """
    if len(matrices) == 1:
        return matrices[0]
    ordered = sorted(matrices, key=lambda matrix: str(matrix.run.get("started") or ""))
    newest: dict[tuple[str | None, ...], tuple[Cell, Matrix]] = {}
    superseded = [older for matrix in ordered for older in matrix.run.get("superseded", [])]
    for matrix in ordered:
        for cell in matrix.cells:
            if older := newest.pop(cell.key, None):
                superseded.append({"run": older[1].run.get("id"), "cell": older[0].model_dump(mode="json")})
            newest[cell.key] = cell, matrix
    run = {**_facts(ordered), "superseded": superseded}
    return Matrix(run=run, cells=tuple(cell for cell, _ in newest.values()))


def relocate(matrix: Matrix, folder: Path, target: Path) -> Matrix:
    """The same matrix with its evidence, which is relative to the run's folder, named from `target`."""
    prefix = Path(os.path.relpath(folder, target))
    cells = []
    for cell in matrix.cells:
        evidence = tuple(str(prefix / path) for path in cell.evidence)
        cells.append(cell.model_copy(update={"evidence": evidence}))
    return matrix.model_copy(update={"cells": tuple(cells)})


def _facts(ordered: Sequence[Matrix]) -> dict[str, Any]:
    runs = [run for matrix in ordered for run in matrix.run.get("merged") or [_own(matrix.run)]]
    known = [facts.of(run) for run in runs]
    require: dict[str, list[str]] = {}
    for run in known:
        for lineup, names in run.require.items():
            held = require.setdefault(lineup, [])
            held += [name for name in names if name not in held]
    return {
        "id": new_id(),
        "started": min((run.started for run in known if run.started), default=None),
        "finished": None if any(run.unfinished for run in known) else max(run.finished or "" for run in known),
        "require": require,
        "notes": list(dict.fromkeys(note for run in known for note in run.notes)),
        "merged": runs,
    }


def _own(run: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in run.items() if name != "superseded"}
