"""The measurement: one client, one load, one life of the mock server."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.load.clients import Client, Command, Load, Told
from bench.load.peers import Unavailable
from bench.load.processor import Sampler
from bench.load.server import Schedule, Server
from bench.load.truth import Truth

LIMIT_S = 300.0


@dataclass(frozen=True)
class Cost:
    """Wall and processor seconds of a whole process, and what it used when."""

    wall_s: float
    cpu_s: float
    sampler: Sampler


@dataclass(frozen=True)
class Run:
    """What a client told beside what the server sent. `cost` is that of the client's process and its children."""

    load: Load
    told: Told
    truth: Truth
    cost: Cost

    @property
    def busy_cpu_s(self) -> float:
        """The client's processor seconds from its first request to the last token sent."""
        began = min(sent.received_s for sent in self.truth.requests)
        return self.cost.sampler.between(began, began + self.truth.busy_s)

    @property
    def tokens_per_s(self) -> float:
        """Tokens of the answers that the client was done with when it sent its last request, by the server's clock.

        In a closed loop those are all but one a stream. What still lay in socket buffers at the end, where nobody may
        have read it, is not counted.
        """
        received = [sent.received_s for sent in self.truth.requests]
        seconds = max(received) - min(received)
        return (self.load.requests - self.load.streams) * self.load.tokens / seconds if seconds else 0.0

    @property
    def parsed_per_s(self) -> float:
        """Tokens a second until all answers were made of what was read; the same for a client that parses as it reads."""
        if self.told.parsed_s is None:
            return self.tokens_per_s
        return self.truth.tokens / (self.told.parsed_s - min(sent.received_s for sent in self.truth.requests))


def run(client: Client, load: Load, schedule: Schedule) -> Run:
    """Run a client against a fresh server. Raises Unavailable where it does not come to its end or brings nothing."""
    with tempfile.TemporaryDirectory(prefix="cotenant-bench-") as folder:
        with Server(schedule) as server:
            told, cost = ask(client, server.url, load, Path(folder))
        truth = server.truth
    unanswered = load.requests - sum(sent.finished for sent in truth.requests)
    if unanswered > 0 or told.failed or len(told.seen) < load.requests:
        raise Unavailable(f"of {load.requests} requests the server finished {load.requests - max(unanswered, 0)}, "
                          f"and {len(told.seen)} were reported")
    return Run(load, told, truth, cost)


def ask(client: Client, url: str, load: Load, folder: Path) -> tuple[Told, Cost]:
    """What a client tells of a server at `url`, and what it took. Raises Unavailable."""
    cost = _run(client.command(url, load, folder), folder)
    try:
        return client.read(folder), cost
    except (OSError, ValueError, KeyError, TypeError, IndexError) as fault:
        raise Unavailable(f"its results cannot be read: {type(fault).__name__}: {fault}") from None


def _run(command: Command, folder: Path) -> Cost:
    """Run a process to its end. Raises Unavailable."""
    env = {**os.environ, **command.env}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(command.words, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=output,
                                   stderr=subprocess.STDOUT, start_new_session=True)
        with Sampler(process.pid) as sampler:
            try:
                code: int | None = process.wait(LIMIT_S)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                _end(process)
    wall_s, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if code != 0:
        words = f"ended with {code}" if code is not None else f"was not done after {LIMIT_S:.0f} s"
        raise Unavailable(f"it {words}: {_last_line(folder / 'output.txt')}")
    return Cost(wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, sampler)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End whatever is left of the client: some leave workers behind."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # the usual case: nothing is left
    process.wait()


def _last_line(output: Path) -> str:
    lines: Sequence[str] = output.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "no output")[:200]
