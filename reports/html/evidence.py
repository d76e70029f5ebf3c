"""The evidence beside a record: each cell's JSON and logs, read within bounds and never from outside a run's folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reports.html import excerpt
from reports.html.excerpt import Excerpt
from reports.record import Cell

DOCUMENT_BYTES = 4 << 20
RUN_FILES = ("run.json", "cells.jsonl", "matrix.json")


@dataclass(frozen=True)
class Document:
    """What the recorder wrote beside one cell; empty where there is none or it cannot be read."""

    how_to_repeat: str = ""
    command: tuple[str, ...] = ()
    samples: dict[str, Any] = field(default_factory=dict)

    def numbers(self, name: str) -> list[float]:
        """The samples of this name, empty unless they are a list of numbers."""
        values = self.samples.get(name)
        if not isinstance(values, list):
            return []
        numbers = [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
        return numbers if len(numbers) == len(values) else []


class Evidence:
    """The evidence of one matrix, whose paths are relative to `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._documents: dict[str, Document] = {}
        self._folders: dict[str, Path | None] = {}

    def document(self, cell: Cell) -> Document:
        """The JSON document of a cell."""
        name = next((path for path in cell.evidence if path.endswith(".json")), "")
        if name not in self._documents:
            self._documents[name] = _document(self._read(name)) if name else Document()
        return self._documents[name]

    def excerpt(self, cell: Cell) -> Excerpt | None:
        """The lines of the cell's log that tell of its cause: those that its document holds, else found in its last log."""
        samples = self.document(cell).samples
        if isinstance(lines := samples.get("log_excerpt"), str) and lines.strip():
            return excerpt.of_lines(lines, cell.causes, samples.get("log_line"))
        logs = [path for path in cell.evidence if path.endswith(".log")]
        found = (excerpt.of_file(path, name, cell.causes) for name in reversed(logs) if (path := self._path(name)))
        return next((one for one in found if one), None)

    def devices(self, cells: Sequence[Cell]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Name and content of what the meters kept of each deployment's devices over time."""
        parents = dict.fromkeys(cell.evidence[0].rpartition("/")[0] for cell in cells if cell.evidence)
        folders = {logs for parent in ("logs", *parents) if (logs := self._logs(parent))}
        for path in sorted(path for folder in folders for path in folder.glob("*device.json")):
            content = self._read(str(path))
            if isinstance(content, dict):
                yield (path.name if len(folders) == 1 else f"{path.parent.parent.name}: {path.name}"), content

    def _read(self, name: str) -> Any:
        path = self._path(name)
        if path is None or path.stat().st_size > DOCUMENT_BYTES:
            return None
        try:
            return json.loads(path.read_bytes())
        except (ValueError, OSError, RecursionError):
            return None  # a torn or foreign file: the cell is shown without it

    def _path(self, name: str) -> Path | None:
        """The file if it lies in the logs of a run. A record of others could else name any file of this machine."""
        parent, _, file = name.rpartition("/")
        if not file.endswith((".json", ".log")) or not self._logs(parent):
            return None
        path = self.folder / name
        try:
            return path if path.is_file() and not path.is_symlink() else None
        except (OSError, ValueError):
            return None

    def _logs(self, parent: str) -> Path | None:
        """The folder of logs that this folder is or lies in."""
        if parent not in self._folders:
            self._folders[parent] = self._find_logs(parent)
        return self._folders[parent]

    def _find_logs(self, parent: str) -> Path | None:
        try:
            folder = (self.folder / parent).resolve()
            above = (folder, *folder.parents[:2])
            return next((one for one in above if one.name == "logs" and
                         any((one.parent / name).is_file() for name in RUN_FILES)), None)
        except (OSError, ValueError):
            return None


def _document(content: Any) -> Document:
    if not isinstance(content, dict):
        return Document()
    command, samples = content.get("command"), content.get("samples")
    return Document(str(content.get("how_to_repeat") or ""),
                    tuple(map(str, command)) if isinstance(command, list) else (),
                    samples if isinstance(samples, dict) else {})
