"""The store: one folder for each run, written so that a run killed at any moment keeps every cell it had judged."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from reports import facts, gate, markdown, redact
from reports.facts import FactsError
from reports.record import Cell, Matrix

CELLS, FACTS, MATRIX, MARKDOWN = "cells.jsonl", "run.json", "matrix.json", "matrix.md"
# What is made from a record that is finished, and is wrong as soon as one is gone on with.
DERIVED = (MATRIX, MARKDOWN, "matrix.html", "junit.xml", "metrics.prom", "certificate.md")


class StoreError(Exception):
    """A result that cannot be read or written as asked, in one sentence."""


class DuplicateCellError(StoreError):
    """A key was to be written twice in one run."""


class BusyError(StoreError):
    """A run was to be gone on with that another process is still writing."""


def new_id(now: datetime | None = None) -> str:
    """A run's id: its UTC start, which sorts, and four random hex digits."""
    return f"{(now or datetime.now(UTC)).astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


def timestamp() -> str:
    """Now, UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Run:
    """One run's folder while it is being written: results/<id>/.

    >>> with Run.start(Path("results"), {"require": {"trilingual": ["startup"]}}) as run:
    ...     run.add(cell)
    ...     matrix = run.finish()
    """

    def __init__(self, folder: Path, known: dict[str, Any], cells: Iterable[Cell] = ()) -> None:
        self.folder = folder
        self.facts = known
        self._lock = _lock(folder)
        self._cells = {cell.key: cell for cell in cells}
        self._file = (folder / CELLS).open("ab", buffering=0)

    @classmethod
    def start(cls, results: Path, known: dict[str, Any] | None = None) -> Run:
        """Make a new folder below `results` and point results/latest at it, so that `latest` is never an older run.

        `known` goes into run.json beside `id` and `started`; `require` (lineup -> names) is what the gate goes by.
        """
        identity = new_id()
        folder = results / identity
        folder.mkdir(parents=True)
        run = cls(folder, {"id": identity, "started": timestamp()})
        run.note_facts(**(known or {}))
        run._point_latest()
        return run

    @classmethod
    def resume(cls, folder: Path, drop: Callable[[Cell], bool] = lambda cell: False, **more: Any) -> Run:
        """Go on writing a run that was killed or interrupted, or left cells to be judged again.

        A torn last line and the cells to `drop` leave cells.jsonl, and whatever was made of the first part is removed: the
        run has none of it until it is finished again. `more` is added to its facts. Raises StoreError, BusyError while it
        is written.
        """
        os.close(_lock(folder))  # before anything is changed
        cells, _ = _read_lines(folder / CELLS)
        _refuse_twice(folder / CELLS, cells)
        known = {**_read_facts(folder), "interrupted": False, "finished": None, **more}
        kept = [cell for cell in cells if not drop(cell)]
        write_atomically(folder / CELLS, "".join(f"{cell.model_dump_json()}\n" for cell in kept))
        for name in DERIVED:
            (folder / name).unlink(missing_ok=True)
        run = cls(folder, known, kept)
        run.note_facts()
        run._point_latest()
        return run

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def cells(self) -> tuple[Cell, ...]:
        """What was judged so far, in order."""
        return tuple(self._cells.values())

    @property
    def matrix(self) -> Matrix:
        """The run so far."""
        return Matrix(run=self.facts, cells=self.cells)

    def add(self, cell: Cell) -> None:
        """Append one judged cell; it is on the disk when this returns.

        Raises DuplicateCellError for a key that this run has already judged, OSError where the disk refuses; the file
        is then as it was before.
        """
        if earlier := self._cells.get(cell.key):
            raise DuplicateCellError(
                f"{cell.name} was judged twice in run {self.folder.name}: {earlier.verdict}, then {cell.verdict}"
            )
        before = os.fstat(self._file.fileno()).st_size
        self._cells[cell.key] = cell  # first: Ctrl-C may come between any two lines, and the cell has been judged
        try:
            _write_all(self._file.fileno(), cell.model_dump_json().encode() + b"\n")
            os.fsync(self._file.fileno())
        except OSError:
            del self._cells[cell.key]
            os.ftruncate(self._file.fileno(), before)
            raise

    def note_facts(self, **more: Any) -> None:
        """Add to what is known of the run (any JSON values), without secrets, and write run.json anew; `notes` join those
        there.

        Raises FactsError, and then changes nothing.
        """
        told = redact.here().tree(more)
        known = {**self.facts, **told}
        if self.facts.get("notes") and "notes" in told:
            known["notes"] = list(dict.fromkeys((*self.facts["notes"], *told["notes"])))
        facts.of(known)
        self.facts = known
        write_atomically(self.folder / FACTS, json.dumps(self.facts, indent=1, ensure_ascii=False) + "\n")

    def finish(self, *, interrupted: bool = False, **more: Any) -> Matrix:
        """Write run.json, matrix.json and matrix.md; an interrupted run says so and its gate is shut."""
        self.note_facts(**more, finished=timestamp(), interrupted=interrupted)
        write_matrix(self.folder, self.matrix)
        self._point_latest()
        return self.matrix

    def close(self) -> None:
        """Close cells.jsonl, let others go on with the run. May be called twice."""
        self._file.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _point_latest(self) -> None:
        latest, fresh = self.folder.parent / "latest", self.folder.parent / f".latest-{self.folder.name}"
        try:
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(self.folder.name)
            fresh.replace(latest)
        except OSError as fault:
            # A file system without links, or a folder of that name: the run itself is worth more than the shortcut.
            fresh.unlink(missing_ok=True)
            self.note_facts(notes=[f"results/latest was not set: {fault}"])


def write_matrix(folder: Path, matrix: Matrix) -> None:
    """Write matrix.json and matrix.md into the folder, each at once or not at all."""
    write_atomically(folder / MATRIX, matrix.model_dump_json(by_alias=True, indent=1) + "\n")
    write_atomically(folder / MARKDOWN, markdown.render(matrix, gate.of(matrix)))


def read(path: Path) -> Matrix:
    """A run from its folder (also one that was killed), its matrix.json or its cells.jsonl.

    What is wrong but harmless, such as a last line torn by a kill, is added to the run's `notes`. Raises StoreError.
    """
    if path.is_dir():
        path = path / MATRIX if (path / MATRIX).is_file() else path / CELLS
        if not path.is_file():
            raise StoreError(f"{path.parent}: no run: neither {MATRIX} nor {CELLS} is there")
    if not path.is_file():
        raise StoreError(f"{path}: no such file")
    return _read_cells(path) if path.suffix == ".jsonl" else _read_matrix(path)


def _read_matrix(path: Path) -> Matrix:
    try:
        matrix = Matrix.model_validate_json(path.read_bytes())
    except ValidationError as fault:
        problem = fault.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        message = f"{where}: {problem['msg']}" if where else problem["msg"]
        raise StoreError(f"{path}: not a matrix of this version: {message}") from None
    _refuse_twice(path, matrix.cells)
    _sound(path, matrix.run)
    return matrix


def _read_cells(path: Path) -> Matrix:
    cells, kept = _read_lines(path)
    _refuse_twice(path, cells)
    run = _read_facts(path.parent)
    if torn := path.stat().st_size - kept:
        note = f"the last line of {path.name} was torn when the run was killed: {torn} bytes are ignored"
        run["notes"] = [*run.get("notes", []), note]
    return Matrix(run=run, cells=tuple(cells))


def _read_lines(path: Path) -> tuple[list[Cell], int]:
    """The cells of a cells.jsonl, and how many bytes of the file they take; only its last line may be torn."""
    cells: list[Cell] = []
    kept = 0
    # Not splitlines: that also splits at characters which JSON leaves inside its strings.
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        try:
            cells += [Cell.model_validate_json(line)] if line.strip() else []
        except ValidationError as fault:
            if kept + len(line) == path.stat().st_size:
                break
            raise StoreError(f"{path}: line {number} is damaged: {fault.errors()[0]['msg']}") from None
        kept += len(line) + 1
    return cells, min(kept, path.stat().st_size)


def _read_facts(folder: Path) -> dict[str, Any]:
    path = folder / FACTS
    if not path.is_file():
        return {"notes": [f"no {FACTS} beside {CELLS}: what this run required is not known"]}
    try:
        found = json.loads(path.read_bytes())
    except ValueError as fault:
        raise StoreError(f"{path}: {fault}") from None
    if not isinstance(found, dict):
        raise StoreError(f"{path}: not a JSON object")
    _sound(path, found)
    return found


def _sound(path: Path, run: dict[str, Any]) -> None:
    try:
        facts.of(run)
    except FactsError as fault:
        raise StoreError(f"{path}: {fault}") from None


def _refuse_twice(path: Path, cells: Sequence[Cell]) -> None:
    seen: set[tuple[str | None, ...]] = set()
    for cell in cells:
        if cell.key in seen:
            raise DuplicateCellError(f"{path}: {cell.name} is there twice, and no run writes a key twice")
        seen.add(cell.key)


def _lock(folder: Path) -> int:
    """Hold the folder as long as this descriptor is open; the system lets go of it however the process ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise BusyError(f"{folder}: another process is still writing this run") from None
    except OSError:  # a file system without locks: two at once are then not told apart
        return descriptor
    return descriptor


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def write_atomically(path: Path, text: str) -> Path:
    """Write a file so that nobody ever reads half of it, and return its path."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with fresh.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return fresh.replace(path)
