"""Runs of the real suite in processes of their own, and lineups for them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
SMALLEST = CHECKOUT / "fixtures" / "models" / "trilingual-2m"
# Lines that are not broken, and compiled modules kept, without which every run spends seconds on compiling them anew.
USUAL = {"COLUMNS": "300", "PYTHONDONTWRITEBYTECODE": ""}
# Imports take most of a refusal's time: many command lines in one process take it once.
SEVERAL = """
import json, os, sys, tempfile
import pytest
saved = os.dup(1), os.dup(2)
for line in json.load(open(sys.argv[1])):
    with tempfile.TemporaryFile() as file:
        for fd in (1, 2):
            os.dup2(file.fileno(), fd)
        code = int(pytest.main(line))
        sys.stdout.flush()
        for fd, old in enumerate(saved, 1):
            os.dup2(old, fd)
        file.seek(0)
        print(json.dumps([code, file.read().decode()]), flush=True)
"""


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it printed."""

    code: int
    output: str

    @property
    def ids(self) -> list[str]:
        """The test ids that `--co -q` lists, without file and function."""
        return re.findall(r"^suites/\S+?::\w+\[(.+)\]$", self.output, re.MULTILINE)


def lineup(path: Path, *, engines: Sequence[str] = ("llamacpp",), profiles: Sequence[str] = ("cpu",), head: str = "",
           model: str = "", source: str = str(SMALLEST)) -> Path:
    """Write a lineup of the smallest model, named as its file."""
    path.write_text(f'name = "{path.stem}"\nprofiles = {json.dumps(list(profiles))}\nengines = {json.dumps(list(engines))}\n'
                    f'{head}\n[[models]]\nname = "small"\nsource = "{source}"\n{model}\n')
    return path


def several(lines: Sequence[Sequence[str]], folder: Path, variables: Mapping[str, str] | None = None) -> list[Ended]:
    """Each command line given to pytest, one after another in one process."""
    (folder / "lines.json").write_text(json.dumps([list(line) for line in lines]))
    done = subprocess.run([sys.executable, "-c", SEVERAL, str(folder / "lines.json")], cwd=CHECKOUT, check=True,
                          env={**os.environ, **USUAL, **(variables or {})}, stdout=subprocess.PIPE, text=True,
                          timeout=120)
    return [Ended(*json.loads(line)) for line in done.stdout.splitlines()]


class Running:
    """One `python -m pytest` at work; its results lie below `folder`."""

    def __init__(self, folder: Path, *arguments: str, variables: Mapping[str, str] | None = None) -> None:
        self.results = folder / "results"
        self._output = folder / "output"
        with self._output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pytest", f"--results={self.results}", *arguments], cwd=CHECKOUT,
                env={**os.environ, **USUAL, **(variables or {})}, stdout=output, stderr=subprocess.STDOUT)

    @property
    def folder(self) -> Path:
        """The run's own folder."""
        return (self.results / "latest").resolve()

    def cells(self) -> list[str]:
        """The lines of cells.jsonl so far."""
        file = self.results / "latest" / "cells.jsonl"
        return file.read_text().splitlines() if file.exists() else []

    def until_cells(self, count: int, within_s: float = 60) -> None:
        """Wait until so many cells are judged."""
        deadline = time.monotonic() + within_s
        while len(self.cells()) < count:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.1)

    def signal(self, number: signal.Signals) -> None:
        """Send it to pytest alone."""
        self.process.send_signal(number)

    def end(self, within_s: float = 60) -> Ended:
        """Wait for the end."""
        try:
            return Ended(self.process.wait(within_s), self.output)
        finally:
            self.process.kill()

    @property
    def output(self) -> str:
        """What it printed so far."""
        return self._output.read_text()
