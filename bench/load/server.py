"""The mock server as a process: compiled once, started for one load, its log read when it is stopped."""

from __future__ import annotations

import hashlib
import os
import select
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from bench.load import truth
from bench.load.truth import Truth
from fixtures.setup import home

SOURCE = Path(__file__).with_name("mock") / "server.c"
_START_S, _STOP_S = 5.0, 30.0


class NoServer(Exception):
    """The mock server cannot be made or run here."""


@dataclass(frozen=True)
class Schedule:
    """When the server sends: milliseconds to the first token and between tokens, `batch` events a send in a flood.

    `stalls` are (number of the request, token from 0, milliseconds).
    """

    ttft_ms: float = 50.0
    itl_ms: float = 10.0
    batch: int = 1
    stalls: tuple[tuple[int, int, float], ...] = ()

    @property
    def options(self) -> list[str]:
        """As the server takes it."""
        words = ["--ttft-ms", str(self.ttft_ms), "--itl-ms", str(self.itl_ms), "--batch", str(self.batch)]
        planted = ",".join(f"{number}:{token}:{ms}" for number, token, ms in self.stalls)
        return [*words, "--stall", planted] if planted else words


def compiled(folder: Path | None = None) -> Path:
    """The server's program, made with gcc where this source was not compiled before. Raises NoServer."""
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    program = (folder or home() / "bench" / "mock") / f"server-{digest}"
    if program.exists():
        return program
    if shutil.which("gcc") is None:
        raise NoServer("gcc was not found: install it (Debian, Ubuntu: apt install gcc libc6-dev)")
    program.parent.mkdir(parents=True, exist_ok=True)
    fresh = program.with_name(f"{program.name}.{os.getpid()}")
    made = subprocess.run(["gcc", "-O2", "-o", str(fresh), str(SOURCE)], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        raise NoServer(f"gcc refused {SOURCE.name}: {made.stderr.strip()[:500]}")
    fresh.replace(program)
    return program


class Server:
    """A context manager; `url` inside it, `truth` after it.

    >>> with Server(Schedule()) as server: ask(server.url)
    >>> server.truth.tokens
    """

    def __init__(self, schedule: Schedule, program: Path | None = None) -> None:
        self._schedule, self._program = schedule, program
        self._truth: Truth | None = None
        self.port = 0

    def __enter__(self) -> Server:
        self._folder = tempfile.TemporaryDirectory(prefix="cotenant-mock-")
        self._log = Path(self._folder.name) / "log"
        words = [str(self._program or compiled()), "--log", str(self._log), *self._schedule.options]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None, "it was opened as a pipe"
        ready, _, _ = select.select([self._process.stdout], [], [], _START_S)
        line = self._process.stdout.readline() if ready else ""
        if not line.strip().isdigit():
            self._end()
            raise NoServer(f"the mock server named no port within {_START_S:.0f} s")
        self.port = int(line)
        return self

    @property
    def url(self) -> str:
        """Without /v1."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def truth(self) -> Truth:
        """What it wrote down; only after the context was left."""
        assert self._truth is not None, "the server writes its log when it is stopped"
        return self._truth

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self._end(keep=kind is None)

    def _end(self, keep: bool = False) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_S)
            if keep:
                self._truth = truth.read(self._log)
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._folder.cleanup()
