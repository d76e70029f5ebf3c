"""What the tests of the meter share: processes to hold memory, and a meter of all devices there are."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fixtures.gpu.meter import Meter

STRANGER = 1  # the one process that is here on every machine and was not started by these tests
SETTLED_S = 0.15  # three samples

Servers = list[subprocess.Popen[bytes]]
Metering = Callable[[], Meter]


@contextmanager
def sleepers(count: int = 2) -> Iterator[Servers]:
    """Processes that do nothing, ended afterwards."""
    born = [subprocess.Popen(["sleep", "60"]) for _ in range(count)]
    try:
        yield born
    finally:
        for process in born:
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill and reap."""
    process.kill()
    process.wait()


def pids_of(process: subprocess.Popen[bytes]) -> Callable[[], list[int]]:
    """As a launcher's handle has it: nobody once it has ended."""
    return lambda: [process.pid] if process.poll() is None else []
