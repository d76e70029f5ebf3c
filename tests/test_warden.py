"""Whatever becomes of pytest, within seconds nothing is left of what it started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from fixtures.launchers import proc, stray
from tests.launching import DAEMON, DEAF, SLEEP, Launcher, alive, eventually, program, shared_file

CHECKOUT = Path(__file__).parents[1]
PARENT = """
import os, pathlib, sys, threading, time
sys.path.insert(0, sys.argv[1])
from tests.launching import Launcher, program
start = Launcher(pathlib.Path(sys.argv[2]))
handle = start(program(sys.argv[3], grace_s=60))
print(handle._warden.pid, *handle.pids(), handle.scratch, flush=True)
"""
LINGER = "time.sleep(60)"
CLOSING = "handle.close()"
EXIT = "pass"
FORKED = """
if (child := os.fork()) == 0:
    time.sleep(8)
    os._exit(0)
print(child, flush=True)
time.sleep(60)
"""


class Run:
    """A process in the place of pytest, which has launched a server with a daemon and shared memory."""

    def __init__(self, root: Path, then: str, nature: str = "") -> None:
        self.shared = Path("/dev/shm", f"cot-{uuid4().hex}")
        engine = shared_file(self.shared.name, 4096) + DAEMON + nature + SLEEP
        self.process = subprocess.Popen([sys.executable, "-c", PARENT + then, str(CHECKOUT), str(root), engine],
                                        stdout=subprocess.PIPE, text=True)
        *pids, scratch = self.line().split()
        self.pids, self.scratch = [int(pid) for pid in pids], Path(scratch)

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def nothing_left(self) -> bool:
        return not any(map(alive, self.pids)) and not self.shared.exists() and not self.scratch.exists()


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="cot") as folder:
        monkeypatch.setenv("COTENANT_HOME", folder + "/home")
        yield Path(folder)


@pytest.mark.parametrize("then", [LINGER, CLOSING, EXIT], ids=["idle", "closing", "exit"])
def test_the_whole_tree_ends_with_pytest(root: Path, then: str) -> None:
    """Killed while idle, killed in the midst of closing, or gone without closing; the server ignores SIGTERM."""
    run = Run(root, then, DEAF)
    assert len(run.pids) == 3
    if then != EXIT:
        time.sleep(0.3)
        assert all(map(alive, run.pids))
        run.process.kill()
    run.process.communicate()
    assert eventually(run.nothing_left, 5), [proc.command_line(pid) for pid in run.pids if alive(pid)]


def test_a_fork_that_outlives_pytest_holds_nothing_up(root: Path) -> None:
    """It has inherited the pipe to the warden, which therefore watches the process as well."""
    run = Run(root, FORKED)
    fork = int(run.line())
    run.process.kill()
    run.process.wait()
    assert eventually(run.nothing_left, 5)
    assert alive(fork)
    os.kill(fork, signal.SIGKILL)
    run.process.communicate()


def test_strays_of_a_run_that_lost_its_wardens_are_found(root: Path) -> None:
    """Pytest and warden killed at once: the daemon carries the marks of its run, and `end` leaves nothing."""
    run = Run(root, LINGER)
    warden, main, daemon = run.pids
    os.kill(warden, signal.SIGKILL)
    run.process.kill()
    run.process.communicate()
    assert eventually(lambda: not alive(main))
    found = [process for process in stray.strays() if process.scratch == run.scratch]
    assert [process.pid for process in found] == [daemon]
    stray.end(found)
    assert eventually(lambda: not alive(daemon))
    assert not run.scratch.exists()
    run.shared.unlink()


def test_a_warden_is_light_and_deaf(root: Path) -> None:
    """Below 15 MB and 0.1 s of CPU, and no signal from a terminal ends it."""
    start = Launcher(root)
    handle = start(program(SLEEP))
    warden = handle._warden.pid
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(warden, number)
    time.sleep(0.2)
    assert handle.running()
    resident = int(proc.read(f"/proc/{warden}/statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    seen = proc.stat(warden)
    start.close()
    assert resident < 15e6
    assert seen is not None
    assert seen.ticks / os.sysconf("SC_CLK_TCK") < 0.1
