"""Runs of the real suite whose servers are in containers, and what is left of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fixtures.docker import garbage
from fixtures.docker.daemon import Daemon
from fixtures.launchers import proc, stray
from reports import store
from reports.record import Cell, Matrix
from tests.runs import Ended, Running


@dataclass(frozen=True)
class Done:
    """A run that has ended."""

    ended: Ended
    folder: Path
    matrix: Matrix

    @property
    def cells(self) -> dict[str, Cell]:
        """By model and check."""
        return {named(cell): cell for cell in self.matrix.cells}

    @property
    def verdicts(self) -> dict[str, tuple[str, ...]]:
        """Verdict and causes by model and check."""
        return {named(cell): (cell.verdict.value, *cell.causes) for cell in self.matrix.cells}

    @property
    def facts(self) -> dict[str, Any]:
        """run.json."""
        return dict(json.loads((self.folder / "run.json").read_text(encoding="utf-8")))


def named(cell: Cell) -> str:
    """A cell's name within its deployment."""
    return "/".join(part for part in (cell.model, cell.check, cell.variant) if part)


def done(running: Running, within_s: float = 120) -> Done:
    """The run once it has ended."""
    ended = running.end(within_s)
    return Done(ended, running.folder, store.read(running.folder))


def left(daemon: Daemon, run: str, pytest_pid: int = 0) -> list[str]:
    """What there still is of a run: containers, networks, volumes, processes; also what is only labelled with its pid."""
    things = [found.words for found in garbage.labelled(daemon)
              if found.owner.run == run or found.owner.pid == pytest_pid]
    things += [f"network {network.name}" for network in daemon.client.networks.list()
               if run.lower() in str(network.name) and not any(str(network.name) in words for words in things)]
    pids = {process.pid for process in stray.launched() if process.run_id == run}
    pids |= {pid for pid in proc.all_pids() if run in proc.command_line(pid, 10_000)}
    return [*things, *(f"process {pid}: {proc.command_line(pid)}" for pid in sorted(pids))]


class Runs:
    """Starts runs, each with a folder of its own; none outlives the tests."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.started: list[Running] = []

    def __call__(self, *arguments: str, variables: dict[str, str] | None = None) -> Running:
        folder = self.root / f"run-{len(self.started)}"
        folder.mkdir()
        running = Running(folder, *arguments, variables=variables)
        self.started.append(running)
        return running

    def all_done(self, lines: Sequence[Sequence[str]]) -> list[Done]:
        """Several at once."""
        return [done(running) for running in [self(*line) for line in lines]]


@contextmanager
def runs_in(root: Path) -> Iterator[Runs]:
    """Makes runs, and ends those that still go on."""
    runs = Runs(root)
    try:
        yield runs
    finally:
        for running in runs.started:
            running.process.kill()
            running.process.wait(10)
