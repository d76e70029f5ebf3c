"""How busy the machine was with other work while a cell was judged, as the record tells: a share of its processors."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

from reports.measure import number
from reports.record import Cell

ALLOWED = 0.10  # above it a slow figure says more of the machine than of the engine
_SHARES = ("foreign_share", "steal_share")


def of(cell: Cell) -> float | None:
    """Foreign processes and what a host took away, together; None where the cell does not tell."""
    found = [value for name in _SHARES if name in cell.figures and (value := number(cell.figures[name].value)) is not None]
    return sum(found) if found else None


def usual(cells: Iterable[Cell]) -> float:
    """The median over the cells that tell, for those that do not; 0 where none does."""
    return median([share for cell in cells if (share := of(cell)) is not None] or [0.0])
