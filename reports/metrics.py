"""metrics.prom: a run as Prometheus reads it from a text file (node_exporter's textfile collector, a Pushgateway)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path

from reports import facts, measure
from reports.gate import Gate
from reports.record import Cell, Matrix, Verdict
from reports.store import write_atomically
from reports.text import visible

NAME = "metrics.prom"
KEY = ("machine", "device", "profile", "engine", "version", "launcher", "lineup", "model", "check", "variant")
LONGEST = 200  # characters of a label's value

Labels = Mapping[str, str]
Sample = tuple[Labels, float]

# Every name with what it says; all are gauges: a file holds one run, which does not go on counting.
HELP = {
    "cotenant_run_info": "The run that this file is of; always 1.",
    "cotenant_run_start_timestamp_seconds": "When the run began.",
    "cotenant_run_end_timestamp_seconds": "When the run ended; not there for one that was killed.",
    "cotenant_run_part_seconds": "Where the time of the run went.",
    "cotenant_gate_open": "1 where the gate is open, 0 where it is shut.",
    "cotenant_cells": "How many cells have this verdict.",
    "cotenant_regressions": "How many cells or figures are worse than in the baseline; not there without one.",
    "cotenant_cell": "One judged cell with its verdict; always 1.",
    "cotenant_cell_figure": "A figure of a cell, in the unit that its label names.",
    "cotenant_cell_limit": "The limit that a figure of a cell was judged by, in the unit that its label names.",
}


def write(folder: Path, matrix: Matrix, gate: Gate) -> Path:
    """Write metrics.prom into the run's folder and return its path."""
    return write_atomically(folder / NAME, render(matrix, gate))


def render(matrix: Matrix, gate: Gate) -> str:
    """The document in Prometheus' text format, version 0.0.4."""
    found: dict[str, list[Sample]] = {
        **_run(matrix), "cotenant_gate_open": [({}, float(gate.open))],
        "cotenant_cells": [({"verdict": verdict}, float(gate.counts.get(verdict, 0))) for verdict in Verdict],
        "cotenant_regressions": [({}, float(len(gate.regressions)))] if matrix.run.get("baseline") else [],
        "cotenant_cell": [({**_labels(cell), "verdict": cell.verdict}, 1.0) for cell in matrix.cells],
        "cotenant_cell_figure": list(_figures(matrix.cells)), "cotenant_cell_limit": list(_limits(matrix.cells))}
    return "".join(line for name in HELP for line in _family(name, found.get(name, [])))


def _run(matrix: Matrix) -> dict[str, list[Sample]]:
    known, run = facts.of(matrix.run), matrix.run
    info = {name: str(run.get(name) or "") for name in ("machine", "cpu", "driver", "kernel")}
    times = {"cotenant_run_start_timestamp_seconds": known.started, "cotenant_run_end_timestamp_seconds": known.finished}
    sheet = known.timesheet
    parts = {"setup": sheet.setup, "boots": sheet.boots.seconds, "generation": sheet.generation,
             "waits": sum(wait.seconds for wait in sheet.waits), "own": sheet.own.seconds} if sheet else {}
    return {"cotenant_run_info": [({"run": known.id, **info}, 1.0)],
            **{name: [({}, at)] for name, text in times.items() if (at := _epoch(text)) is not None},
            "cotenant_run_part_seconds": [({"part": part}, seconds) for part, seconds in parts.items()]}


def _epoch(text: str | None) -> float | None:
    try:
        return datetime.fromisoformat(text or "").timestamp()
    except ValueError:
        return None


def _figures(cells: Iterable[Cell]) -> Iterator[Sample]:
    for cell in cells:
        for name, figure in cell.figures.items():
            if (value := measure.number(figure.value)) is not None:
                yield {**_labels(cell), "figure": name, "unit": figure.unit}, value


def _limits(cells: Iterable[Cell]) -> Iterator[Sample]:
    for cell in cells:
        for name, figure in cell.figures.items():
            if (limit := measure.number(figure.limit)) is not None:
                yield {**_labels(cell), "figure": name, "unit": figure.unit}, limit


def _labels(cell: Cell) -> dict[str, str]:
    return {name: getattr(cell, name) or "" for name in KEY}


def _family(name: str, samples: list[Sample]) -> Iterator[str]:
    """The lines of one metric. Labels that were cut may be the same: the first stands, as no series may be there twice."""
    seen: set[str] = set()
    for labels, value in samples:
        words = ",".join(f'{label}="{_value(text)}"' for label, text in labels.items() if text)
        if words not in seen:
            if not seen:
                yield f"# HELP {name} {HELP[name]}\n# TYPE {name} gauge\n"
            seen.add(words)
            yield f"{name}{{{words}}} {value!r}\n" if words else f"{name} {value!r}\n"


def _value(text: str) -> str:
    return visible(text, LONGEST).replace("\\", r"\\").replace('"', r"\"")
