"""Small programs in containers in the place of an engine, and how the tests start them."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

from fixtures.docker import garbage
from fixtures.docker.daemon import Daemon
from fixtures.docker.image import Image
from fixtures.docker.mount import Mount
from fixtures.launchers.container import Berth, ContainerHandle, launch
from fixtures.launchers.handle import Command
from tests.launching import eventually

CHECKOUT = Path(__file__).parents[1]
SERVER = f"""
import sys
from http.server import ThreadingHTTPServer
sys.path.insert(0, {str(CHECKOUT)!r})
from tests import small_server
host = sys.argv.pop()
small_server.ThreadingHTTPServer = lambda address, handler: ThreadingHTTPServer((host, address[1]), handler)
small_server.main()
"""


def program(code: str, *arguments: str, grace_s: float = 5.0, **env: str) -> Command:
    """A Python program, without site-packages so that it starts fast."""
    return Command(("python3", "-S", "-u", "-c", code, *arguments), env, grace_s)


def small_server(*models: str, fault: str = "", host: str = "{host}") -> Command:
    """tests/small_server.py; the container needs the checkout mounted."""
    return program(SERVER, "{port}", fault, *models, host)


class Containers:
    """Starts containers of one run and closes them all; a call returns when "ready" is in the log."""

    def __init__(self, root: Path, daemon: Daemon, image: Image) -> None:
        self.root, self.daemon, self.image, self.run = root, daemon, image, f"test-{uuid4().hex[:12]}"
        self.handles: list[ContainerHandle] = []

    def __call__(self, command: Command, *, ready: bool = True, **options: Any) -> ContainerHandle:
        arguments = {"image": self.image, "devices": (), "name": "stand-in", "run_id": self.run, "daemon": self.daemon,
                     "mounts": (Mount(CHECKOUT / "tests"),), "log": self.root / f"{len(self.handles)}.log",
                     "scratch_root": self.root / "runs" / self.run, **options}
        handle = launch(Berth(command, **arguments))
        self.handles.append(handle)
        assert not ready or eventually(lambda: "ready" in handle.log.read_text()), handle.log.read_text()
        return handle

    @property
    def left(self) -> list[str]:
        """What this run has at the daemon."""
        return [found.name for found in garbage.labelled(self.daemon, self.run)]

    def close(self) -> None:
        """End what is still there, and what a test made beside it."""
        for handle in self.handles:
            handle.close(force=True)
        garbage.remove(self.daemon, garbage.labelled(self.daemon, self.run))
