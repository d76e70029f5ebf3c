"""Where Docker does not answer, the cause is told with its cure, and quickly."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer

import pytest

from fixtures import doctor
from fixtures.docker import daemon
from fixtures.docker.fault import DockerFault
from tests import docker_engine


@pytest.fixture
def folder() -> Iterator[Path]:
    """With a name short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="cot") as name:
        yield Path(name)


def fault() -> DockerFault:
    with pytest.raises(DockerFault) as raised:
        daemon.find()
    assert not daemon.answers()
    assert raised.value.cure
    return raised.value


def test_the_engine_that_answers() -> None:
    """Its versions, its cgroups, its runtimes."""
    found = docker_engine.engine()
    assert daemon.answers()
    assert tuple(map(int, found.api.split("."))) >= daemon.LEAST_API
    assert (found.cgroup in (1, 2), "runc" in found.runtimes) == (True, True)
    assert found.version in found.words
    assert found.client.ping()


def test_docker_that_is_not_installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No socket and no program."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{folder}/none")
    monkeypatch.setenv("PATH", str(folder))
    assert fault().cause == "docker-not-installed"


def test_docker_that_was_never_started(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program is there, its socket is not."""
    (folder / "dockerd").write_text("#!/bin/sh\n")
    (folder / "dockerd").chmod(0o755)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{folder}/none")
    monkeypatch.setenv("PATH", str(folder))
    assert fault().cause == "docker-not-running"


def test_docker_that_has_died(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has left its socket."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(f"{folder}/s")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{folder}/s")
    seen = fault()
    assert (seen.cause, "Connection refused" in seen.reason) == ("docker-not-running", True)


def test_docker_that_is_not_for_this_user(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permission denied on the socket: the group docker."""
    with socket.socket(socket.AF_UNIX) as closed, _another_user():
        monkeypatch.setenv("DOCKER_HOST", f"unix://{folder}/s")
        os.seteuid(0) if os.getuid() == 0 else None
        closed.bind(f"{folder}/s")
        closed.listen()
        (folder / "s").chmod(0)
        os.seteuid(65534) if os.getuid() == 0 else None
        seen = fault()
    assert (seen.cause, "usermod -aG docker" in seen.cure) == ("docker-permission", True)


@contextlib.contextmanager
def _another_user() -> Iterator[None]:
    """Back to root at the end, where these tests run as root."""
    try:
        yield
    finally:
        if os.getuid() == 0:
            os.seteuid(0)


@pytest.mark.parametrize("url", ["ssh://me@there", "tcp://192.0.2.1:2375"])
def test_docker_on_another_machine(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its processes cannot be seen; nobody is asked."""
    monkeypatch.setenv("DOCKER_HOST", url)
    began = time.monotonic()
    assert fault().cause == "docker-elsewhere"
    assert time.monotonic() - began < 1


def test_docker_that_hangs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the connection and never answers."""
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(f"{folder}/s")
        deaf.listen()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{folder}/s")
        monkeypatch.setattr(daemon, "ASK_S", 0.3)
        began = time.monotonic()
        assert not daemon.answers()
        assert time.monotonic() - began < 2
        assert fault().cause == "docker-not-running"


class _Old(BaseHTTPRequestHandler):
    """A Docker of 2019."""

    def do_GET(self) -> None:
        """/version, /info and /_ping."""
        said = {"Version": "19.03.1", "ApiVersion": "1.40", "Runtimes": {"runc": {}}}
        self.send_response(500 if self.path.endswith("_ping") else 200)
        self.end_headers()
        self.wfile.write(json.dumps(said).encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def address_string(self) -> str:
        """A socket of this machine has none."""
        return ""


def test_docker_that_is_too_old(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both versions are told."""
    with ThreadingUnixStreamServer(f"{folder}/s", _Old) as old:
        threading.Thread(target=old.serve_forever, daemon=True).start()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{folder}/s")
        seen = fault()
        old.shutdown()
    assert (seen.cause, "19.03.1" in seen.reason, "20.10" in seen.reason) == ("docker-too-old", True, True)


def test_the_chosen_context_is_asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `docker context use` has left it; DOCKER_HOST comes first."""
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    assert daemon.where() == daemon.DEFAULT
    place = folder / "contexts" / "meta" / hashlib.sha256(b"mine").hexdigest()
    place.mkdir(parents=True)
    endpoint = {"docker": {"Host": "unix:///run/user/1000/docker.sock", "SkipTLSVerify": False}}
    (place / "meta.json").write_text(json.dumps({"Name": "mine", "Metadata": {}, "Endpoints": endpoint}))
    (folder / "config.json").write_text('{"currentContext": "mine"}')
    assert daemon.where() == "unix:///run/user/1000/docker.sock"
    monkeypatch.setenv("DOCKER_CONTEXT", "default")
    assert daemon.where() == daemon.DEFAULT
    monkeypatch.setenv("DOCKER_HOST", "unix:///named")
    assert daemon.where() == "unix:///named"


def test_the_doctor_tells_of_docker(folder: Path, monkeypatch: pytest.MonkeyPatch,
                                    capsys: pytest.CaptureFixture[str]) -> None:
    """What answers, and where nothing does, why."""
    monkeypatch.setenv("COLUMNS", "400")
    found = docker_engine.engine()
    doctor.main([])
    lines = {line.split("  ")[0]: line for line in capsys.readouterr().out.splitlines()}
    assert found.version in lines["docker"]
    assert "docker gpu" in lines
    monkeypatch.setenv("DOCKER_HOST", f"unix://{folder}/none")
    doctor.main([])
    lines = {line.split("  ")[0]: line for line in capsys.readouterr().out.splitlines()}
    assert f"{folder}/none" in lines["docker"]
    assert "systemctl start docker" in lines["docker"]
    assert "docker gpu" not in lines
