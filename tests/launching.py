"""Small programs in the place of an engine, and how the tests start them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fixtures.launchers import proc
from fixtures.launchers.handle import Command
from fixtures.launchers.process import ProcessHandle, launch

READY = "print('ready', flush=True)\n"
SLEEP = READY + "import time; time.sleep(600)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
DAEMON = """
import os
if os.fork() == 0:
    os.setsid()
    if (daemon := os.fork()) == 0:
        os.execv("/bin/sleep", ["sleep", "600"])
    with open("daemon.pid", "w") as file:
        file.write(str(daemon))
    os._exit(0)
os.wait()
"""
SERVE = """
import socket, sys, time
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("127.0.0.1", int(sys.argv[1])))
server.listen()
"""


def shared_file(name: str, size: int) -> str:
    """Code that makes a file in /dev/shm and keeps it mapped."""
    return f"""
import mmap
with open("/dev/shm/{name}", "wb+") as file:
    file.write(b"x" * {size})
    file.flush()
    held = mmap.mmap(file.fileno(), {size})
"""


def program(code: str, *arguments: str, grace_s: float = 5.0, **env: str) -> Command:
    """A Python program, without site-packages so that it starts fast."""
    return Command((sys.executable, "-S", "-c", code, *arguments), env, grace_s)


class Launcher:
    """Starts programs in one folder and closes them all; `launch` returns when "ready" is in the log."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.handles: list[ProcessHandle] = []

    def __call__(self, command: Command, *, ready: bool = True, **options: Any) -> ProcessHandle:
        handle = launch(command, name="stand-in", log=self.root / f"{len(self.handles)}.log",
                        scratch_root=self.root / "s", run_id="test-run", **options)
        self.handles.append(handle)
        assert not ready or eventually(lambda: "ready" in handle.log.read_text()), handle.log.read_text()
        return handle

    def close(self) -> None:
        """End what is still there."""
        for handle in self.handles:
            handle.close(force=True)


def eventually(condition: Callable[[], object], within_s: float = 5.0) -> bool:
    """Whether it comes true in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    seen = proc.stat(pid)
    return seen is not None and seen.alive
