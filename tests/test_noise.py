"""The noise of a machine: what is measured is what was there, and our own processes are not foreign."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fixtures.launchers import proc
from fixtures.load import noise
from fixtures.load.noise import Watch, shares, wake_p99_s

CORES = os.cpu_count() or 1
BURN = "import time\nended = time.time() + {seconds}\nwhile time.time() < ended: pass"


@contextmanager
def orphan(seconds: float) -> Iterator[int]:
    """The pid of a process that burns one processor and is nobody's child."""
    script = f'setsid "{sys.executable}" -S -c "{BURN.format(seconds=seconds)}" >/dev/null 2>&1 & echo $!'
    pid = int(subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout)
    begun = proc.stat(pid)
    try:
        yield pid
    finally:
        if begun and (seen := proc.stat(pid)) and seen.started == begun.started:
            os.kill(pid, 9)


def test_what_a_foreign_process_burns_is_foreign_and_what_a_server_burns_is_not() -> None:
    """The same second seen by one who knows it and one who does not: they differ by what it used."""
    with orphan(3) as pid, Watch(lambda: [], wake_s=0.0) as stranger, Watch(lambda: [pid], wake_s=0.0) as owner:
        ticks = proc.stat(pid)
        began = time.monotonic()
        time.sleep(1)
        used, took = proc.stat(pid), time.monotonic() - began
    assert used is not None
    assert ticks is not None
    burnt = (used.ticks - ticks.ticks) / os.sysconf("SC_CLK_TCK") / took / CORES
    assert burnt > 0.05
    foreign, rest = stranger.noise.foreign_share, owner.noise.foreign_share
    assert foreign is not None
    assert rest is not None
    assert foreign >= 0.5 * burnt
    assert foreign - rest == pytest.approx(burnt, abs=0.1)


def test_what_we_burn_ourselves_is_not_foreign() -> None:
    """This process, children that ended and were waited for, children that were there before and have ended since."""
    child = subprocess.Popen([sys.executable, "-S", "-c", BURN.format(seconds=0.6)])
    with Watch(lambda: [], wake_s=0.0) as watch:
        subprocess.run([sys.executable, "-S", "-c", BURN.format(seconds=0.3)], check=True)
        child.wait()
    before, after = watch._before, noise._Look.take(None, watch._before.ours)
    ours = noise._ticks_of_ours(before.ours, after.ours) / os.sysconf("SC_CLK_TCK")
    assert ours > 0.2
    assert 0 <= watch.noise.steal_share <= 1


def test_without_pids_nobody_knows_what_is_foreign() -> None:
    """Somebody else's endpoint."""
    with Watch(None, wake_s=0.001) as watch:
        pass
    assert watch.noise.foreign_share is None
    assert watch.noise.wake_p99_s == 0.001


def test_the_idle_stretch_comes_first_and_ends() -> None:
    """It is measured where it was not before, and lateness is no less than nothing."""
    began = time.monotonic()
    with Watch(None) as watch:
        assert time.monotonic() - began >= noise.IDLE_S
        with pytest.raises(RuntimeError, match="has ended"):
            _ = watch.noise
    assert 0 <= watch.noise.wake_p99_s < 1
    assert not math.isnan(wake_p99_s(0.0))


def test_a_sleeper_that_wakes_late_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each nap 4 ms too long."""
    nap = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: nap(seconds + 0.004))
    assert wake_p99_s(0.05) >= 0.004


def look(total: int, stolen: int, at_work: int, **ours: tuple[int, int]) -> noise._Look:
    """A look at processes named by letters: (ticks, started), children of a."""
    stats = {}
    for name, (ticks, started) in ours.items():
        fields = ["S", "97" if name != "a" else "1", *["0"] * 9, str(ticks), *["0"] * 7, str(started), "0"]
        stats[ord(name)] = proc.Stat(f"{ord(name)} (x) {' '.join(fields)}".encode())
    return noise._Look(total, stolen, at_work, stats)


@pytest.mark.parametrize(("after", "expected"), [
    (look(1000, 50, 300, a=(100, 1), b=(60, 2)), (0.05, 0.19)),  # 300, of which ours 100 and 10
    (look(1000, 0, 300, a=(150, 1), c=(50, 9)), (0.0, 0.15)),  # b's 70 came to a; c is new
    (look(1000, 0, 300, a=(100, 1), b=(40, 7)), (0.0, 0.21)),  # b's pid is another process's: 40 by it, 50 were before
    (look(1000, 0, 50, a=(100, 1), b=(60, 2)), (0.0, 0.0)),  # ticks of different clocks: never below nothing
    (look(0, 0, 0), (0.0, 0.0)),
])
def test_shares_are_counted_by_ticks(after: noise._Look, expected: tuple[float, float]) -> None:
    """Against a look in which a had used nothing and its child b 50 ticks."""
    assert shares(look(0, 0, 0, a=(0, 1), b=(50, 2)), after) == pytest.approx(expected)
