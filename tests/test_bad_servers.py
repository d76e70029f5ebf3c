"""Whatever a server does, the client ends in time with its own class of failure, in bounded memory, and goes on."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import repeat
from pathlib import Path

import pytest

from fixtures.load import loop, over_httpx
from fixtures.load.answer import Answer, Failure
from fixtures.load.arrivals import Closed
from fixtures.load.client import Client
from fixtures.load.result import LoadResult
from fixtures.load.workload import Ask, Workload
from tests import bad_servers
from tests.bad_servers import BAD, BODY, CHUNKED, EVENT, OK, SSE, STREAM, Peer, Script, says, serving
from tests.reads import chunked

TIMEOUT_S, WHOLE_S = 0.4, 0.8
MIB = 1 << 20
CHAT = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1}


def client(url: str, whole_s: float = WHOLE_S) -> Client:
    """A client with short limits."""
    return Client(url, "m", timeout_s=TIMEOUT_S, whole_s=whole_s)


def load(url: str, *paths: str, keep_alive: bool = False, whole_s: float = WHOLE_S) -> LoadResult:
    """Four at once, without a warm-up."""
    asks = [Ask(path, CHAT) for path in paths]
    return loop.run(client(url, whole_s), Workload(asks, Closed(4), warm_up=0, keep_alive=keep_alive))


def timed(do: Callable[[], Answer | LoadResult]) -> tuple[Answer | LoadResult, float]:
    """What it returned and the seconds that it took."""
    began = time.monotonic()
    return do(), time.monotonic() - began


@contextmanager
def memory(most_mib: int) -> Iterator[None]:
    """The peak of this process's resident memory (VmHWM, the server's threads included) must not grow by more."""
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak()
    yield
    assert _peak() - before < most_mib * MIB


def _peak() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status)[1])  # type: ignore[index]


@pytest.mark.parametrize("name", BAD)
def test_a_bad_server_has_its_class(name: str) -> None:
    """As a stream, as a whole answer and in a load of four; a good request on the same path is answered after each."""
    bad = BAD[name]
    with serving(bad.script, early=bad.early) as url, ThreadPoolExecutor(3) as pool:
        stream = pool.submit(timed, lambda: client(url).chat("x", stream=True))
        whole = pool.submit(timed, lambda: client(url).chat("x", stream=False))
        many = pool.submit(timed, lambda: load(url, *["/bad"] * 4, "/good", "/good"))
        (streamed, s1), (at_once, s2), (result, s3) = stream.result(), whole.result(), many.result()
        assert client(url + "/good").chat("x").ok
    assert isinstance(streamed, Answer)
    assert isinstance(at_once, Answer)
    assert isinstance(result, LoadResult)
    assert (streamed.failure, at_once.failure) == (bad.stream, bad.whole), (streamed.message, at_once.message)
    assert [answer.failure for answer in result.answers] == [bad.stream] * 4 + [None] * 2
    assert max(s1, s2, s3 - 0.1) < WHOLE_S + 1
    assert bad.stream in (None, Failure.STATUS) or streamed.message


def test_invalid_utf8_is_noted() -> None:
    """It is no failure of the wire: the text says U+FFFD and the answer that it was broken."""
    with serving(BAD["invalid-utf8"].script) as url:
        answer = client(url).chat("x")
    assert (answer.text, answer.broken_utf8, answer.ok) == ("\ufffd", True, True)


@pytest.mark.parametrize("keep_alive", [False, True])
@pytest.mark.parametrize("name", ["garbage", "reset-in-the-middle", "two-answers", "size-too-short", "refusal", "moved"])
def test_good_requests_between_bad_ones_are_answered(name: str, keep_alive: bool) -> None:
    """On one poller, with connections kept or not."""
    bad = BAD[name]
    paths = ["/bad", "/good"] * 6
    with serving(bad.script, early=bad.early) as url:
        result = load(url, *paths, keep_alive=keep_alive)
    assert [answer.failure for answer in result.answers] == [bad.stream, None] * 6


# --- without an end ---------------------------------------------------------------------------------------------------


def endless(head: bytes, parts: Iterable[bytes]) -> Script:
    """Send these for as long as the client takes them."""
    def play(peer: Peer) -> None:
        peer.send(head)
        peer.send_all(parts)
    return play


BLOCK = 64 * 1024
LINE = b"a" * BLOCK
# What the client may take off a server before it sees that there is no end: the limit of what is held unread (chunked), or
# that of what is read at once, and what the sockets hold.
UNREAD, AT_ONCE, BODY_MOST = 48 * MIB, 16 * MIB, 96 * MIB
ENDLESS = {
    "head": (endless(OK, repeat(b"x: " + b"y" * 500 + b"\r\n")), AT_ONCE),
    "header": (endless(OK + b"x: ", repeat(LINE)), AT_ONCE),
    "line": (endless(SSE + b"\r\ndata: ", repeat(LINE)), AT_ONCE),
    "comment": (endless(SSE + b"\r\n:", repeat(LINE)), AT_ONCE),
    "data-lines": (endless(SSE + b"\r\n", repeat(b"data: ab\n" * 8000)), AT_ONCE),
    "body": (endless(SSE + b"\r\n", repeat(b": " + b"ping" * 100 + b"\n\n")), BODY_MOST),
    "events": (endless(SSE + b"\r\n", repeat(EVENT * 800)), BODY_MOST),
    "chunked-line": (endless(CHUNKED, repeat(b"10000\r\n" + LINE + b"\r\n")), UNREAD),
    "one-chunk": (endless(CHUNKED + b"fffffffffffff\r\ndata: ", repeat(LINE)), UNREAD),
    "chunk-size": (endless(CHUNKED + b"5;", repeat(LINE)), UNREAD),
    "trailer": (endless(CHUNKED + b"0\r\n", repeat(b"y: 1\r\n" * 8000)), UNREAD),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_has_no_end_is_too_long(name: str) -> None:
    """The client leaves after a bounded number of bytes, with bounded memory, and says so."""
    script, most = ENDLESS[name]
    sent = [0]
    with serving(script, sent=sent) as url, memory(2 * most // MIB + 64):
        answer, seconds = timed(lambda: client(url, whole_s=20).chat("x"))
    assert isinstance(answer, Answer)
    assert answer.failure is Failure.TOO_LONG, answer.message
    assert sent[0] < most
    assert seconds < 8


def test_four_without_an_end_are_too_long() -> None:
    """Each is left at its own."""
    script, most = ENDLESS["one-chunk"]
    sent = [0]
    with serving(script, sent=sent) as url, memory(4 * 2 * most // MIB):
        result = load(url, *["/bad"] * 4, whole_s=20)
    assert result.failures == {"too-long": 4}
    assert sent[0] < 4 * most


@pytest.mark.parametrize("streamed", [True, False])
def test_a_million_tiny_chunks_are_an_answer(streamed: bool) -> None:
    """A byte in each: read in seconds, within 100 MiB."""
    text = "x" * 1_000_000
    payload = {"choices": [{"delta" if streamed else "message": {"content": text}, "finish_reason": "stop"}]}
    body = json.dumps(payload).encode()
    body = b"data: " + body + b"\n\ndata: [DONE]\n\n" if streamed else body
    data = (CHUNKED if streamed else OK + b"transfer-encoding: chunked\r\n\r\n") + chunked(*(bytes([byte]) for byte in body))
    with serving(says(data)) as url, memory(100):
        answer, seconds = timed(lambda: client(url, whole_s=20).chat("x", stream=streamed))
    assert isinstance(answer, Answer)
    assert (answer.failure, answer.text) == (None, text)
    assert seconds < 10


@pytest.mark.long
def test_a_million_tiny_events_are_an_answer() -> None:
    """An event in each chunk: read in seconds, within 500 MiB."""
    part = b'data:{"choices":[{"text":"x"}]}\n\n'
    data = CHUNKED + (b"%x\r\n%s\r\n" % (len(part), part)) * 1_000_000 + b"0\r\n\r\n"
    with serving(says(data)) as url, memory(500):
        answer, seconds = timed(lambda: client(url, whole_s=30).chat("x"))
    assert isinstance(answer, Answer)
    assert (answer.failure, len(answer.text)) == (None, 1_000_000)
    assert seconds < 20


# --- the connection ---------------------------------------------------------------------------------------------------


def test_a_refusal_of_a_request_half_sent_is_read() -> None:
    """413 and a close while sixteen MiB are on their way."""
    def refuse(peer: Peer) -> None:
        peer.sock.recv(1000)
        peer.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig")
        peer.sock.shutdown(socket.SHUT_WR)
        peer.hush()

    with serving(refuse, early=True) as url:
        answer, seconds = timed(lambda: client(url).chat("x" * (16 * MIB)))
    assert isinstance(answer, Answer)
    assert (answer.failure, answer.status) == (Failure.STATUS, 413)
    assert seconds < WHOLE_S + 1


def test_a_request_that_nobody_reads_has_a_limit() -> None:
    """The server is silent, though it is there."""
    def wait(peer: Peer) -> None:
        peer.over.wait(5)

    with serving(wait, early=True) as url:
        answer, seconds = timed(lambda: client(url).chat("x" * (16 * MIB)))
    assert isinstance(answer, Answer)
    assert (answer.failure, answer.message) == (Failure.TIMEOUT, "silent for 0.4 s")
    assert seconds < WHOLE_S + 1


def test_a_full_backlog_is_no_connection() -> None:
    """A server that accepts nobody any more."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        place = listener.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(place)
        time.sleep(0.05)
        answer, seconds = timed(lambda: client(f"http://127.0.0.1:{place[1]}").chat("x"))
        result = load(f"http://127.0.0.1:{place[1]}", *["/bad"] * 4)
        for sock in waiting:
            sock.close()
    assert isinstance(answer, Answer)
    assert (answer.failure, answer.message) == (Failure.CONNECT, "no connection for 0.4 s")
    assert result.failures == {"connect": 4}
    assert seconds < TIMEOUT_S + 1


