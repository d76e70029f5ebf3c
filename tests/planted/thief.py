"""The thief: a server that takes the port of a launched one which has not taken it itself."""

from __future__ import annotations

import socket
import threading

from tests.planted.proxy import Proxy

# Abstract, so it leaves no file and needs no variable in the launched server's environment.
_LETTERBOX = "\0cotenant-planted-thief"


def tell(port: int) -> None:
    """Tell a waiting thief which port is free; without one, nothing."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as letter:
        try:
            letter.sendto(str(port).encode(), _LETTERBOX)
        except ConnectionRefusedError:
            return


class Thief:
    """Waits for a port and serves `upstream` there, in this process, until the block ends. `stole` are the ports."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.stole: list[int] = []
        self._proxies: list[Proxy] = []
        self._letters = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def __enter__(self) -> Thief:
        self._letters.bind(_LETTERBOX)
        threading.Thread(target=self._wait, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._letters.shutdown(socket.SHUT_RD)
        self._letters.close()
        for proxy in self._proxies:
            proxy.close()

    def _wait(self) -> None:
        while letter := self._letters.recv(16):
            self._proxies.append(Proxy(self.upstream, port=int(letter)))
            self.stole.append(int(letter))
