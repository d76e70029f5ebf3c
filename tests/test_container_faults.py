"""A container that cannot start, or ends as no log tells, says why, and nothing of it stays behind."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.docker import refusal
from fixtures.docker.daemon import Daemon
from fixtures.docker.follower import ending
from fixtures.docker.image import Image
from fixtures.docker.mount import Mount
from fixtures.launchers.container import ContainerError
from fixtures.launchers.handle import Command
from tests import docker_engine
from tests.containers import Containers, program
from tests.docker_engine import OwnEngine
from tests.launching import DEAF, SLEEP, alive, eventually

HUNGRY = "held = [bytearray(8 * 2**20) for _ in range(100)]\n"


@pytest.fixture(scope="module")
def engine() -> Daemon:
    return docker_engine.engine()


@pytest.fixture(scope="module")
def image(engine: Daemon) -> Image:
    return docker_engine.python_image(engine)


@pytest.fixture(scope="module")
def shell(engine: Daemon) -> Iterator[Image]:
    found = docker_engine.shell_image(engine)
    yield found
    engine.client.images.remove(found.id, force=True)


@pytest.fixture
def start(engine: Daemon, image: Image, tmp_path: Path) -> Iterator[Containers]:
    containers = Containers(tmp_path, engine, image)
    yield containers
    containers.close()
    assert containers.left == []


@pytest.mark.parametrize(("argv", "cause", "words"), [
    (("vllm", "serve"), "missing-program", "there is no program vllm in the image"),
    (("/tmp",), "program-not-executable", "/tmp may not be executed"),
])
def test_a_program_that_cannot_be_executed(start: Containers, shell: Image, argv: tuple[str, ...], cause: str,
                                           words: str) -> None:
    """The init's own words, with a cure; neither container nor scratch folder stay."""
    with pytest.raises(ContainerError) as raised:
        start(Command(argv), image=shell)
    assert (raised.value.cause, words in raised.value.reason, bool(raised.value.cure)) == (cause, True, True)
    assert start.left == []
    assert list((start.root / "runs" / start.run).iterdir()) == []
    assert "cotenant: the container ended with exit code" in (start.root / "0.log").read_text()


def test_an_image_for_another_processor(start: Containers, engine: Daemon) -> None:
    """The kernel refuses its programs."""
    foreign = docker_engine.shell_image(engine, foreign=True)
    try:
        with pytest.raises(ContainerError, match="/bin/cat is no program for this machine's processor") as raised:
            start(Command(("/bin/cat",)), image=foreign)
        assert (raised.value.cause, start.left) == ("exec-format-error", [])
    finally:
        engine.client.images.remove(foreign.id, force=True)


def test_a_limit_that_no_container_can_have(start: Containers) -> None:
    """The daemon's refusal is a launch error."""
    with pytest.raises(ContainerError, match="memory") as raised:
        start(program(SLEEP), memory_limit=4096)
    assert raised.value.cause == "memory-limit"


def test_a_folder_that_is_not_there(start: Containers, tmp_path: Path) -> None:
    """It is named, and not made as root in passing."""
    with pytest.raises(ContainerError, match=r"absent is to be mounted") as raised:
        start(program(SLEEP), mounts=[Mount(tmp_path / "absent")])
    assert raised.value.cause == "mount-missing"
    assert not (tmp_path / "absent").exists()


def test_a_gpu_that_the_daemon_cannot_give(start: Containers, engine: Daemon) -> None:
    """Never a container without its GPU."""
    if "nvidia" in engine.runtimes:
        pytest.skip("this Docker engine gives GPUs")
    with pytest.raises(ContainerError, match="get no GPU") as raised:
        start(program(SLEEP), devices=["GPU-0"])
    assert (raised.value.cause, "nvidia-c" in raised.value.cure) == ("nvidia-runtime-missing", True)


def test_an_image_that_has_gone(start: Containers, engine: Daemon) -> None:
    """Removed between the look and the start, and not to be had from a registry."""
    gone = docker_engine.shell_image(engine)
    engine.client.images.remove(gone.id, force=True)
    with pytest.raises(ContainerError) as raised:
        start(program(SLEEP), image=gone)
    assert raised.value.cause == "image-missing"


def test_the_memory_limit_is_named(start: Containers) -> None:
    """OOMKilled is in no log but ours."""
    handle = start(program(HUNGRY + SLEEP), ready=False, memory_limit=64 * 2**20)
    assert handle.wait(10) == -int(signal.SIGKILL)
    told = "OOMKilled, the kernel killed it at its memory limit of 64 MiB"
    assert handle.log.read_text().splitlines()[-1] == f"cotenant: the container was ended by signal 9 (SIGKILL): {told}"


def test_a_kill_is_not_called_out_of_memory(start: Containers) -> None:
    """The same exit code has another cause."""
    handle = start(program(SLEEP), memory_limit=64 * 2**20)
    handle.kill()
    handle.wait(5)
    assert handle.log.read_text().splitlines()[-1] == "cotenant: the container was ended by signal 9 (SIGKILL)"


