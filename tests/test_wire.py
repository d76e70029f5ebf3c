"""The poller keeps its limits and its connections, and the stamps are the kernel's."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import closing, suppress

import pytest

from fixtures.load.answer import Answer, Failure
from fixtures.load.wire import connection as connection_module
from fixtures.load.wire import poller as poller_module
from fixtures.load.wire.call import Call
from fixtures.load.wire.connection import Address, resolve
from fixtures.load.wire.poller import Poller
from fixtures.load.wire.stamp import StampClock, ask_for_stamps, stamp_of
from tests.bad_servers import CHUNKED, EVENT, STREAM, Peer, hushes, request, serving
from tests.reads import stamped

ASK = b"POST /x HTTP/1.1\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n"
LIMIT_S = 0.3


def address(url: str) -> list[Address]:
    """Where a server of these tests listens."""
    return [Address(socket.AF_INET, ("127.0.0.1", int(url.rpartition(":")[2])))]


def closed() -> Address:
    """A loopback address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        return Address(socket.AF_INET, bound.getsockname())


def until(poller: Poller, count: int = 1) -> list[Call]:
    """Poll until so many calls are over; five seconds at most."""
    over: list[Call] = []
    deadline = time.monotonic() + 5
    while len(over) < count and time.monotonic() < deadline:
        over += poller.poll(1.0)
    return over


def asked(addresses: list[Address], data: bytes = ASK, timeout_s: float = LIMIT_S, whole_s: float = 2.0) -> Answer:
    """The answer to one call, which has to leave no connection under way."""
    with Poller(addresses, timeout_s=timeout_s, whole_s=whole_s) as poller, closing(StampClock()) as clock:
        poller.begin(Call(data, streamed=True))
        (call,) = until(poller)
        assert poller.busy == 0
        return call.answer(clock)


@pytest.mark.parametrize("begun", [b"", CHUNKED[:30], CHUNKED, CHUNKED + b"5\r\nda"])
def test_silence_has_a_limit(begun: bytes) -> None:
    """Counted from the last byte, wherever in the answer it stopped."""
    with serving(hushes(begun)) as url:
        answer = asked(address(url))
    assert (answer.failure, answer.message) == (Failure.TIMEOUT, "silent for 0.3 s")
    assert LIMIT_S <= answer.e2e_s < LIMIT_S + 0.5


def test_a_whole_answer_has_a_limit() -> None:
    """A server that is never silent is left too."""
    with serving(lambda peer: peer.send_all([CHUNKED, *[b"%x\r\n%s\r\n" % (len(EVENT), EVENT)] * 999], 0.02)) as url:
        answer = asked(address(url), whole_s=0.4)
    assert (answer.failure, answer.message) == (Failure.TIMEOUT, "the answer had not ended within 0.4 s")
    assert 0.4 <= answer.e2e_s < 0.9
    assert 5 < len(answer.chunks) < 25


def test_an_answer_that_goes_on_has_time() -> None:
    """Each byte starts the limit of silence anew."""
    parts = [STREAM[place:place + 40] for place in range(0, len(STREAM), 40)]
    with serving(lambda peer: peer.send_all(parts, 0.12)) as url:
        answer = asked(address(url))
    assert answer.ok
    assert answer.e2e_s > LIMIT_S


def test_a_request_that_is_taken_slowly_has_time() -> None:
    """What the server takes off the socket is a sign of life. What the kernel holds at the end takes a third of 0.8 s."""
    def slow(peer: Peer) -> None:
        left = len(data)
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        while left > 0:
            left -= len(peer.sock.recv(1 << 20))
            time.sleep(0.01)
        peer.send(STREAM)

    data = ASK.replace(b": 0", b": 24000000") + bytes(24_000_000)
    with serving(slow, early=True) as url:
        answer = asked(address(url), data, timeout_s=0.8, whole_s=8.0)
    assert answer.ok, answer.message
    assert answer.e2e_s > 1.0


@pytest.mark.parametrize("connect_s", [0.15, 10.0])
def test_connecting_has_a_limit(monkeypatch: pytest.MonkeyPatch, connect_s: float) -> None:
    """Its own, or that of silence where that is shorter."""
    monkeypatch.setattr(poller_module, "CONNECT_S", connect_s)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, suppress(BlockingIOError):
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        time.sleep(0.05)
        answer = asked([Address(socket.AF_INET, listener.getsockname())])
        for sock in waiting:
            sock.close()
    limit = min(connect_s, LIMIT_S)
    assert (answer.failure, answer.message) == (Failure.CONNECT, f"no connection for {limit:g} s")
    assert limit <= answer.e2e_s < limit + 0.5


class _LateSocket(socket.socket):
    """A socket whose first send has to wait, so that a refusal is seen by epoll as it is beyond loopback."""

    late = True

    def send(self, data: object, *more: int) -> int:
        if self.late:
            self.late = False
            raise BlockingIOError
        return super().send(data, *more)  # type: ignore[arg-type]


