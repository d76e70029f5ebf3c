"""Whatever becomes of pytest, within seconds the daemon has nothing of its run, and everything of other runs."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from fixtures.docker import garbage, guard
from fixtures.docker.daemon import Daemon
from fixtures.docker.labels import labels
from fixtures.launchers import proc
from tests import docker_engine
from tests.containers import CHECKOUT, Containers, program
from tests.launching import SLEEP, alive, eventually

GONE_S = 20.0
# A process in the place of pytest: run, folder, what to do with a guard and two containers.
PARENT = """
import os, pathlib, signal, subprocess, sys, time
sys.path.insert(0, sys.argv[1])
from fixtures.docker import daemon, garbage, guard
from fixtures.docker.labels import labels
from tests import docker_engine
from tests.containers import Containers, program
from tests.launching import SLEEP
engine = daemon.find()
start = Containers(pathlib.Path(sys.argv[2]), engine, docker_engine.python_image(engine))
start.run = sys.argv[3]
watch = guard.start(start.run, engine, start.root / "runs" / start.run)
print(watch.pid, flush=True)
"""
SERVE = """
handle = start(program(SLEEP))
start(program(SLEEP))
network = engine.client.networks.create("cot-" + start.run, labels=labels(start.run))
engine.client.volumes.create("cot-" + start.run, labels=labels(start.run))
print(*handle.pids(), flush=True)
"""
LINGER = "time.sleep(60)"
CLOSE = """
start.close()
watch.close()
print("closed", flush=True)
"""
LEAVE = "print('left', flush=True)"
FROZEN = "engine.client.api.pause(handle.id)\nprint('frozen', flush=True)\n" + LINGER
FORKED = """
if os.fork() == 0:
    time.sleep(30)
    os._exit(0)
print('forked', flush=True)
time.sleep(60)
"""
CLIENT = """
loop = "while :; do docker create --label cotenant.run=%s --label cotenant.pid=%d cotenant/base:bookworm true; done"
subprocess.Popen(["sh", "-c", loop % (start.run, os.getpid())], env={**os.environ, garbage.CLIENT: start.run},
                 stdout=subprocess.DEVNULL, start_new_session=True)
