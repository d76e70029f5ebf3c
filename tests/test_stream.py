"""The stream reader and the client keep what came over the wire, however it was cut, and raise for nothing."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.load.answer import Answer, Failure, Usage
from fixtures.load.client import Client
from fixtures.load.stream import StreamReader

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"


def event(text: str, **more: Any) -> bytes:
    """One chat event on the wire, not escaped."""
    payload = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}], **more}
    return f"data: {json.dumps(payload, ensure_ascii=False)}\n\n".encode()


def read(*reads: bytes) -> Answer:
    """The answer to these reads, one a second."""
    reader = StreamReader()
    for at, data in enumerate(reads, 1):
        reader.feed(data, float(at))
    return reader.answer(200, len(reads) + 1.0)


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(st.lists(st.text(max_size=8), min_size=1, max_size=6), st.lists(st.integers(0, 400), max_size=8))
def test_cuts_between_reads_change_nothing(texts: list[str], cuts: list[int]) -> None:
    """Wherever the bytes are cut, within a character too, the joined text is the same."""
    data = b"".join(event(text) for text in texts) + b"data: [DONE]\n\n"
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    answer = read(*(data[start:end] for start, end in zip(edges, edges[1:], strict=False)))
    assert answer.text == "".join(texts)
    assert answer.ok
    assert answer.done
    assert not answer.broken_utf8


def test_times_are_those_of_the_reads() -> None:
    """The first token is the first text, not the role, and two events of one read share its time."""
    answer = read(event(""), event("a") + event("b"), event("c"))
    assert answer.ttft_s == 2.0
    assert [chunk.at_s for chunk in answer.chunks] == [1.0, 2.0, 2.0, 3.0]
    assert answer.gaps_s == (0.0, 1.0)


def test_usage_is_the_last_one() -> None:
    """Running usage is kept with its chunk, the closing usage is the answer's."""
    running = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    closing = b'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}\n\n'
    answer = read(event("a", usage=running), event("b", usage=None), closing)
    assert answer.usage == Usage(3, 2, 5)
    assert [chunk.tokens for chunk in answer.chunks] == [1, None]


@pytest.mark.parametrize("broken", [
    event("한국").replace("국".encode(), "국".encode()[:2]),
    event("ab").replace(b"ab", b"a\xffb"),
    event("x") + "data: 中".encode()[:-1],
])
def test_broken_utf8_is_kept_and_noted(broken: bytes) -> None:
    """A character that is cut short is seen, in the middle of the stream and at its very end."""
    assert read(broken).broken_utf8


def test_broken_utf8_across_reads_loses_nothing() -> None:
    """Bytes held back for the next read are in the text when that read is broken."""
    data = event("ab").replace(b"ab", b"a\xed\x95b")
    cut = data.index(b"\x95") + 1
    assert read(data[:cut], data[cut:]).text == "a\ufffdb"


def test_a_stream_without_its_end_mark_says_so() -> None:
    """[DONE] is noted where it came, and only there."""
    assert not read(event("a")).done
    assert read(event("a"), b"data: [DONE]").done


@pytest.mark.parametrize(("data", "failure"), [
    (b'data: {"error": {"message": "boom"}}\n\n', Failure.STREAM_ERROR),
    (b'error: {"code": 500, "message": "boom"}\n\n', Failure.STREAM_ERROR),
    (b'{"error": "boom"}\n', Failure.MALFORMED),
    (b"data: {broken\n\n", Failure.MALFORMED),
    (b"data: [1]\n\n", Failure.MALFORMED),
    (b'data: {"choices": ["x"]}\n\n', Failure.MALFORMED),
    (b"", Failure.MALFORMED),
    (b": a comment\n\n", Failure.MALFORMED),
])
def test_what_is_no_answer_is_a_failure(data: bytes, failure: Failure) -> None:
    """Errors, things that are no events, and nothing at all."""
    assert read(data).failure is failure


def test_an_error_after_text_is_a_failure_with_its_text() -> None:
    """What came before the error is kept."""
    answer = read(event("half"), b'data: {"error": {"message": "out of memory"}}\n\n')
    assert (answer.text, answer.failure) == ("half", Failure.STREAM_ERROR)
    assert "out of memory" in answer.message


def test_only_the_first_of_several_answers_is_read() -> None:
    """With n above 1 the answers are not mixed."""
    other = b'data: {"choices": [{"index": 1, "delta": {"content": "other"}}]}\n\n'
    assert read(event("a"), other, event("b")).text == "ab"


def _drain(connection: socket.socket) -> None:
    """Close as a server does: a socket closed with unread bytes would reset the connection."""
    with suppress(OSError):
        connection.settimeout(2)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass


@contextmanager
def wire(script: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that runs `script` on every connection after the request's head has come, then closes it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                script(connection)
                _drain(connection)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()


def test_a_server_that_closes_after_each_answer_is_no_fault() -> None:
    """No request is sent on a connection that the server may have closed meanwhile, without having said so."""
    body = b'{"choices": [{"text": "a", "finish_reason": "stop"}]}'
    head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\nconnection: keep-alive\r\n\r\n".encode()
    with wire(lambda connection: connection.sendall(head + body)) as url:
        client = Client(url, "m", timeout_s=2)
        assert all(client.complete("x", stream=False).ok for _ in range(20))


def test_a_connection_that_breaks_is_a_disconnect() -> None:
    """A chunked stream without its last chunk ended early."""
    part = event("a")
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + f"{len(part):x}\r\n".encode() + part + b"\r\n"
    with wire(lambda connection: connection.sendall(chunked)) as url:
        answer = Client(url, "m", timeout_s=2).chat("x")
    assert (answer.failure, answer.text) == (Failure.DISCONNECT, "a")


def test_nobody_there_is_a_connect_failure() -> None:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    assert Client(url, "m", timeout_s=1).chat("x").failure is Failure.CONNECT
    assert Client(url, "m", timeout_s=1).request("GET", "/v1/models").failure is Failure.CONNECT


def test_a_request_that_drips_has_a_limit() -> None:
    """`request` bounds the whole exchange: a byte now and then does not prolong it."""
    def drip(connection: socket.socket) -> None:
        connection.sendall(HEAD)
        try:
            for _ in range(30):
                connection.sendall(b": wait\n")
                time.sleep(0.05)
        except OSError:
            return  # the client has left

    with wire(drip) as url:
        started = time.perf_counter()
        reply = Client(url, "m", timeout_s=5).request("GET", "/", timeout_s=0.3)
    assert reply.failure is Failure.TIMEOUT
    assert time.perf_counter() - started < 1.0


def test_chunks_are_timed_as_they_come() -> None:
    """A pause between two events is seen between their chunks."""
    def pause(connection: socket.socket) -> None:
        connection.sendall(HEAD + event("a"))
        time.sleep(0.15)
        connection.sendall(event("b") + b"data: [DONE]\n\n")

    with wire(pause) as url:
        answer = Client(url, "m", timeout_s=2).chat("x")
    assert answer.ok
    assert 0.1 < answer.gaps_s[0] < 0.5


def test_a_whole_body_for_a_stream_is_malformed() -> None:
    """A server that ignores `stream` did not answer with one."""
    body = b'{"choices": [{"message": {"content": "a"}}]}\n'
    with wire(lambda connection: connection.sendall(HEAD + body)) as url:
        assert Client(url, "m", timeout_s=2).chat("x").failure is Failure.MALFORMED
