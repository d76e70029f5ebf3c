"""Runs whose Docker engine, containers or disk fail in the middle: an error with its cause, never a server's failure."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from fixtures.docker import garbage
from fixtures.docker.daemon import Daemon
from tests import composing, docker_engine
from tests.docker_engine import OwnEngine
from tests.docker_runs import Runs, done, left, runs_in
from tests.launching import eventually
from tests.runs import Running, lineup

BASE = "cotenant/base:bookworm"
PASSED = ("pass",)


@pytest.fixture(scope="module")
def engine() -> Daemon:
    composing.compose()
    found = docker_engine.engine()
    docker_engine.python_image(found)
    return found


@pytest.fixture
def runs(tmp_path: Path, engine: Daemon) -> Iterator[Runs]:
    with runs_in(tmp_path) as started:
        yield started


@pytest.fixture(scope="module")
def base_file(engine: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base image as a file, for Docker engines that have none."""
    file = tmp_path_factory.mktemp("base") / "base.tar"
    variables = {**os.environ, **engine.environment}
    subprocess.run(["docker", "save", "-o", str(file), BASE], check=True, timeout=120, env=variables)
    return file


def begin(runs: Runs, which: str, launcher: str = "container", **variables: str) -> Running:
    """A run of the smallest model."""
    file = lineup(runs.root / f"small-{len(runs.started)}.toml")
    return runs("-m", "cpu", f"--lineup={file}", "-k", which, f"--launcher={launcher}", variables=variables)


@pytest.mark.parametrize("launcher", ["container", pytest.param("compose", marks=pytest.mark.long)])
def test_the_docker_engine_is_killed(runs: Runs, base_file: Path, launcher: str) -> None:
    """What was judged stays; all that comes after is an error with cause and cure, and no process stays."""
    with OwnEngine() as own:
        subprocess.run(["docker", "-H", own.url, "load", "-q", "-i", str(base_file)], check=True, timeout=120,
                       stdout=subprocess.DEVNULL)
        running = begin(runs, "not latency and not languages", launcher, DOCKER_HOST=own.url)
        running.until_cells(4)
        own.kill()
        found = done(running)
    assert found.ended.code == 1, found.ended.output
    cells = list(found.verdicts.values())
    assert cells[:3] == [PASSED] * 3  # the engine went away during the fifth, or between
    first = cells.index(("error", "docker-not-running"))
    assert first in (3, 4, 5), cells
    assert set(cells[first:]) == {("error", "docker-not-running")}
    assert len(cells) > first + 4
    assert all(cell.cure and "docker" in cell.cure for cell in found.matrix.cells[first:])
    assert "INTERNALERROR" not in found.ended.output
    assert not [words for words in left(docker_engine.engine(), found.folder.name) if "llamacpp_server" in words]


@pytest.mark.long
def test_the_docker_engine_is_started_again(runs: Runs, base_file: Path) -> None:
    """The cell that saw it go is an error; the next has a server again."""
    with OwnEngine() as own:
        subprocess.run(["docker", "-H", own.url, "load", "-q", "-i", str(base_file)], check=True, timeout=120)
        running = begin(runs, "not latency and not languages", DOCKER_HOST=own.url)
        running.until_cells(3)
        own.kill()
        time.sleep(3)  # its containerd follows it; one that is just ending would be waited for in vain
        own.start()
        found = done(running)
    verdicts = list(found.verdicts.values())
    assert any(verdict[0] == "error" for verdict in verdicts), verdicts
    assert not [verdict for verdict in verdicts if verdict[0] == "fail"], found.ended.output
    assert verdicts[-1] == PASSED


# --- somebody's hand on a container ---------------------------------------------------------------------------------------


def server_of(engine: Daemon, running: Running) -> Any:
    """The container of a run's server."""
    (found,) = (thing for thing in garbage.labelled(engine, running.folder.name) if thing.kind == "container")
    return engine.client.containers.get(found.id)


def paused(engine: Daemon, container: Any) -> None:
    container.pause()


def disconnected(engine: Daemon, container: Any) -> None:
    for name in container.attrs["NetworkSettings"]["Networks"]:
        engine.client.networks.get(name).disconnect(container, force=True)


def removed(engine: Daemon, container: Any) -> None:
    container.remove(force=True)


@pytest.mark.parametrize(("hand", "launcher", "cause"), [
    pytest.param(paused, "container", "container-paused", marks=pytest.mark.long),
    (disconnected, "compose", "container-disconnected"), (removed, "container", "container-removed")])
def test_somebody_s_hand_on_a_container(runs: Runs, engine: Daemon, hand: Callable[[Daemon, Any], None],
                                        launcher: str, cause: str) -> None:
    """During a stream: the cell is an error that says what was done, and nothing is left."""
    running = begin(runs, "ready or identity or growth or returned", launcher)
    running.until_cells(2)
    hand(engine, server_of(engine, running))
    found = done(running, 900)
    assert found.ended.code == 1
    assert found.verdicts["small/memory.growth"] == ("error", cause), found.ended.output
    assert "somebody else" in found.cells["small/memory.growth"].reason
    assert left(engine, found.folder.name) == []


# --- a full disk ----------------------------------------------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own, of that size; needs root."""
    if os.getuid() != 0:
        docker_engine.missing("mounting a small file system needs root")
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True, timeout=10)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=10)


def test_the_disk_of_the_results_is_full(runs: Runs, engine: Daemon) -> None:
    """The run says so and ends; what was judged before can be read, and nothing is left."""
    (runs.root / "run-0").mkdir()
    with small_disk(runs.root / "run-0" / "results", "1m") as disk:
        file = lineup(runs.root / "small.toml")
        running = Running(runs.root / "run-0", "-m", "cpu", f"--lineup={file}", "--launcher=container", "-k",
                          "ready or identity or contract or errors or live or disconnect or returned")
        runs.started.append(running)
        running.until_cells(2)
        with suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        ended = running.end(120)
        run, cells = running.folder.name, running.cells()
    assert ended.code != 0
    assert "No space left on device" in ended.output
    assert len(cells) >= 2
    assert eventually(lambda: not left(engine, run), 30), left(engine, run)
