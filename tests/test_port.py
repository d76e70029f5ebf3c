"""A reserved port is nobody else's, and the one server that it is meant for can still take it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures.launchers import port
from fixtures.launchers.port import NoPortError, Reservation, reserve

EPHEMERAL = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
HOLDER = """
import pathlib, sys, time
sys.path.insert(0, sys.argv[1])
from fixtures.launchers.port import reserve
print(reserve(pathlib.Path(sys.argv[2]), exclusive=False).port, flush=True)
time.sleep(60)
"""


def listener(number: int, *options: int, host: str = "127.0.0.1") -> socket.socket:
    """What a server does; raises OSError where it is refused."""
    server = socket.socket()
    try:
        for option in options:
            server.setsockopt(socket.SOL_SOCKET, option, 1)
        server.bind((host, number))
        server.listen()
    except OSError:
        server.close()
        raise
    return server


def only(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave one port to choose from."""
    monkeypatch.setattr(port, "_candidates", lambda: iter([number]))


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize("option", [socket.SO_REUSEADDR, socket.SO_REUSEPORT])
def test_a_server_takes_it_while_it_is_held(tmp_path: Path, option: int, host: str) -> None:
    """With either flag of those that servers set, twice in a row, and clients reach it."""
    with reserve(tmp_path) as held:
        for _ in range(2):
            with listener(held.port, option, host=host), socket.create_connection(("127.0.0.1", held.port), 5):
                pass


def test_nobody_gets_it_by_chance(tmp_path: Path) -> None:
    """Below the ephemeral range, and refused to whoever shares nothing."""
    with reserve(tmp_path) as held:
        assert 10_000 <= held.port < EPHEMERAL
        with pytest.raises(OSError, match="in use"):
            listener(held.port)
    listener(held.port).close()


def test_without_exclusive_any_server_takes_it(tmp_path: Path) -> None:
    """For one that sets neither flag."""
    with reserve(tmp_path, exclusive=False) as held:
        listener(held.port).close()


def test_a_port_in_use_is_never_reserved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever flags its holder has set, on whichever address that answers for 127.0.0.1."""
    for host in ("127.0.0.1", "0.0.0.0"):
        with listener(0, socket.SO_REUSEADDR, socket.SO_REUSEPORT, host=host) as taken:
            only(taken.getsockname()[1], monkeypatch)
            with pytest.raises(NoPortError):
                reserve(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("exclusive", [True, False])
def test_two_reservations_are_two_ports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exclusive: bool) -> None:
    """Within one process too, and a released port can be had again."""
    with reserve(tmp_path, exclusive=exclusive) as held:
        only(held.port, monkeypatch)
        with pytest.raises(NoPortError):
            reserve(tmp_path, exclusive=exclusive)
    again: Reservation = reserve(tmp_path)
    again.release()
    again.release()
    assert list(tmp_path.iterdir()) == []


def test_another_runs_port_is_free_again_when_it_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock alone keeps it while that run lives, and a run killed by SIGKILL keeps nothing."""
    command = [sys.executable, "-S", "-c", HOLDER, str(Path(__file__).parents[1]), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        only(int(other.stdout.readline()), monkeypatch)
        with pytest.raises(NoPortError):
            reserve(tmp_path)
        os.kill(other.pid, signal.SIGKILL)
    reserve(tmp_path).release()
