"""A published port that answers is not an identity: the engine itself must listen, inside its own container."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.docker.daemon import Daemon
from fixtures.docker.image import Image
from fixtures.launchers.attest import Contained, attest, listening, occupied
from tests import docker_engine
from tests.containers import Containers, program, small_server
from tests.launching import READY, SLEEP, eventually

THIEF = """
import os, socket, sys
server = socket.socket()
server.bind(("0.0.0.0", int(sys.argv[1])))
server.listen()
"""


@pytest.fixture(scope="module")
def engine() -> Daemon:
    return docker_engine.engine()


@pytest.fixture(scope="module")
def image(engine: Daemon) -> Image:
    return docker_engine.python_image(engine)


@pytest.fixture
def start(engine: Daemon, image: Image, tmp_path: Path) -> Iterator[Containers]:
    containers = Containers(tmp_path, engine, image)
    yield containers
    containers.close()


def test_the_proxy_listens_before_the_engine_does(start: Containers) -> None:
    """The port of this machine is open at once, and says nothing."""
    handle = start(program(SLEEP))
    assert isinstance(handle, Contained)
    assert occupied(handle.port)
    assert not listening(handle)
    seen = attest(handle)
    assert (seen.owned, seen.owner, seen.port) == (False, None, handle.port)


@pytest.mark.parametrize("host", ["{host}", "0.0.0.0", ""])
def test_the_engine_that_listens_inside_is_attested(start: Containers, host: str) -> None:
    """It is told by its own pid, not by the proxy's."""
    handle = start(small_server("small", host=host), ready=False)
    assert eventually(lambda: listening(handle))
    seen = attest(handle)
    assert (seen.owned, seen.several, seen.owner_pid) == (True, False, handle.main_pid)
    assert seen.owner_command.startswith("python3")


def test_loopback_inside_is_out_of_reach(start: Containers) -> None:
    """What listens on the container's own 127.0.0.1 does not answer on the published port."""
    handle = start(program(THIEF.replace("0.0.0.0", "127.0.0.1") + SLEEP, "{port}"))
    assert not listening(handle)
    assert not attest(handle).owned


def test_another_process_of_the_container_is_not_the_engine(start: Containers, engine: Daemon) -> None:
    """Somebody who entered the container has taken the port."""
    handle = start(program(SLEEP))
    entered = engine.client.api.exec_create(handle.id, ["python3", "-S", "-c", THIEF + SLEEP, "8000"])
    engine.client.api.exec_start(entered["Id"], detach=True)
    assert eventually(lambda: listening(handle))
    seen = attest(handle)
    assert (seen.owned, seen.owner_pid in handle.pids()) == (False, False)
    assert seen.owner_pid == engine.client.api.exec_inspect(entered["Id"])["Pid"]


def test_a_port_that_no_longer_leads_to_it(start: Containers, engine: Daemon) -> None:
    """A container that was taken off its network listens, and is not the one that answers."""
    handle = start(program(THIEF + SLEEP, "{port}"))
    assert attest(handle).owned
    engine.client.api.disconnect_container_from_network(handle.id, "bridge", force=True)
    assert not handle.published()
    assert not attest(handle).owned


def test_the_dead_do_not_listen(start: Containers) -> None:
    """After its end there is nobody, and no error."""
    handle = start(program(THIEF + READY + "import time; time.sleep(600)", "{port}"))
    handle.kill()
    handle.wait(5)
    assert not listening(handle)
    assert not attest(handle).owned
