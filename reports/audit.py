"""The audit: whether the files of one result say the same, as they did when the run wrote them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from reports.record import Cell, Matrix
from reports.store import CELLS, FACTS, MATRIX, read
from reports.text import count, visible

# The facts that a gate goes by; notes may be added to run.json after the matrix was written.
DECIDING = ("id", "started", "finished", "interrupted", "require", "planned", "policy", "baseline", "waivers", "machine",
            "merged")

Key = tuple[str | None, ...]


def contradictions(folder: Path) -> list[str]:
    """Clauses about cells and facts that cells.jsonl and run.json have otherwise than matrix.json.

    None where only one of them is there, as in a merged result. Raises StoreError.
    """
    if not (folder / MATRIX).is_file() or not (folder / CELLS).is_file():
        return []
    matrix, journal = read(folder / MATRIX), read(folder / CELLS)
    return [*_cells(matrix, journal), *_facts(folder, matrix)]


def _cells(matrix: Matrix, journal: Matrix) -> Iterator[str]:
    shown: dict[Key, Cell] = {cell.key: cell for cell in matrix.cells}
    judged: dict[Key, Cell] = {cell.key: cell for cell in journal.cells}
    missing = [cell for key, cell in judged.items() if key not in shown]
    added = [cell for key, cell in shown.items() if key not in judged]
    changed = [cell for key, cell in shown.items() if key in judged and judged[key] != cell]
    for cells, words in ((missing, "left out of"), (added, "added to"), (changed, "changed in")):
        if cells:
            yield (f"{count(len(cells), 'cell')} {words} {MATRIX} since the run wrote {CELLS} "
                   f"({visible(cells[0].name, 120)}{' and more' if len(cells) > 1 else ''})")


def _facts(folder: Path, matrix: Matrix) -> Iterator[str]:
    try:
        known = json.loads((folder / FACTS).read_bytes())
    except (OSError, ValueError):
        yield f"{FACTS} is not there or damaged"
        return
    written = json.loads(matrix.model_dump_json(include={"run"}))["run"]
    if not isinstance(known, dict):
        yield f"{FACTS} holds no facts"
    elif differing := [name for name in DECIDING if known.get(name) != written.get(name)]:
        yield f"{MATRIX} and {FACTS} differ in {', '.join(differing)}"
