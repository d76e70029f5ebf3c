"""Many runs as one matrix: of two cells with the same key the newer stands, the older is kept beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from reports import facts, place
from reports.record import Cell, Matrix, Verdict
from reports.store import StoreError, new_id
from reports.text import count, some, visible

ORIGINS = "origins"  # of a merged matrix: the number in `merged` of the run that each cell is from
NAMES_SHOWN = 3


class MergeError(StoreError):
    """Runs that cannot be merged, in one sentence."""


class _Judged(NamedTuple):
    """A cell, the facts of the run that judged it, and when that began."""

    cell: Cell
    run: dict[str, Any]
    began: float


def merge(matrices: Sequence[Matrix]) -> Matrix:
    """One matrix of all the runs' cells, oldest run first (by `started`, then as given).

    The facts hold `merged` (each run's own), `origins` (which of them each cell is from), `require` (the union by lineup),
    `notes`, and `superseded`: older cells whose key a newer run judged again, each with the id of its run. A run that is in
    several of the matrices counts once. Two machines of one name with other hardware are told apart by it. One run alone is
    returned as it is. Raises MergeError.
    """
    if len(matrices) == 1:
        return matrices[0]
    runs = _runs(matrices)
    names = _machines(runs)
    newest: dict[tuple[str | None, ...], _Judged] = {}
    superseded: list[_Judged] = []
    for judged in sorted(_once(matrices, runs, names), key=lambda one: one.began):
        if older := newest.pop(judged.cell.key, None):
            superseded.append(older)
        newest[judged.cell.key] = judged
    ordered = sorted(runs.values(), key=_began)
    numbers = {id(run): number for number, run in enumerate(ordered)}
    run = {**_facts(ordered, _notes(runs, names, newest, superseded)),
           ORIGINS: [numbers[id(one.run)] for one in newest.values()],
           "superseded": [{"run": one.run.get("id"), "cell": one.cell.model_dump(mode="json")} for one in superseded]}
    return Matrix(run=run, cells=tuple(one.cell for one in newest.values()))


def relocate(matrix: Matrix, folder: Path, target: Path) -> Matrix:
    """The same matrix with its evidence, which is relative to the run's folder, named from `target`."""
    prefix = Path(os.path.relpath(folder, target))
    cells = []
    for cell in matrix.cells:
        evidence = tuple(os.path.normpath(prefix / path) for path in cell.evidence)
        cells.append(cell.model_copy(update={"evidence": evidence}))
    return matrix.model_copy(update={"cells": tuple(cells)})


def _runs(matrices: Sequence[Matrix]) -> dict[str, dict[str, Any]]:
    """The facts of every run once, by its id. Raises MergeError where two runs have one id."""
    found: dict[str, dict[str, Any]] = {}
    for number, matrix in enumerate(matrices):
        for run in _parts(matrix):
            name = _name(run, number)
            if found.setdefault(name, run) != run:
                raise MergeError(f"run {name} is given twice and differs: one of the two was changed; leave it out")
    return found


def _once(matrices: Sequence[Matrix], runs: dict[str, dict[str, Any]], names: dict[str, str]) -> Iterator[_Judged]:
    """Every cell of every run once, however many merges have brought it. Raises MergeError."""
    seen: dict[tuple[object, ...], Cell] = {}
    for number, matrix in enumerate(matrices):
        for cell, name in _with_runs(matrix, number):
            judged = _of(cell, name, runs, names)
            other = seen.get((name, judged.cell.key))
            if other is None:
                seen[name, judged.cell.key] = judged.cell
                yield judged
            elif _without_evidence(other) != _without_evidence(judged.cell):
                raise MergeError(f"run {name} says two things of {cell.name}: {other.verdict} and {judged.cell.verdict}")


def _with_runs(matrix: Matrix, number: int) -> Iterator[tuple[Cell, str]]:
    """The cells of one matrix with the names of the runs that they are from, older ones that a merge had kept first."""
    own = [_name(run, number) for run in _parts(matrix)]
    for older in matrix.run.get("superseded") or ():
        try:
            cell, name = Cell.model_validate(older["cell"]), str(older["run"])
        except (KeyError, ValidationError):
            raise MergeError("run.superseded holds something else than older cells: merge the runs themselves") from None
        if name in own:
            yield cell, name
    origins = matrix.run.get(ORIGINS) or [len(own) - 1] * len(matrix.cells)
    if len(origins) != len(matrix.cells) or not all(isinstance(one, int) and 0 <= one < len(own) for one in origins):
        raise MergeError(f"run.{ORIGINS} does not say of each cell which run it is from: merge the runs themselves")
    for cell, origin in zip(matrix.cells, origins, strict=True):
        yield cell, own[origin]


def _parts(matrix: Matrix) -> list[dict[str, Any]]:
    return [*(matrix.run.get("merged") or [_own(matrix.run)])]


def _name(run: dict[str, Any], number: int) -> str:
    return str(run.get("id") or f"without an id, number {number + 1}")


def _without_evidence(cell: Cell) -> Cell:
    # Where it lies depends on the folder that a merge was written to.
    return cell.model_copy(update={"evidence": ()})


def _of(cell: Cell, name: str, runs: dict[str, dict[str, Any]], names: dict[str, str]) -> _Judged:
    machine = names.get(name, cell.machine)
    return _Judged(cell if machine == cell.machine else cell.model_copy(update={"machine": machine}), runs[name],
                   _began(runs[name]))


def _began(run: dict[str, Any]) -> float:
    """When a run began, in seconds of the epoch; of one that does not say, before all others."""
    try:
        began = datetime.fromisoformat(str(run.get("started")))
    except ValueError:
        return float("-inf")
    return (began if began.tzinfo else began.replace(tzinfo=UTC)).timestamp()


def _machines(runs: dict[str, dict[str, Any]]) -> dict[str, str]:
    """What the machine of each run is called, by the run's id: one with other hardware than an older run's of that name gets
    a number. A pass on one machine must not take the place of a failure on another that happens to be called the same."""
    known: dict[str, list[str]] = {}
    called: dict[str, str] = {}
    for name, run in sorted(runs.items(), key=lambda pair: _began(pair[1])):
        machine, hardware = str(run.get("machine") or ""), _hardware(run)
        if machine and hardware:
            seen = known.setdefault(machine, [])
            seen += [hardware] if hardware not in seen else []
            place_of = seen.index(hardware)
            called[name] = f"{machine} ({place_of + 1})" if place_of else machine
    return called


def _hardware(run: dict[str, Any]) -> str:
    # A kernel or a driver may change on one machine.
    found = {"cpu": run.get("cpu"), "memory_gib": run.get("memory_gib"), "gpus": sorted(place.uuids(run))}
    return json.dumps(found) if run.get("cpu") else ""


def _notes(runs: dict[str, dict[str, Any]], names: dict[str, str], newest: dict[tuple[str | None, ...], _Judged],
           superseded: Sequence[_Judged]) -> Iterator[str]:
    for name, machine in names.items():
        if machine != runs[name].get("machine"):
            yield f"run {name} was made on another machine of the same name: it is called {machine} here"
    if undated := [name for name, run in runs.items() if _began(run) == float("-inf")]:
        yield f"{count(len(undated), 'run')} without a start taken for the oldest: {some(undated, NAMES_SHOWN)}"
    better = [one.cell for one in superseded if one.cell.verdict is not Verdict.PASS
              and one.cell.verdict.rank < newest[one.cell.key].cell.verdict.rank]
    if better:
        named = [f"{visible(cell.name, 120)} was {cell.verdict}" for cell in better]
        yield f"{count(len(better), 'older cell')} worse than the newer one that stands: {some(named, NAMES_SHOWN)}"


def _facts(ordered: Sequence[dict[str, Any]], notes: Iterator[str]) -> dict[str, Any]:
    known = [facts.of(run) for run in ordered]
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
        "notes": list(dict.fromkeys((*(note for run in known for note in run.notes), *notes))),
        "merged": list(ordered),
    }


def _own(run: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in run.items() if name not in ("superseded", ORIGINS)}