def test_a_closed_port_refuses() -> None:
    """Alone and in a load."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    assert client(url).chat("x").failure is Failure.CONNECT
    assert load(url, *["/bad"] * 5, keep_alive=True).failures == {"connect": 5}


@pytest.mark.parametrize("host", ["a..b", "a" * 70 + ".b"])
def test_what_is_no_name_is_no_connection(host: str) -> None:
    """A name that cannot be asked for raises nothing."""
    assert client(f"http://{host}:80").chat("x").failure is Failure.CONNECT


def test_a_name_without_an_address_is_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver's refusal is the answer's message."""
    def refuse(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    answer = client("http://nowhere.invalid").chat("x")
    assert answer.failure is Failure.CONNECT
    assert "not known" in answer.message


def test_a_kept_connection_that_was_closed_is_no_fault() -> None:
    """The server closes after each answer without having said so, at once or a moment later."""
    for wait_s in (0.0, 0.01):
        def close(peer: Peer, wait_s: float = wait_s) -> None:
            peer.send(STREAM)
            time.sleep(wait_s)

        with serving(close) as url:
            result = load(url, *["/closing"] * 24, keep_alive=True)
        assert result.failures == {}


def test_an_answer_that_nobody_asked_for_is_not_read() -> None:
    """It waits on a kept connection when the next request is due, and is the answer to none."""
    stray = STREAM.replace(b'"a"', b'"stray"')

    def twice(peer: Peer) -> None:
        while True:
            peer.send(STREAM)
            time.sleep(0.01)
            peer.send(stray)
            if not bad_servers.request(peer.sock):
                return

    with serving(twice) as url:
        asks = [Ask("/twice", CHAT)] * 6
        result = loop.run(client(url), Workload(asks, _Slow(), warm_up=0, keep_alive=True))
    assert [answer.text for answer in result.answers] == ["a"] * 6


class _Slow:
    """One at a time, a twentieth of a second apart."""

    concurrency = 1

    def due(self, count: int) -> list[float]:
        """Seconds after the start."""
        return [number / 20 for number in range(count)]

    def __str__(self) -> str:
        return "every 50 ms"


def test_both_ways_agree_on_a_body() -> None:
    """The whole answer of a good server, for the servers above prove nothing if good ones fail."""
    with serving(says(OK + b"content-length: %d\r\n\r\n" % len(BODY) + BODY)) as url:
        answer = client(url).chat("x", stream=False)
    assert (answer.ok, answer.text) == (True, "a")


def test_a_load_on_a_name_without_address_fails_as_a_whole() -> None:
    """Every request of it is told as not connected; nothing is raised."""
    asks = [Ask("/v1/chat/completions", {"messages": [], "max_tokens": 1})] * 3
    result = loop.run(Client("http://nobody.invalid", "m", timeout_s=2), Workload(asks, Closed(2), warm_up=0))
    assert result.failures == {"connect": 3}
    assert result.good == ()


# --- by https, through httpx --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["web-page", "json-for-a-stream", "refusal", "moved", "size-too-short",
                                  "reset-in-the-middle"])
def test_what_comes_through_httpx_has_the_same_class(name: str) -> None:
    """Endpoints by https are read by httpx; a server that is bad there is as bad."""
    bad = BAD[name]
    with serving(bad.script, early=bad.early) as url, closing(over_httpx.client_for(url, 2.0, {})) as http:
        answer = over_httpx.generate(http, "/v1/chat/completions", {"stream": True}, stream=True, whole_s=5.0)
    assert answer.failure == bad.stream, answer.message