@pytest.mark.parametrize("deaf", ["", DEAF])
def test_a_frozen_container_can_be_closed(start: Containers, engine: Daemon, deaf: str) -> None:
    """A container that takes no signal is thawed first."""
    handle = start(program(deaf + SLEEP, grace_s=0.5))
    pids = handle.pids()
    engine.client.api.pause(handle.id)
    assert handle.running()
    handle.close()
    assert not any(map(alive, pids))


def test_somebody_else_removes_it(start: Containers, engine: Daemon) -> None:
    """That is said, and close finds nothing left to do."""
    handle = start(program(SLEEP))
    engine.client.api.remove_container(handle.id, force=True)
    assert handle.wait(10) == -int(signal.SIGKILL)
    assert "cotenant: the container was" in handle.log.read_text()
    assert not handle.published()
    handle.close()


def test_a_container_that_cannot_be_made_twice(start: Containers) -> None:
    """Two servers of one name in one run are two containers."""
    one, two = start(program(SLEEP)), start(program(SLEEP))
    assert one.port != two.port
    assert set(one.pids()).isdisjoint(two.pids())


def test_many_threads_may_ask(start: Containers) -> None:
    """A sampler asks for pids, a check for the exit code, while another ends it."""
    handle, problems = start(program(SLEEP)), []

    def ask() -> None:
        try:
            while handle.running():
                handle.pids()
                handle.leftovers()
        except Exception as fault:
            problems.append(fault)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    handle.close()
    for thread in threads:
        thread.join(5)
    assert problems == []
    assert not any(thread.is_alive() for thread in threads)


def test_a_daemon_that_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine lives on and can be ended by its pids; that the daemon is gone is told, and nothing is waited for."""
    with OwnEngine() as own:
        daemon = own.daemon(monkeypatch)
        start = Containers(tmp_path, daemon, docker_engine.shell_image(daemon))
        command = Command(("/bin/sh", "-c", "echo ready; sleep 600"), stop_grace_s=2)
        first, second = start(command), start(command)
        pids = [*first.pids(), *second.pids()]
        own.kill()
        assert eventually(lambda: first.lost and second.lost)
        assert first.running()
        assert all(map(alive, pids))
        began = time.monotonic()
        first.close()
        assert time.monotonic() - began < 20
        assert not any(alive(pid) for pid in pids if pid not in second.pids())
        own.start()  # without live-restore it ends what ran before it
        assert eventually(lambda: second.wait(0) is not None, 10)
        second.close()
        assert not any(map(alive, pids))
        start.close()
        assert start.left == []


@pytest.mark.parametrize(("code", "state", "expected", "words"), [
    (0, {}, 0, "ended with exit code 0"),
    (137, {"OOMKilled": True}, -9, "OOMKilled"),
    (1, {"OOMKilled": True}, 1, "ended with exit code 1: OOMKilled"),
    (139, {}, -11, "signal 11 (SIGSEGV)"),
    (255, {}, 255, "exit code 255"),
    (125, {"Error": "no space left on device"}, 125, "no space left on device"),
])
def test_what_a_daemon_says_of_an_end(code: int, state: dict[str, object], expected: int, words: str) -> None:
    """128 and a signal's number is a signal, 255 is not."""
    end = ending(code, state, 2**30)
    assert (end.code, words in end.words) == (expected, True)


@pytest.mark.parametrize(("words", "cause"), [
    ('OCI runtime create failed: unable to retrieve OCI runtime error: unknown or invalid runtime name: nvidia',
     "nvidia-runtime-missing"),
    ('could not select device driver "" with capabilities: [[gpu]]', "nvidia-runtime-missing"),
    ("nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.8, please update", "driver-too-old"),
    ("nvidia-container-cli: device error: GPU-17: unknown device: unknown", "nvidia-container"),
    ("CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=GPU-17: unknown", "gpu-not-found"),
    ("driver failed programming external connectivity on endpoint x: Bind for 127.0.0.1:8000 failed: port is already "
     "allocated", "port-in-use"),
    ('exec: "docker-init": executable file not found in $PATH', "docker-init-missing"),
    ("write /var/lib/docker/x: no space left on device", "disk-full"),
    ("invalid mount config for type \"bind\": bind source path does not exist: /models", "mount-missing"),
    ("('Connection aborted.', ConnectionRefusedError(111, 'Connection refused'))", "docker-not-running"),
    ("something that nobody has read before", "container-not-started"),
])
def test_what_a_daemon_says_of_a_start(words: str, cause: str) -> None:
    """Each has its cause and its cure; what is not known is quoted."""
    known = refusal.of(words)
    assert (known.cause, bool(known.cure), "{" in known.reason) == (cause, True, False)


def test_it_ends_with_its_own_run_only(start: Containers, tmp_path: Path, engine: Daemon, image: Image) -> None:
    """Two runs at once on one daemon do not touch each other's."""
    other = Containers(tmp_path / "other", engine, image)
    try:
        mine, theirs = start(program(SLEEP)), other(program(SLEEP))
        start.close()
        assert not any(map(alive, mine.pids()))
        assert theirs.running()
        assert theirs.scratch is not None
        assert os.path.isdir(theirs.scratch)  # noqa: PTH112
    finally:
        other.close()
