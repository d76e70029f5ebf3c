"""Annotations: what shuts the gate as workflow commands, which GitHub shows beside the file of the promise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from reports.gate import Gate
from reports.matrix import Entry, View
from reports.record import Cell, Matrix
from reports.text import some, told, visible

CHECKOUT = Path(__file__).resolve().parent.parent
MOST = 10  # that GitHub shows of one step and kind
LONGEST = 1000


def asked(environ: Mapping[str, str]) -> bool:
    """Whether this is a job of GitHub's."""
    return environ.get("GITHUB_ACTIONS") == "true"


def lines(matrix: Matrix, gate: Gate, workspace: str = "") -> Iterator[str]:
    """`::error file=…,line=…,title=…::…` for each reason that shuts the gate, cells of the same reason together.

    `workspace` is the folder that the job's paths are relative to; outside of it no file is named.
    """
    view = View(gate.deciding)
    entries = sorted((entry for row in view.rows for entry in _entries(view, row.cells)),
                     key=lambda entry: entry.first.verdict.rank)
    for entry in entries[: MOST - 1]:
        yield _command(_place(entry.first, workspace), _title(entry), _message(entry))
    if len(entries) >= MOST:
        named = [f"{visible(entry.first.engine, 40)} {entry.first.check}" for entry in entries[MOST - 1 :]]
        yield _command({}, "more that shuts the gate", some(named, 20))
    if not gate.open:
        yield _command({}, "cotenant", gate.reason)


def _entries(view: View, cells: tuple[Cell, ...]) -> Iterator[Entry]:
    row = next(row for row in view.rows if row.cells == cells)
    yield from view.entries(row)


def _title(entry: Entry) -> str:
    cell = entry.first
    return f"{cell.verdict}: {cell.engine} {cell.version} {some(entry.checks, 3)}"


def _message(entry: Entry) -> str:
    cell = entry.first
    parts = (entry.subjects, cell.reason, f"causes: {', '.join(cell.causes)}" if cell.causes else "",
             f"cure: {cell.cure}" if cell.cure else "", f"{cell.profile}/{cell.launcher}/{cell.lineup}")
    return "\n".join(told(part, LONGEST) for part in parts if part)


def _place(cell: Cell, workspace: str) -> dict[str, str]:
    """The line of the promise in the suites, where the job's files hold it."""
    file = CHECKOUT / "suites" / f"test_{cell.promise}.py"
    root = Path(workspace or CHECKOUT).resolve()
    if not file.is_file() or not file.is_relative_to(root):
        return {}
    found = (number for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
             if f'"{cell.check}"' in line)
    return {"file": str(file.relative_to(root)), "line": str(next(found, 1))}


def _command(place: Mapping[str, str], title: str, message: str) -> str:
    properties = {**place, "title": visible(title, 200)}
    shown = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    return f"::error {shown}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
