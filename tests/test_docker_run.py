"""Whole runs with servers in containers: the same verdicts as of processes, and nothing left however they end."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from fixtures.docker.daemon import Daemon
from fixtures.setup import Environment
from tests import composing, docker_engine
from tests.docker_runs import Done, Runs, left, runs_in
from tests.gpus import Bench
from tests.launching import eventually
from tests.runs import Running, lineup, several

LAUNCHERS = ("process", "container", "compose")
SHORT = "ready or identity or contract or errors or disconnect or shutdown or kill or returned"
GONE_S = 40.0


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


def by_launcher(runs: Runs, *arguments: str) -> dict[str, Done]:
    """The same run with every launcher, the two that need Docker side by side on one daemon."""
    lines = {launcher: [*arguments, f"--launcher={launcher}"] for launcher in LAUNCHERS}
    (process,) = runs.all_done([lines["process"]])
    both = runs.all_done([lines["container"], lines["compose"]])
    return dict(zip(LAUNCHERS, (process, *both), strict=True))


def test_the_verdicts_do_not_depend_on_the_launcher(runs: Runs, engine: Daemon) -> None:
    """Start, contract, ends by signal and memory of a real llama.cpp, two runs at once on one Docker engine."""
    file = lineup(runs.root / "small.toml")
    found = by_launcher(runs, "-m", "cpu", f"--lineup={file}", "-k", SHORT)
    assert len(found["process"].verdicts) == 8
    for launcher in ("container", "compose"):
        assert found[launcher].verdicts == found["process"].verdicts, found[launcher].ended.output
        assert {cell.launcher for cell in found[launcher].matrix.cells} == {launcher}
        assert f"; launcher {launcher}" in found[launcher].ended.output
        assert left(engine, found[launcher].folder.name) == []


@pytest.mark.long
@pytest.mark.parametrize("name", ["llamacpp", "ollama", "vllm", "sglang"])
def test_the_verdicts_of_every_engine(runs: Runs, name: str) -> None:
    """Three models side by side, every check that no noise decides."""
    steady = "not latency and not busy and not growth and not robust"
    lines = [["-m", "cpu", "--lineup=trilingual", f"--engine={name}", "-k", steady, f"--launcher={launcher}"]
             for launcher in LAUNCHERS]
    process, container, compose = (runs.all_done([line])[0] for line in lines)
    assert len(process.verdicts) > 20
    assert container.verdicts == process.verdicts
    assert compose.verdicts == process.verdicts


# --- killed ---------------------------------------------------------------------------------------------------------------


def killed(runs: Runs, engine: Daemon, launchers: Sequence[str], seed: int) -> None:
    """Start runs side by side, SIGKILL each at a random moment, and look what is left of each."""
    moments = random.Random(seed)
    file = lineup(runs.root / f"small-{seed}.toml")
    begun = [(runs("-m", "cpu", f"--lineup={file}", f"--launcher={launcher}"), time.monotonic() + moments.uniform(1.5, 9))
             for launcher in launchers]
    for running, moment in sorted(begun, key=lambda pair: pair[1]):
        time.sleep(max(0.0, moment - time.monotonic()))
        before = len(running.cells())
        running.signal(signal.SIGKILL)
        assert running.process.wait(10) == -signal.SIGKILL, running.output
        assert len(running.cells()) >= before
    for running, _ in begun:
        assert_gone(engine, running)


def assert_gone(engine: Daemon, running: Running) -> None:
    """Nothing that it made is left after a while. A run that was killed before it had a folder has made nothing by name."""
    run = running.folder.name if (running.results / "latest").exists() else "never-begun"
    assert eventually(lambda: not left(engine, run, running.process.pid), GONE_S), left(engine, run, running.process.pid)


def test_killed_at_random_moments(runs: Runs, engine: Daemon) -> None:
    """Three times; its containers, networks and processes go, its cells stay."""
    killed(runs, engine, ("container", "compose", "container"), seed=7)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10))
def test_killed_at_many_random_moments(runs: Runs, engine: Daemon, seed: int) -> None:
    """Twenty times, with and without Compose."""
    killed(runs, engine, ("container", "compose"), seed)


def test_killed_with_a_server_up(runs: Runs, engine: Daemon) -> None:
    """The moment that counts is among them: a container runs, and two cells are judged."""
    file = lineup(runs.root / "small.toml")
    running = runs("-m", "cpu", f"--lineup={file}", "--launcher=container")
    running.until_cells(3)
    run = running.folder.name
    assert any(words.startswith("container ") for words in left(engine, run))
    running.signal(signal.SIGKILL)
    running.process.wait(10)
    assert_gone(engine, running)
    assert len(running.cells()) >= 3


# --- without Docker, and by default ---------------------------------------------------------------------------------------


def test_without_a_docker_engine(tmp_path: Path) -> None:
    """What needs one is a usage error with its cure, whatever needs none goes on."""
    file = lineup(tmp_path / "small.toml")
    base = ["-m", "cpu", f"--lineup={file}", "-k", "ready"]
    container, static = several([[*base, "--launcher=container", f"--results={tmp_path}/a"], [
        "-m", "cpu and static", f"--lineup={file}", f"--results={tmp_path}/c"]],
        tmp_path, {"DOCKER_HOST": f"unix://{tmp_path}/none.sock"})
    said = " ".join(container.output.split())
    assert container.code == 4, container.output
    assert "launcher container: no Docker engine is running" in said
    assert "systemctl start docker" in said
    assert static.code == 0, static.output


def test_an_image_that_is_not_to_be_pulled(runs: Runs) -> None:
    """By its engine's name it is a usage error, else its cells are unavailable; never a server's failure."""
    file = lineup(runs.root / "small.toml")
    base = ["-m", "cpu", f"--lineup={file}", "-k", "ready", "--launcher=container", "--pull=never",
            "--image=llamacpp=registry.local:5000/nobody/llama.cpp:none"]
    named, whole = runs.all_done([[*base, "--engine=llamacpp"], base])
    assert named.ended.code == 4, named.ended.output
    assert "registry.local:5000/nobody/llama.cpp:none" in named.ended.output
    assert named.verdicts == {}
    assert whole.verdicts == {"small/startup.ready": ("unavailable", "image-missing")}
    assert "docker pull registry.local:5000/nobody/llama.cpp:none" in whole.cells["small/startup.ready"].cure


@pytest.fixture
def bench(tmp_path: Path, llama_environment: Environment) -> Bench:
    """A machine with one card of the profile h200."""
    found = Bench(tmp_path, llama_environment)
    lineup(tmp_path / "gpu.toml", engines=["vllm"], profiles=["h200"], model="context = 512\nshare = 0.1")
    return found


@pytest.mark.parametrize(("host", "own", "launcher"), [
    ("", False, "container"), ("", True, "process"), ("unix:///nowhere/docker.sock", False, "process")])
def test_how_a_gpu_profile_is_launched_by_default(bench: Bench, engine: Daemon, host: str, own: bool, launcher: str) -> None:
    """In a container where Docker answers and nobody named an environment of this machine; the first line says which."""
    running = Running(bench.root, *(bench.arguments if own else ()), f"--lineup={bench.root}/gpu.toml", "-m", "h200",
                      "-k", "ready", "--pull=never", "--engine=vllm",
                      variables={**bench.variables(), **({"DOCKER_HOST": host} if host else {})})
    output = running.end(60).output
    assert f"; launcher {launcher}\n" in output
    if not own:  # neither an image nor an environment is here
        assert running.process.returncode == 4, output
        assert ("docker pull vllm/vllm-openai" if launcher == "container" else "--engine-env") in output
