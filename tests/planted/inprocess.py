"""What the planted programs share: the real xllamacpp with another Server in it, in front of the real one.

A program is a folder with an `xllamacpp.py` that is first on a llama.cpp server's PYTHONPATH. Importing it imports the
real package in its place and changes one thing.
"""

from __future__ import annotations

import importlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.planted.messages import Request, Whole
from tests.planted.proxy import Fault, Proxy


def real(program: str) -> Any:
    """The real xllamacpp, imported in the place of the program at this path (its `__file__`)."""
    folder = Path(program).resolve().parent
    sys.path[:] = [entry for entry in sys.path if not entry or Path(entry).resolve() != folder]
    sys.modules.pop("xllamacpp", None)
    return importlib.import_module("xllamacpp")


def model_of(params: Any) -> str:
    """The name that the server is to serve its model under."""
    return str(next(iter(params.model_alias)))


class Fronted:
    """A real server on a port of its own, and before it, on the port that was asked for, a proxy with a fault."""

    def __init__(self, server: Callable[[Any], Any], params: Any, fault: Fault) -> None:
        asked, params.port = params.port, 0
        self.real = server(params)
        self.proxy = Proxy(self.real.listening_address, fault, port=asked)
        self.listening_address = self.proxy.url


def plant(program: str, fault: Callable[[], Fault], model: str = "") -> None:
    """Put a proxy with this fault before every server of the program, or only before that of `model`."""
    replace_server(program, lambda server, params: Fronted(server, params, fault()), model)


def replace_server(program: str, serve: Callable[[Callable[[Any], Any], Any], Any], model: str = "") -> None:
    """Call `serve` with the real Server and the parameters where the real one would be made (for `model` only)."""
    module = real(program)
    server = module.Server
    module.Server = lambda params: serve(server, params) if model in ("", model_of(params)) else server(params)


class EachGeneration(Fault):
    """Calls `act` with every request for a generation before it is passed on."""

    def __init__(self, act: Callable[[Request], None]) -> None:
        self._act = act

    async def ask(self, request: Request) -> Request | Whole:
        if request.generates:
            self._act(request)
        return request


@dataclass(frozen=True)
class Neighbour:
    """Another server of the same program."""

    pid: int
    model: str
    port: int

    @property
    def url(self) -> str:
        """Base URL without /v1."""
        return f"http://127.0.0.1:{self.port}"


def neighbours(program: str) -> list[Neighbour]:
    """The living servers of other models that were started with the same program, told by their PYTHONPATH."""
    mark = str(Path(program).resolve().parent).encode()
    found = (_neighbour(int(entry.name), mark) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [one for one in found if one is not None and one.pid != os.getpid()]


def _neighbour(pid: int, mark: bytes) -> Neighbour | None:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None  # ended in the meantime, or another user's
    if mark not in environment or "--alias" not in words or "--port" not in words:
        return None
    return Neighbour(pid, words[words.index("--alias") + 1], int(words[words.index("--port") + 1]))


def watch(program: str, died: Callable[[Neighbour], None], every_s: float = 0.05) -> None:
    """Call `died` from a thread for each neighbour that is gone without having said that it leaves."""
    letters = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    letters.bind(_address(os.getpid()))

    def look() -> None:
        known: dict[int, Neighbour] = {}
        while True:
            now = {neighbour.pid: neighbour for neighbour in neighbours(program)}
            gone, known = [one for pid, one in known.items() if pid not in now], now
            leaving = _read(letters)
            for one in gone:
                if one.pid not in leaving:
                    died(one)
            time.sleep(every_s)

    threading.Thread(target=look, daemon=True).start()


def say_leaving(program: str) -> None:
    """Tell the neighbours that this process ends in the ordinary way."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as letter:
        for neighbour in neighbours(program):
            try:
                letter.sendto(str(os.getpid()).encode(), _address(neighbour.pid))
            except OSError:
                continue  # it does not watch


def _address(pid: int) -> str:
    return f"\0cotenant-planted-{pid}"  # abstract: leaves no file


def _read(letters: socket.socket) -> set[int]:
    senders = set()
    while True:
        try:
            senders.add(int(letters.recv(32)))
        except BlockingIOError:
            return senders