def _late(family: int) -> socket.socket:
    sock = _LateSocket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    ask_for_stamps(sock)
    return sock


@pytest.mark.parametrize("late", [False, True])
def test_the_next_address_is_tried(monkeypatch: pytest.MonkeyPatch, late: bool) -> None:
    """Where the first refuses, at once or later."""
    if late:
        monkeypatch.setattr(connection_module, "_socket", _late)
    with serving(lambda peer: peer.send(STREAM)) as url:
        assert asked([closed(), closed(), *address(url)]).ok


@pytest.mark.parametrize("late", [False, True])
def test_no_address_left_is_no_connection(monkeypatch: pytest.MonkeyPatch, late: bool) -> None:
    """The call brings the refusal, and the poller keeps nothing of it."""
    if late:
        monkeypatch.setattr(connection_module, "_socket", _late)
    for addresses in ([], [closed()], [closed(), closed()]):
        answer = asked(addresses)
        assert answer.failure is Failure.CONNECT
        assert answer.message


def _serves(peer: Peer) -> None:
    while True:
        peer.send(STREAM)
        if not request(peer.sock):
            return


def test_connections_are_kept() -> None:
    """Calls one after another share one, and are good."""
    opened: list[Peer] = []

    def count(peer: Peer) -> None:
        opened.append(peer)
        _serves(peer)

    with serving(count) as url, Poller(address(url), timeout_s=1, whole_s=2, keep_alive=True) as poller:
        for _ in range(5):
            poller.begin(Call(ASK, streamed=True))
            (call,) = until(poller)
            assert call.failure is None
    assert len(opened) == 1


@pytest.mark.parametrize("after", [Peer.reset, lambda peer: peer.sock.close(), lambda peer: peer.send(STREAM)])
@pytest.mark.parametrize("seen", [False, True])
def test_a_kept_connection_that_is_no_good_is_not_used(after: Callable[[Peer], None], seen: bool) -> None:
    """Reset, closed or with an answer that nobody asked for, whether the poller has looked since or not."""
    def once(peer: Peer) -> None:
        peer.send(STREAM)
        time.sleep(0.02)
        after(peer)

    with serving(once) as url, \
            Poller(address(url), timeout_s=1, whole_s=2, keep_alive=True) as poller, closing(StampClock()) as clock:
        for _ in range(3):
            poller.begin(Call(ASK, streamed=True))
            (call,) = until(poller)
            assert call.failure is None
            assert call.answer(clock).chunks[0].at_s > 0
            time.sleep(0.05)
            if seen:
                poller.poll(0.0)


def test_connections_opened_in_advance_and_closed_are_no_fault() -> None:
    """A server may close what is idle."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(2)
        with Poller([Address(socket.AF_INET, listener.getsockname())], timeout_s=1, whole_s=2, keep_alive=True) as poller:
            poller.open(3)
            for _ in range(3):
                listener.accept()[0].close()
            poller.begin(Call(ASK, streamed=True))
            sock = listener.accept()[0]
            with sock:
                request(sock)
                sock.sendall(STREAM)
                (call,) = until(poller)
    assert call.failure is None


def test_a_failure_found_in_what_was_held_ends_the_call() -> None:
    """Found while there was time, it does not wait for the server's next word."""
    with serving(hushes(CHUNKED + b"zz\r\n" + EVENT)) as url, Poller(address(url), timeout_s=3, whole_s=3) as poller:
        call = Call(ASK, streamed=True)
        poller.begin(call)
        began = time.monotonic()
        while not call.held and time.monotonic() < began + 2:
            poller.poll(0.01)
        call.look()
        assert until(poller) == [call]
        assert time.monotonic() - began < 1
    assert call.failure is Failure.PROTOCOL


def test_what_is_no_name_has_no_address() -> None:
    """As a name that is not known."""
    with pytest.raises(OSError, match="no host name"):
        resolve("a..b", 80)


def test_stamps_are_the_kernels() -> None:
    """Bytes that waited for their reader are dated by their arrival."""
    with closing(StampClock()) as clock, socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as sock:
        ask_for_stamps(sock)
        sock.connect(listener.getsockname())
        with listener.accept()[0] as server:
            time.sleep(0.05)
            before = time.time_ns()
            server.sendall(b"x")
            after = time.time_ns()
            time.sleep(0.1)
            stamp = stamp_of(sock.recvmsg(10, 100)[1])
        assert stamp is not None
        assert before - 50_000 <= stamp <= after + 5_000_000
        assert abs(clock.monotonic(stamp) - time.monotonic() + 0.1) < 0.05


def test_what_is_no_stamp_is_none() -> None:
    """Nothing, another message, and one of another length."""
    level, kind, data = stamped(1_500_000_000_123_456_789)[0]
    assert stamp_of([(level, kind, data)]) == 1_500_000_000_123_456_789
    assert [stamp_of(each) for each in ([], [(level, 1, data)], [(level, kind, data[:8])])] == [None] * 3
