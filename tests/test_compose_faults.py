"""The launcher `compose` where something goes wrong: the service is named, with the cause and a cure."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fixtures.docker.fault import DockerFault
from tests.composing import HEALTHY, IDLE, Projects, projects_in


@pytest.fixture
def projects(tmp_path: Path) -> Iterator[Projects]:
    with projects_in(tmp_path) as made:
        yield made


def test_a_service_that_never_becomes_healthy_is_named(projects: Projects) -> None:
    """With what its health check said."""
    sick = {"test": ["CMD-SHELL", "echo no token came; exit 1"], "interval": "1s", "retries": 2}
    project = projects({"sick": {"command": IDLE, "healthcheck": sick},
                        "last": {"command": IDLE, "depends_on": {"sick": {"condition": "service_healthy"}}}})
    with pytest.raises(DockerFault) as refused:
        project.up_all()
    assert refused.value.cause == "never-healthy"
    assert refused.value.reason == "service sick never became healthy; its health check said: no token came"


def test_a_service_that_ends_is_named_with_its_code(projects: Projects) -> None:
    """It was waited for in vain."""
    project = projects({"gone": {"command": ["sh", "-c", "exit 7"], "healthcheck": HEALTHY},
                        "last": {"command": IDLE, "depends_on": {"gone": {"condition": "service_healthy"}}}})
    with pytest.raises(DockerFault, match="service gone ended with exit code 7"):
        project.up_all()


def test_a_start_that_takes_too_long_is_ended(projects: Projects) -> None:
    """Compose itself would wait for ever."""
    slow = {"test": ["CMD", "false"], "interval": "1s", "start_period": "600s"}
    project = projects({"slow": {"command": IDLE, "healthcheck": slow},
                        "last": {"command": IDLE, "depends_on": {"slow": {"condition": "service_healthy"}}}}, limit_s=4)
    began = time.monotonic()
    with pytest.raises(DockerFault, match="service slow never became healthy"):
        project.up_all()
    assert time.monotonic() - began < 12


def test_an_exit_is_not_hidden_by_a_restart(projects: Projects) -> None:
    """Whatever the user's file asks for."""
    project = projects({"one": {"command": ["sh", "-c", "exit 3"], "restart": "always"}})
    state = projects.engine.client.containers.get(project.up("one")).wait(timeout=20)
    assert state["StatusCode"] == 3
    assert not projects.running(project, "one")


@pytest.mark.parametrize(("service", "cause"), [
    ({"image": "cotenant-test/none:1"}, "image"),
    ({"volumes": [{"type": "bind", "source": "/none/of/this", "target": "/x", "bind": {"create_host_path": False}}]},
     "mount-missing"),
    ({"runtime": "nvidia"}, "nvidia-runtime-missing"),
    ({"entrypoint": ["/none"]}, "compose-failed"),
])
def test_what_the_daemon_refuses_has_a_cause(projects: Projects, service: dict[str, Any], cause: str) -> None:
    """And a cure, in words."""
    if cause.startswith("nvidia") and "nvidia" in projects.engine.runtimes:
        pytest.skip("this machine has the runtime nvidia")
    project = projects({"one": {"command": IDLE, **service}})
    with pytest.raises(DockerFault) as refused:
        project.up("one")
    assert refused.value.cause.startswith(cause)
    assert "one" in refused.value.reason
    assert refused.value.cure


def test_a_daemon_that_is_not_there_is_named(projects: Projects, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In the daemon's absence."""
    project = projects({"one": {"command": IDLE}})
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
        with pytest.raises(DockerFault) as refused:
            project.up("one")
    assert refused.value.cause == "docker-not-running"
