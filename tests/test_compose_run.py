"""Whole runs of strangers' Compose files: the right causes, what the files lack, and their own things left alone."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fixtures.compose.reading import lineup_of
from fixtures.docker.daemon import Daemon
from fixtures.gpu.profile import committed
from fixtures.setup import Environment
from tests import composing, docker_engine
from tests.docker_runs import Done, done, left, runs_in
from tests.launching import eventually
from tests.strangers_here import Strangers, llama_image, strangers_in


@pytest.fixture(scope="module")
def engine() -> Daemon:
    composing.compose()
    return docker_engine.engine()


@pytest.fixture(scope="module")
def strangers(engine: Daemon, llama_environment: Environment,
              tmp_path_factory: pytest.TempPathFactory) -> Iterator[Strangers]:
    docker_engine.python_image(engine)
    with llama_image(engine, llama_environment, tmp_path_factory.mktemp("image")) as image:
        yield strangers_in(tmp_path_factory.mktemp("strangers"), image)


@pytest.fixture
def judge(engine: Daemon, strangers: Strangers, tmp_path: Path) -> Iterator[Any]:
    """Runs the suite on one of the files; nothing of the run is left."""
    with runs_in(tmp_path) as runs:

        def judged(name: str, which: str, within_s: float = 120) -> Done:
            found = done(runs("-m", "cpu", strangers.file(name), "-k", which), within_s)
            assert left(engine, found.folder.name) == []
            return found

        yield judged


def lacks(found: Done) -> list[tuple[str, str]]:
    return [(each["service"], each["cause"]) for each in found.facts["compose"]["lacks"]]


@pytest.fixture
def their_own(engine: Daemon, strangers: Strangers) -> Iterator[tuple[Any, Any]]:
    """What the stranger has running: a container of the file's name on the file's port, and the file's volume."""
    image = docker_engine.python_image(engine).id
    volume = engine.client.volumes.create(f"{strangers.stack}_cache")
    container = engine.client.containers.run(
        image, ["python3", "-m", "http.server", "8080"], name=f"{strangers.stack}-chat", detach=True,
        ports={"8080/tcp": None}, volumes={volume.name: {"bind": "/cache", "mode": "rw"}})
    container.reload()
    strangers.say(CHAT_PORT=container.attrs["NetworkSettings"]["Ports"]["8080/tcp"][0]["HostPort"])
    yield container, volume
    strangers.say()
    container.remove(force=True)
    volume.remove()


def test_two_that_wait(judge: Any, strangers: Strangers, their_own: tuple[Any, Any], engine: Daemon) -> None:
    """A sound file passes, beside the very deployment that it describes, of which nothing is touched."""
    container, volume = their_own
    before = container.attrs["State"]
    found = judge("waiting", "ready or identity or sequential or contract or leave or returned")
    assert found.ended.code == 0, found.ended.output
    assert set(found.verdicts.values()) == {("pass",)}
    assert {name.partition("/")[0] for name in found.verdicts} >= {"chat", "draft", "coexistence.sequential"}
    assert {(cell.launcher, cell.lineup) for cell in found.matrix.cells} == {("compose", strangers.stack)}
    assert lacks(found) == [("chat", "health-generates-nothing"), ("chat", "published-beyond-loopback")]
    assert "waiting.yaml: the health check of chat generates nothing" in found.ended.output
    container.reload()
    assert {key: container.attrs["State"][key] for key in ("Status", "StartedAt", "Pid")} == {
        key: before[key] for key in ("Status", "StartedAt", "Pid")} | {"Status": "running"}
    assert engine.client.volumes.get(volume.name).attrs["CreatedAt"] == volume.attrs["CreatedAt"]


