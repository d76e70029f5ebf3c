"""What tests of Compose files need of this machine, and small projects in the place of engines."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml

from fixtures.compose.project import expect_compose, resolve
from fixtures.docker.daemon import Daemon
from fixtures.docker.fault import DockerFault
from fixtures.launchers.compose import Project
from tests import docker_engine

SERVE = ["python3", "-S", "-c", "import http.server as h, signal, sys\nsignal.signal(15, lambda *_: sys.exit())\n"
         "h.test(h.SimpleHTTPRequestHandler, port=8000)"]
HEALTHY = {"test": ["CMD", "python3", "-c", "import socket; socket.create_connection(('127.0.0.1', 8000))"],
           "interval": "1s", "retries": 20}
IDLE = ["python3", "-S", "-c", "import signal, sys, time\nsignal.signal(15, lambda *_: sys.exit())\ntime.sleep(60)"]


class Projects:
    """Makes projects in a folder, and ends them all."""

    def __init__(self, folder: Path, engine: Daemon, image: str) -> None:
        self.folder, self.engine, self.image, self.run = folder, engine, image, f"test-{uuid4().hex[:12]}"
        self.made: list[Project] = []

    def __call__(self, services: dict[str, dict[str, Any]], more: dict[str, Any] | None = None, **options: Any) -> Project:
        file = self.folder / "compose.yaml"
        own = {name: {"image": self.image, **service} for name, service in services.items()}
        file.write_text(yaml.safe_dump({"services": own, **(more or {})}), encoding="utf-8")
        project = Project(f"cotenant-{self.run}-{len(self.made)}", resolve(file), self.folder / "run", self.run,
                          pull="never", **{"limit_s": 60, **options})
        self.made.append(project)
        return project

    def state(self, identity: str) -> dict[str, Any]:
        """What the daemon says of a container."""
        return dict(self.engine.client.containers.get(identity).attrs)

    def running(self, project: Project, service: str) -> bool:
        """Whether a service's container runs."""
        return bool(self.state(project.container_of(service))["State"]["Running"])


def compose() -> None:
    """Skip where there is no Docker Compose v2, fail there on CI."""
    try:
        expect_compose()
    except DockerFault as fault:
        docker_engine.missing(f"{fault.reason}: {fault.cure}")


@contextlib.contextmanager
def projects_in(folder: Path) -> Iterator[Projects]:
    """Makes projects, and ends them all."""
    compose()
    engine = docker_engine.engine()
    made = Projects(folder, engine, docker_engine.python_image(engine).id)
    try:
        yield made
    finally:
        for project in made.made:
            project.limit_s = 60
            project.down()
