"""The proxy of the planted faults: invisible without one, and each fault does to the wire what it says and no more."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from fixtures.load.answer import Answer, Failure
from fixtures.load.client import Client
from tests.planted.proxy import Proxy
from tests.planted.wire import WIRE
from tests.planted.wire.conduct import IgnoresLeaving, NeverAnswers

PIECES = ("The ", "leaves ", "fall ", "가을", "에 ", "잎이 ", "落叶", "秋天", " “red” ", "gold", " brown", ".")
TEXT = "".join(PIECES)
GAP_S = 0.004


class Upstream(BaseHTTPRequestHandler):
    """Says PIECES as whole answer or as a stream with GAP_S between its chunks; `max_tokens` cuts them."""

    protocol_version = "HTTP/1.1"
    name = "scripted"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""

    def do_GET(self) -> None:
        """The list of models."""
        self._reply(200, {"object": "list", "data": [{"id": self.name}]})

    def do_POST(self) -> None:
        """A completion, or 400 for a body that is no JSON."""
        try:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        except ValueError:
            self._reply(400, {"error": {"message": "not JSON"}})
            return
        self.server.asked.append(body)  # type: ignore[attr-defined]
        pieces = PIECES[: body.get("max_tokens", len(PIECES))]
        for stop in body.get("stop", []):
            pieces = tuple("".join(pieces).split(stop)[:1])
        usage = {"prompt_tokens": 5, "completion_tokens": len(pieces), "total_tokens": 5 + len(pieces)}
        finish = "stop" if len(pieces) == len(PIECES) else "length"
        if body.get("stream"):
            self._stream(pieces, usage, finish)
        else:
            message = {"role": "assistant", "content": "".join(pieces)}
            self._reply(200, {"model": self.name, "usage": usage,
                              "choices": [{"index": 0, "message": message, "finish_reason": finish}]})

    def _reply(self, status: int, payload: Any) -> None:
        data = json.dumps(payload, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, pieces: tuple[str, ...], usage: dict[str, int], finish: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, *({"content": piece} for piece in pieces)]
        ends: list[tuple[dict[str, Any], str | None]] = [*((delta, None) for delta in deltas), ({}, finish)]
        events: list[dict[str, Any]] = [
            {"model": self.name, "choices": [{"index": 0, "delta": delta, "finish_reason": end}]}
            for delta, end in ends
        ]
        events.append({"model": self.name, "choices": [], "usage": usage})
        try:
            for event in [*(json.dumps(event, ensure_ascii=False) for event in events), "[DONE]"]:
                self._chunk(f"data: {event}\n\n".encode())
                time.sleep(GAP_S)
            self._chunk(b"")
        except OSError:
            self.server.left.set()  # type: ignore[attr-defined]

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))


class Other(Upstream):
    """The server of another model."""

    name = "other"


class Scripted(ThreadingHTTPServer):
    """A scripted upstream with what it was asked, and whether a client left it."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, handler: type[Upstream]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.asked: list[dict[str, Any]] = []
        self.left = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        """Base URL without /v1."""
        return f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def upstream() -> Iterator[Scripted]:
    """The server behind the proxy."""
    server = Scripted(Upstream)
    yield server
    server.shutdown()
    server.server_close()


def ask(server: Scripted, fault: str | None = None, prompt: str = "Autumn?", *, stream: bool = True,
        options: dict[str, Any] | None = None, **parameters: Any) -> Answer:
    """One chat through a proxy with this fault."""
    with Proxy(server.url, WIRE[fault](**parameters) if fault else None) as proxy:
        client = Client(proxy.url, "scripted", timeout_s=5)
        answer = client.chat(prompt, stream=stream, **(options or {}))
        client.close()
    return answer


def both(server: Scripted, fault: str, **parameters: Any) -> tuple[Answer, Answer]:
    """The stream and the whole answer through a proxy with this fault."""
    return ask(server, fault, **parameters), ask(server, fault, stream=False, **parameters)


def chunks(answer: Answer) -> list[str]:
    """The texts of a stream, chunk by chunk."""
    return [chunk.text for chunk in answer.chunks if chunk.text]


def test_without_a_fault_bodies_pass_byte_for_byte(upstream: Scripted) -> None:
    """Status, headers and body of good, bad and streamed answers are those of the server."""
    bodies: list[dict[str, Any]] = [{"json": {"messages": []}}, {"json": {"stream": True}}, {"content": b"{"}]
    with Proxy(upstream.url) as proxy, httpx.Client() as http:
        for body in bodies:
            direct, through = (http.post(f"{url}/v1/chat/completions", **body) for url in (upstream.url, proxy.url))
            assert (direct.status_code, direct.content) == (through.status_code, through.content)
            assert {**direct.headers, "date": ""} == {**through.headers, "date": ""}
        assert http.get(f"{proxy.url}/v1/models").json()["data"] == [{"id": "scripted"}]