def test_two_that_do_not_wait(judge: Any) -> None:
    """They start together; a port that leads nowhere is told, and the server judged where it listens."""
    found = judge("plain", "ready or concurrent")
    assert set(found.verdicts) == {"small/startup.ready", "large/startup.ready", "coexistence.concurrent"}
    assert set(found.verdicts.values()) == {("pass",)}
    assert found.facts["compose"]["left_out"] == ["webui"]
    assert lacks(found) == [
        ("llama-small", "health-generates-nothing"), ("llama-small", "published-beyond-loopback"),
        ("llama-large", "health-generates-nothing"), ("llama-large", "depends-without-condition"),
        ("llama-large", "port-mismatch")]
    assert "plain.yaml: service llama-large publishes container port 8080, its server listens on 9090" in found.ended.output


def test_too_little_memory(judge: Any) -> None:
    """The kernel ends the server; its limit is named, the other one goes on."""
    found = judge("small-memory", "ready or sequential or contract")
    assert found.ended.code == 1
    assert found.verdicts["chat/startup.ready"] == found.verdicts["chat/api.contract"] == ("pass",)
    assert found.verdicts["draft/startup.ready"] == ("fail", "container-out-of-memory")
    assert found.verdicts["coexistence.sequential"][0] == "fail"
    assert found.verdicts["draft/api.contract"] == ("unavailable", "not-started")
    cell = found.cells["draft/startup.ready"]
    assert "its memory limit of 64 MiB" in cell.reason
    assert "mem_limit" in cell.cure


def test_a_health_check_that_never_passes(judge: Any) -> None:
    """The server serves, but what waits for its health never starts, as the user would see it."""
    found = judge("never-healthy", "ready or sequential")
    assert found.verdicts["chat/startup.ready"] == ("pass",)
    assert found.verdicts["draft/startup.ready"] == ("fail", "never-healthy")
    assert found.cells["draft/startup.ready"].reason.startswith("service chat never became healthy; its health check said:")
    assert found.verdicts["coexistence.sequential"] == ("fail", "never-healthy")


def test_a_restart_loop(judge: Any) -> None:
    """`restart: always` does not hide that the server ends at once; it is started once."""
    found = judge("restarts", "ready")
    assert found.verdicts == {"chat/startup.ready": ("fail", "model-not-found")}
    assert "/models/cha.gguf" in found.cells["chat/startup.ready"].reason
    changes = next(found.folder.glob("compose/*/changes.txt")).read_text()
    assert 'chat: restart always is "no", a restart would hide an exit' in changes
    assert len(list(found.folder.glob("logs/*.log"))) == 1


def test_a_server_that_only_its_container_reaches(strangers: Strangers) -> None:
    """Told before anything is started."""
    found = lineup_of(strangers.folder / "loopback.yaml", committed()["cpu"])
    assert [finding.cause for finding in found.findings if finding.cause.startswith("listens")] == ["listens-on-loopback"]


@pytest.mark.long
def test_it_never_answers(judge: Any) -> None:
    """And fails, within its limit."""
    found = judge("loopback", "ready", 200)
    assert found.verdicts == {"chat/startup.ready": ("fail", "no-first-token")}


@pytest.mark.long
@pytest.mark.parametrize("name", ["waiting", "plain"])
def test_every_check(judge: Any, name: str) -> None:
    """The whole suite on a sound file: nothing fails, and nothing is an error of the suite."""
    found = judge(name, "not latency", 600)
    bad = {cell: verdict for cell, verdict in found.verdicts.items() if verdict[0] in ("fail", "error", "unexpected-pass")}
    assert bad == {}


def test_killed_with_a_stranger_s_servers_up(strangers: Strangers, engine: Daemon, tmp_path: Path) -> None:
    """SIGKILL of pytest: containers, network and volume of the run's own project go, its cells stay."""
    with runs_in(tmp_path) as runs:
        running = runs("-m", "cpu", strangers.file("waiting"), "-k", "not latency")
        running.until_cells(4)
        run = running.folder.name
        assert {words.split()[0] for words in left(engine, run)} >= {"container", "network", "volume"}
        running.signal(signal.SIGKILL)
        running.process.wait(10)
        assert eventually(lambda: not left(engine, run, running.process.pid), 40), left(engine, run, running.process.pid)
        assert len(running.cells()) >= 4