print('client', flush=True)
""" + LINGER


@pytest.fixture(scope="module")
def engine() -> Daemon:
    found = docker_engine.engine()
    docker_engine.python_image(found)
    return found


class Run:
    """A run of its own in a process of its own."""

    def __init__(self, root: Path, code: str) -> None:
        self.name, self.root = f"test-{uuid4().hex[:12]}", root
        self.process = subprocess.Popen([sys.executable, "-c", PARENT + code, str(CHECKOUT), str(root), self.name],
                                        stdout=subprocess.PIPE, text=True)
        self.guard = int(self.line())

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    @property
    def scratch(self) -> Path:
        return self.root / "runs" / self.name

    def all_gone(self, engine: Daemon) -> bool:
        return not garbage.labelled(engine, self.name) and not self.scratch.exists() and not alive(self.guard)


@pytest.fixture
def runs(tmp_path: Path, engine: Daemon) -> Iterator[list[Run]]:
    started: list[Run] = []
    yield started
    for run in started:
        run.kill()
        for pid in garbage.clients(run.name):
            os.kill(pid, signal.SIGKILL)
        garbage.remove(engine, garbage.labelled(engine, run.name))


def test_a_pytest_that_is_gone_leaves_nothing(tmp_path: Path, engine: Daemon, runs: list[Run]) -> None:
    """Killed with frozen containers, with a fork that holds its pipes, or at an end without `close`; a run beside stays."""
    ways = (LINGER, LINGER, FROZEN, FORKED, LEAVE)
    runs += [Run(tmp_path / str(number), SERVE + then) for number, then in enumerate(ways)]
    beside, *gone = runs
    pids = {run.name: [int(pid) for pid in run.line().split()] for run in runs}
    assert [run.line() for run in gone[1:]] == ["frozen", "forked", "left"]
    kinds = ["container", "container", "network", "volume"]
    assert [found.kind for found in garbage.labelled(engine, gone[0].name)] == kinds
    assert gone[0].scratch.is_dir()
    for run in gone:
        run.kill()
    assert eventually(lambda: all(run.all_gone(engine) for run in gone), GONE_S)
    assert not any(alive(pid) for run in gone for pid in pids[run.name])
    assert [found.kind for found in garbage.labelled(engine, beside.name)] == kinds
    assert all(map(alive, pids[beside.name]))
    assert beside.scratch.is_dir()
    assert {run.name for run in runs} & garbage.living(engine) == {beside.name}


def test_who_makes_containers_for_it_is_ended(tmp_path: Path, engine: Daemon, runs: list[Run]) -> None:
    """A `docker compose up` that outlived pytest would go on making what has just been removed."""
    runs.append(run := Run(tmp_path, CLIENT))
    assert run.line() == "client"
    assert eventually(lambda: garbage.labelled(engine, run.name))
    run.kill()
    assert eventually(lambda: run.all_gone(engine), GONE_S)
    assert garbage.clients(run.name) == []


def test_an_orderly_end_needs_no_guard(tmp_path: Path, engine: Daemon, runs: list[Run]) -> None:
    """It goes home at once."""
    runs.append(run := Run(tmp_path, SERVE + CLOSE))
    run.line()
    began = time.monotonic()
    assert run.line() == "closed"
    assert eventually(lambda: not alive(run.guard))
    assert time.monotonic() - began < 10


def test_it_costs_next_to_nothing(tmp_path: Path, engine: Daemon) -> None:
    """It sleeps, in less than 16 MiB, and a signal that is for pytest does not end it."""
    with guard.start(f"test-{uuid4().hex[:12]}", engine, tmp_path / "none") as watch:
        time.sleep(0.5)
        seen = proc.stat(watch.pid)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(watch.pid, number)
        time.sleep(0.2)
        assert alive(watch.pid)
        status = proc.read(f"/proc/{watch.pid}/status").decode()
        resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        assert resident < 16 * 1024
        later = proc.stat(watch.pid)
        assert seen
        assert later
        assert later.ticks - seen.ticks <= 1
    assert eventually(lambda: not alive(watch.pid))


@pytest.mark.long
@pytest.mark.parametrize("delay_s", [round(random.Random(7).uniform(0, 4), 2) for _ in range(12)])
def test_killed_at_any_moment(tmp_path: Path, engine: Daemon, runs: list[Run], delay_s: float) -> None:
    """A request that was on its way to the daemon is still answered, by a container that must go, too."""
    runs.append(run := Run(tmp_path, SERVE * 3 + LINGER))
    time.sleep(delay_s)
    run.kill()
    assert eventually(lambda: not alive(run.guard), GONE_S)
    time.sleep(1)
    assert run.all_gone(engine)


def test_what_is_labelled_is_removed_and_nothing_else(engine: Daemon) -> None:
    """A container without our labels, or of another run, is not ours."""
    image = docker_engine.python_image(engine)
    mine, other = f"test-{uuid4().hex[:12]}", f"test-{uuid4().hex[:12]}"
    made = [engine.client.api.create_container(image.id, ["true"], labels=marks)["Id"]
            for marks in (labels(mine), labels(other), {"cotenant.run": mine}, {})]
    try:
        found = garbage.labelled(engine, mine)
        assert [thing.id for thing in found] == made[:1]
        assert garbage.remove(engine, found) == []
        assert garbage.remove(engine, found) == []
        assert garbage.labelled(engine, mine) == []
        assert [thing.id for thing in garbage.labelled(engine, other)] == [made[1]]
    finally:
        for identity in made[1:]:
            engine.client.api.remove_container(identity, force=True)


def test_a_run_that_goes_on_is_no_garbage(engine: Daemon, tmp_path: Path) -> None:
    """Its pytest is this one."""
    start = Containers(tmp_path, engine, docker_engine.python_image(engine))
    try:
        start(program(SLEEP))
        assert start.run in garbage.living(engine)
        assert start.run not in {found.owner.run for found in garbage.find(engine)}
    finally:
        start.close()
