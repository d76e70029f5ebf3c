"""The comparison: what a planted fault did to a run, against what the catalogue says and the healthy run had."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.planted.catalogue import PlantedFault


@dataclass(frozen=True)
class Outcome:
    """One judged cell. `rest` is check[/variant]."""

    model: str | None
    rest: str
    verdict: str
    causes: frozenset[str] = frozenset()
    reason: str = ""
    figures: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """[model/]check[/variant]."""
        return f"{self.model}/{self.rest}" if self.model else self.rest

    def __str__(self) -> str:
        return f"{self.name} is {self.verdict} ({', '.join(sorted(self.causes)) or 'no cause'}): {self.reason[:200]}"


Cells = dict[str, Outcome]

# What the machine left open in one of the runs says nothing of the fault. A fault's own cells must fail all the same.
LEFT_OPEN = {"merged-reads", "noise", "busy-machine", "late-client", "late-sends"}


def read(file: Path) -> Cells:
    """The cells of a cells.jsonl by their names."""
    return {cell.name: cell for cell in map(_outcome, map(json.loads, file.read_text(encoding="utf-8").splitlines()))}


def differences(fault: PlantedFault, healthy: Cells, planted: Cells) -> list[str]:
    """One sentence for every cell that is not as it must be, and for every expectation that met no cell."""
    wrong = [_wrong(fault, healthy.get(name), cell) for name, cell in planted.items()]
    return [sentence for sentence in wrong if sentence] + list(_unmet(fault, planted))


def _wrong(fault: PlantedFault, was: Outcome | None, cell: Outcome) -> str:
    if (causes := _matching(fault, fault.fails, cell)) is not None:
        new = cell.causes - (was.causes if was else frozenset())
        return "" if cell.verdict == "fail" and new & set(causes) else f"{cell}; must fail of {' or '.join(causes)}"
    if (verdict := _matching(fault, fault.becomes, cell)) is not None:
        return "" if cell.verdict == verdict else f"{cell}; must be {verdict}"
    if any(fault.names(pattern, cell.model, cell.rest) for pattern in fault.may_change):
        return ""
    if was is None:
        return f"{cell}; the healthy run has no such cell"
    if any(one.verdict == "inconclusive" and one.causes <= LEFT_OPEN for one in (cell, was)):
        return ""
    same = cell.verdict == was.verdict and cell.causes <= was.causes
    return "" if same else f"{cell}; healthy it was {was.verdict} ({', '.join(sorted(was.causes)) or 'no cause'})"


def _matching(fault: PlantedFault, table: Mapping[str, Any], cell: Outcome) -> Any:
    return next((said for pattern, said in table.items() if fault.names(pattern, cell.model, cell.rest)), None)


def _unmet(fault: PlantedFault, planted: Cells) -> Iterator[str]:
    for pattern in (*fault.fails, *fault.becomes):
        if not any(fault.names(pattern, cell.model, cell.rest) for cell in planted.values()):
            yield f"no cell {pattern} was judged"


def _outcome(cell: Mapping[str, Any]) -> Outcome:
    rest = "/".join(part for part in (cell["check"], cell["variant"]) if part)
    return Outcome(cell["model"], rest, cell["verdict"], frozenset(cell["causes"]), cell["reason"], cell["figures"])
