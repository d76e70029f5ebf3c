"""junit.xml: the record as Jenkins and GitLab read it, with the gate as a test case of its own."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement

from reports import facts as known
from reports.gate import Gate
from reports.matrix import Row, View
from reports.record import Cell, Figure, Matrix, Verdict
from reports.store import write_atomically
from reports.text import told, visible

NAME = "junit.xml"
LONGEST = 2000
PLAIN = (
    *("machine", "device", "profile", "engine", "version", "build", "launcher", "lineup", "model", "check", "variant"),
    *("verdict", "reason", "cure"),
)
OF_DEPLOYMENT = ("machine", "device", "profile", "engine", "version", "launcher", "lineup")
# What is not judged, or excused, is skipped: neither tool knows more than these three.
OUTCOMES = {Verdict.PASS: "", Verdict.FAIL: "failure", Verdict.UNEXPECTED_PASS: "failure", Verdict.ERROR: "error"}


def facts(cell: Cell) -> list[tuple[str, str]]:
    """The cell as name and value, empty ones left out; causes and evidence once for each."""
    found = [
        *((name, getattr(cell, name)) for name in PLAIN),
        *(("cause", cause) for cause in cell.causes),
        *((f"figure.{name}", _figure(figure)) for name, figure in cell.figures.items()),
        *(("evidence", path) for path in cell.evidence),
    ]
    return [(visible(name), told(str(value))) for name, value in found if value]


def write(folder: Path, matrix: Matrix, gate: Gate) -> Path:
    """Write junit.xml into the run's folder and return its path."""
    return write_atomically(folder / NAME, render(matrix, gate))


def render(matrix: Matrix, gate: Gate) -> str:
    """The document: a suite for each deployment and one for the gate.

    Without properties of test cases, which the schema of Jenkins' xUnit plugin does not have: what a cell says more is its
    system-out, which both tools show.
    """
    view, run = View(matrix.cells), known.of(matrix.run)
    took = run.seconds
    root = Element("testsuites", {"name": "cotenant"})
    for row in view.rows:
        suite = _suite(root, " · ".join(view.label(row.deployment)), row.cells, took, run.started)
        _properties(suite, row, run.id)
        for cell in row.cells:
            _case(suite, cell, took.get(key(cell)))
    _gate(root, gate)
    ElementTree.indent(root, " ")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def key(cell: Cell) -> str:
    """Under which the facts of a run say how many seconds the cell took."""
    return f"{cell.name}@{cell.version}"


def _suite(root: Element, name: str, cells: Sequence[Cell], took: Mapping[str, float], started: str | None) -> Element:
    kinds = [OUTCOMES.get(cell.verdict, "skipped") for cell in cells]
    counts = {"tests": len(cells), "failures": kinds.count("failure"), "errors": kinds.count("error"),
              "skipped": kinds.count("skipped")}
    suite = SubElement(root, "testsuite", {"name": visible(name), **{kind: str(number) for kind, number in counts.items()}})
    if any(key(cell) in took for cell in cells):
        suite.set("time", f"{sum(took.get(key(cell), 0.0) for cell in cells):.3f}")
    if started:
        suite.set("timestamp", visible(started, 40))
    if cells:
        suite.set("hostname", visible(cells[0].machine, 80))
    return suite


def _properties(suite: Element, row: Row, identity: str) -> None:
    properties = SubElement(suite, "properties")
    found = {"run": identity, **{name: getattr(row.deployment, name) for name in OF_DEPLOYMENT},
             "build": ", ".join(sorted({cell.build for cell in row.cells if cell.build}))}
    for name, value in found.items():
        if value:
            SubElement(properties, "property", {"name": name, "value": told(value)})


def _case(suite: Element, cell: Cell, seconds: float | None) -> None:
    place = (cell.profile, cell.launcher, cell.engine, cell.lineup, cell.model)
    name = f"{cell.check}/{cell.variant}" if cell.variant else cell.check
    case = SubElement(suite, "testcase", {"name": visible(name), "classname": visible(".".join(filter(None, place)))})
    if seconds is not None:
        case.set("time", f"{seconds:.3f}")
    outcome = OUTCOMES.get(cell.verdict, "skipped")
    if outcome:
        kind, message = ", ".join(cell.causes) or str(cell.verdict), f"{cell.verdict}: {cell.reason}".removesuffix(": ")
        found = SubElement(case, outcome, {"type": visible(kind), "message": told(message, LONGEST)})
        found.text = "\n".join(_told(cell))
    SubElement(case, "system-out").text = "\n".join(f"{name}: {value}" for name, value in facts(cell))


def _told(cell: Cell) -> Iterator[str]:
    yield told(cell.reason, LONGEST)
    if cell.causes:
        yield f"cause: {visible(', '.join(cell.causes))}"
    if cell.cure:
        yield f"cure: {told(cell.cure)}"


def _gate(root: Element, gate: Gate) -> None:
    """Where only test cases are looked at, a gate that is shut for what is missing or worse must not look green."""
    suite = SubElement(root, "testsuite", {"name": "gate", "tests": "1", "failures": str(int(not gate.open)), "errors": "0",
                                           "skipped": "0"})
    case = SubElement(suite, "testcase", {"name": "gate", "classname": "cotenant"})
    if not gate.open:
        shut = SubElement(case, "failure", {"type": "gate-shut", "message": visible(gate.reason, LONGEST)})
        lines = (*(f"regression {bad.cell}: {bad.sentence}" for bad in gate.regressions), *gate.missing)
        shut.text = "\n".join(told(line, LONGEST) for line in lines)
    SubElement(case, "system-out").text = "\n".join(told(line, LONGEST) for line in (gate.reason, *gate.notes))


def _figure(figure: Figure) -> str:
    limit = "" if figure.limit is None else f" (limit {figure.limit})"
    return f"{figure.value} {figure.unit}".strip() + limit