def test_without_a_fault_a_stream_stays_a_stream(upstream: Scripted) -> None:
    """Every chunk arrives by itself, at the time it was sent."""
    answer = ask(upstream)
    assert chunks(answer) == list(PIECES)
    assert min(answer.gaps_s) > GAP_S / 2


def test_adds_less_than_a_millisecond(upstream: Scripted) -> None:
    """The median exchange over a kept connection costs at most 1 ms more than without the proxy."""
    def median(url: str) -> float:
        with httpx.Client(base_url=url) as http:
            times = []
            for _ in range(31):
                began = time.perf_counter()
                http.get("/v1/models")
                times.append(time.perf_counter() - began)
        return sorted(times)[len(times) // 2]

    with Proxy(upstream.url) as proxy:
        assert median(proxy.url) - median(upstream.url) < 0.001


def test_a_client_that_leaves_is_gone_upstream_too(upstream: Scripted) -> None:
    """Unless that is the fault."""
    for fault, told in ((None, True), (IgnoresLeaving(), False)):
        upstream.left.clear()
        with Proxy(upstream.url, fault) as proxy:
            client = Client(proxy.url, "scripted")
            with client.open_stream("/v1/chat/completions", {"messages": []}) as stream:
                stream.first()
            client.close()
            assert upstream.left.wait(0.5) is told


def test_a_server_that_dies_is_a_disconnect(upstream: Scripted) -> None:
    """A body that ends early is not made to look whole."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def half() -> None:
            connection, _ = listener.accept()
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                               b"Transfer-Encoding: chunked\r\n\r\n5\r\ndata:")
            connection.close()

        threading.Thread(target=half, daemon=True).start()
        with Proxy(f"http://127.0.0.1:{listener.getsockname()[1]}") as proxy:
            answer = Client(proxy.url, "x", timeout_s=5).chat("Hello")
    assert answer.failure is Failure.DISCONNECT


@pytest.mark.parametrize(("fault", "healthy", "broken"), [
    ("korean-in-chinese", "leaves", "가을"),
    ("chinese-in-japanese", "가을", "落叶"),
    ("english-in-russian", "가을", "leaves"),
])
def test_another_language(upstream: Scripted, fault: str, healthy: str, broken: str) -> None:
    """One script is replaced by another, the same in stream and whole answer, with the length and usage untouched."""
    stream, whole = both(upstream, fault)
    assert stream.text == whole.text
    assert healthy in stream.text
    assert broken not in stream.text
    assert (len(stream.text), stream.usage, len(chunks(stream))) == (len(TEXT), ask(upstream).usage, len(PIECES))


def test_another_language_understands_stop_in_it(upstream: Scripted) -> None:
    """A stop string taken from an answer ends the next one there."""
    said = ask(upstream, "english-in-russian").text
    stopped = ask(upstream, "english-in-russian", options={"stop": [said[4:10]]})
    assert stopped.text == said[:4]


@pytest.mark.parametrize("prompt", ["Hi", "Tell me of the leaves that fall in autumn, and of the songs about them."])
def test_echo(upstream: Scripted, prompt: str) -> None:
    """The answer is the prompt, whether that is shorter or longer than the real answer."""
    stream, whole = (ask(upstream, "echo", prompt, stream=stream) for stream in (True, False))
    assert stream.text == whole.text == prompt


def test_empty(upstream: Scripted) -> None:
    """A 200 with nothing in it; with Hangul only to a Korean prompt."""
    stream, whole = both(upstream, "empty-200")
    assert (stream.ok, stream.text, whole.ok, whole.text) == (True, "", True, "")
    assert ask(upstream, "empty-in-korean", "Autumn?").text == TEXT
    assert ask(upstream, "empty-in-korean", "가을?").text == ""


def test_broken_characters(upstream: Scripted) -> None:
    """A cut character is no UTF-8 on the wire; a replaced one is valid UTF-8 with U+FFFD in it."""
    cut, replaced = ask(upstream, "truncated-utf8"), ask(upstream, "replacement-character")
    assert (cut.ok, cut.broken_utf8) == (True, True)
    assert (replaced.broken_utf8, replaced.text) == (False, TEXT.replace("가", "\ufffd\ufffd"))
    assert ask(upstream, "truncated-utf8", stream=False).text == TEXT


@pytest.mark.parametrize(("fault", "expected"), [
    ("dropped-chunk", [*PIECES[:2], *PIECES[3:]]),
    ("repeated-chunk", [*PIECES[:3], *PIECES[2:]]),
    ("stream-differs", [*PIECES[:2], "gbmm_", *PIECES[3:]]),
])
def test_chunks(upstream: Scripted, fault: str, expected: list[str]) -> None:
    """The third chunk is lost, said twice or altered; the whole answer is not touched."""
    stream, whole = both(upstream, fault)
    assert chunks(stream) == expected
    assert whole.text == TEXT


def test_usage(upstream: Scripted) -> None:
    """Missing, wrong, or not adding up: in stream and whole answer alike, the text untouched."""
    for answer in both(upstream, "missing-usage"):
        assert (answer.ok, answer.text, answer.usage) == (True, TEXT, None)
    for answer in both(upstream, "wrong-usage"):
        assert answer.usage is not None
        assert (answer.usage.completion_tokens, answer.usage.total_tokens) == (len(PIECES) + 3, len(PIECES) + 8)
    for answer in both(upstream, "usage-does-not-add-up"):
        assert answer.usage is not None
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens + 2


def test_held_back(upstream: Scripted) -> None:
    """The stream begins after the generation is over: at once, or as slowly as it was generated."""
    generation_s = len(PIECES) * GAP_S
    held, paced = ask(upstream, "buffered-stream"), ask(upstream, "paced-stream")
    assert held.ttft_s is not None
    assert held.ttft_s > generation_s
    assert sum(held.gaps_s) < generation_s / 2
    assert paced.ttft_s is not None
    assert paced.ttft_s > generation_s
    assert sum(paced.gaps_s) > generation_s / 2
    assert held.text == paced.text == TEXT


def test_delays(upstream: Scripted) -> None:
    """The first text, every text, or every fifth one is late."""
    first = ask(upstream, "slow-first-token", first_ms=80)
    assert first.ttft_s is not None
    assert first.ttft_s > 0.08
    assert max(first.gaps_s) < 0.06
    assert sum(ask(upstream, "slow-throughput", every_ms=15).gaps_s) > 0.014 * (len(PIECES) - 1)
    stalls = ask(upstream, "stalls", stall_ms=60, nth=5).gaps_s
    assert [number for number, gap in enumerate(stalls, 1) if gap > 0.05] == [5, 10]


def test_finish_and_length(upstream: Scripted) -> None:
    """`stop` and `length` are exchanged; more tokens are generated, and counted, than were asked for."""
    for stream in (True, False):
        assert ask(upstream, "misstated-finish", stream=stream).finish_reason == "length"
        assert ask(upstream, "misstated-finish", stream=stream, options={"max_tokens": 3}).finish_reason == "stop"
        over = ask(upstream, "max-tokens-overrun", stream=stream, options={"max_tokens": 3}).usage
        assert over is not None
        assert over.completion_tokens == 8


def test_ends_of_streams(upstream: Scripted) -> None:
    """No end mark; or an error inside the stream, after some text."""
    endless, broken = ask(upstream, "no-end-mark"), ask(upstream, "error-in-stream", nth=4)
    assert (endless.done, endless.text) == (False, TEXT)
    assert (broken.failure, broken.status, broken.text) == (Failure.STREAM_ERROR, 200, "".join(PIECES[:4]))


def test_statuses(upstream: Scripted) -> None:
    """200 for bad requests, 500 for good ones that carry a field, errors without a word: other requests as before."""
    def post(fault: str, **kwargs: Any) -> httpx.Response:
        with Proxy(upstream.url, WIRE[fault]()) as proxy:
            return httpx.post(f"{proxy.url}/v1/chat/completions", **kwargs)

    accepted = post("accepts-bad", content=b"{")
    assert (accepted.status_code, accepted.json()["choices"][0]["message"]["content"]) == (200, "Hello.")
    assert post("refuses-good", json={"stop": "x"}).status_code == 500
    assert post("refuses-good", json={}).status_code == 200
    muted = post("mute-errors", content=b"{")
    assert (muted.status_code, muted.json()) == (400, {})
    for fault in ("accepts-bad", "mute-errors"):
        assert post(fault, json={}).json()["choices"][0]["message"]["content"] == TEXT


def test_names(upstream: Scripted) -> None:
    """Another model answers under the asked name; or answers, or the list of models, carry another name."""
    for answer in both(upstream, "unknown-name"):
        assert (answer.model, answer.text) == ("somebody-else", TEXT)
    with Proxy(upstream.url, WIRE["lists-another"]()) as proxy:
        assert Client(proxy.url, "scripted").models() == ["somebody-else"]
    other = Scripted(Other)
    for answer in both(upstream, "wrong-model", other=other.url):
        assert (answer.model, answer.text) == ("scripted", TEXT)
    assert (len(other.asked), len(upstream.asked)) == (2, 2)
    other.shutdown()


def test_never_answers(upstream: Scripted) -> None:
    """Generations hang, everything else is answered."""
    with Proxy(upstream.url, NeverAnswers()) as proxy:
        client = Client(proxy.url, "scripted", timeout_s=0.3)
        assert client.chat("Hello").failure is Failure.TIMEOUT
        assert client.models() == ["scripted"]


def test_many_at_once(upstream: Scripted) -> None:
    """Streams through one proxy do not mix."""
    with Proxy(upstream.url, WIRE["dropped-chunk"]()) as proxy:
        client, answers = Client(proxy.url, "scripted"), []
        threads = [threading.Thread(target=lambda: answers.append(client.chat("Autumn?").text)) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == ["".join([*PIECES[:2], *PIECES[3:]])] * 16
