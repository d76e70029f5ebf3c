"""What pytest's own junit.xml is told of a cell."""

from __future__ import annotations

from reports.record import Cell, Figure
from reports.text import visible

PLAIN = (
    *("machine", "device", "profile", "engine", "version", "build", "launcher", "lineup", "model", "check", "variant"),
    *("verdict", "reason", "cure"),
)


def facts(cell: Cell) -> list[tuple[str, str]]:
    """The cell as properties of its test case, empty ones left out; causes and evidence once for each."""
    found = [
        *((name, getattr(cell, name)) for name in PLAIN),
        *(("cause", cause) for cause in cell.causes),
        *((f"figure.{name}", _figure(figure)) for name, figure in cell.figures.items()),
        *(("evidence", path) for path in cell.evidence),
    ]
    return [(visible(name), visible(str(value))) for name, value in found if value]


def _figure(figure: Figure) -> str:
    limit = "" if figure.limit is None else f" (limit {figure.limit})"
    return f"{figure.value} {figure.unit}".strip() + limit
