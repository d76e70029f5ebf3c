"""The artefacts: what a finished run gets beside its record, each for another reader, the certificate last of all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from reports import certificate, junit, metrics, scrub
from reports.gate import Gate
from reports.record import Matrix

Writer = Callable[[Path, Matrix, Gate], object]


def write(folder: Path, matrix: Matrix, gate: Gate) -> list[str]:
    """Write them all. What could not be written is said in a sentence each: none of them may cost a run its record."""
    return list(_faults(folder, matrix, gate))


def _faults(folder: Path, matrix: Matrix, gate: Gate) -> Iterator[str]:
    writers: dict[str, Writer] = {"logs": _scrub, "matrix.html": _html, junit.NAME: junit.write, metrics.NAME: metrics.write,
                                  certificate.NAME: certificate.write}
    for name, writer in writers.items():
        try:
            writer(folder, matrix, gate)
        except Exception as fault:
            (folder / name).unlink(missing_ok=True) if name != "logs" else None
            yield f"{name} was not written: {type(fault).__name__}: {fault}"


def _scrub(folder: Path, matrix: Matrix, gate: Gate) -> None:
    scrub.logs(folder / "logs")


def _html(folder: Path, matrix: Matrix, gate: Gate) -> None:
    from reports import html  # what draws pictures is heavy, and most commands need none

    html.write(folder, matrix)
