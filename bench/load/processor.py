"""The processor time of a client while it runs: its whole session of processes, sampled."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy

EVERY_S = 0.25  # a look at every process of the machine takes milliseconds: seldom enough not to disturb the load
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Sampler:
    """Samples the session `leader` until the block ends; `between` tells what it used from one moment to another.

    >>> with Sampler(process.pid) as sampler: process.wait()
    >>> sampler.between(began, ended)
    """

    def __init__(self, leader: int) -> None:
        self._leader = leader
        self._stop = threading.Event()
        self._samples: list[tuple[float, float]] = [(time.monotonic(), 0.0)]
        self._thread = threading.Thread(target=self._keep_looking, daemon=True)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def between(self, began_s: float, ended_s: float) -> float:
        """Seconds of processor time between two moments of time.monotonic(), straight lines between the samples."""
        moments, used = zip(*self._samples, strict=True)
        first, last = numpy.interp([began_s, ended_s], moments, used)
        return float(last - first)

    def _keep_looking(self) -> None:
        while not self._stop.wait(EVERY_S):
            now, used = time.monotonic(), sum(_used(self._leader))
            # Processes that have just ended are counted nowhere for a moment.
            self._samples.append((now, max(used, self._samples[-1][1])))


def _used(leader: int) -> Iterator[float]:
    """Seconds of each process of the session, its ended and awaited children included."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        if int(fields[3]) == leader:
            yield sum(map(int, fields[11:15])) * _TICK_S
