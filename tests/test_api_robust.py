"""api.robust sends the same requests every time, survives what it does to a server, and names the request that did it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from fixtures.api import generated, robust
from fixtures.api.generated import HUGE_LOGPROBS, OUT_OF_VOCABULARY, Request, encode, explicit
from fixtures.api.robust import Mishap, RobustObserved
from fixtures.api.subject import Route, Subject
from fixtures.load.client import Client
from fixtures.verdict import Verdict

SUBJECT = Subject("scripted", 512, 1000, "Tell me of the spring")
Reaction = Callable[[Any], int | None]  # a status, None for a closed connection


class Fragile(ThreadingHTTPServer):
    """Answers every POST as `react` says of its body; dies of a reaction below 0."""

    daemon_threads = True

    def __init__(self, react: Reaction) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.react, self.alive = react, True
        self.bodies: list[bytes] = []

    @property
    def client(self) -> Client:
        """A client of this server."""
        return Client(f"http://127.0.0.1:{self.server_address[1]}", "scripted", timeout_s=2)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that went away are no news."""


class _Handler(BaseHTTPRequestHandler):
    server: Fragile

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        """React."""
        raw = self.rfile.read(int(self.headers["content-length"]))
        self.server.bodies.append(raw)
        try:
            body = json.loads(raw)
        except (ValueError, RecursionError):
            body = None
        status = self.server.react(body) if self.server.alive else None
        if status is not None and status < 0:
            self.server.alive = False
        if status is not None and status > 0:
            self._answer(status)

    def _answer(self, status: int) -> None:
        data = json.dumps({"error": {"message": "no"}} if status >= 400 else {"choices": [{"text": "yes"}]}).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serving(react: Reaction) -> Iterator[Fragile]:
    """A fragile server for the time of a test."""
    server = Fragile(react)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def observe(server: Fragile, **options: Any) -> RobustObserved:
    """A short run against it."""
    defaults: dict[str, Any] = {"examples": 40, "limit_s": 5.0}
    return robust.observe(server.client, SUBJECT, lambda: server.alive, **{**defaults, **options})


def sturdy(body: Any) -> int:
    """200 for an object, 400 for anything else."""
    return 200 if isinstance(body, dict) else 400


def is_chat(body: Any) -> bool:
    """About half of what is generated, and never the good request in between."""
    return isinstance(body, dict) and "messages" in body


def prompt_of(body: Any) -> Any:
    """The prompt, or None."""
    return body.get("prompt") if isinstance(body, dict) else None


def test_a_sturdy_server_passes() -> None:
    """All generated and all explicit requests are sent and judged."""
    with serving(sturdy) as server:
        seen = observe(server)
    judgement = robust.judge(seen)
    assert judgement.verdict is Verdict.PASS, judgement.reason
    assert seen.examples == 40 + len(explicit(SUBJECT))
    assert seen.seed == robust.SEED


def test_two_runs_send_the_same() -> None:
    """Generated requests are derandomised: a verdict does not hang on luck."""
    sent = []
    for _ in range(2):
        with serving(sturdy) as server:
            observe(server)
            sent.append(server.bodies)
    assert sent[0] == sent[1]


@settings(max_examples=150, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(generated.requests(SUBJECT))
def test_generated_requests_hold_no_known_killer(request: Request) -> None:
    """No generated prompt has an unknown token id or an empty list of ids, no count is huge, no generation is long."""
    if not request.content.startswith(b'{"model": '):
        return
    body = json.loads(request.content)
    logprobs, prompt, tokens = body.get("logprobs"), body.get("prompt"), body["max_tokens"]
    assert not isinstance(logprobs, int) or logprobs <= 8
    assert not isinstance(tokens, int) or tokens <= 8
    nested = isinstance(prompt, list) and any(isinstance(item, list) for item in prompt)
    for ids in prompt if nested else [prompt]:
        assert not nested or ids
        assert not isinstance(ids, list) or all(0 <= token < 1000 for token in ids if isinstance(token, int))


def test_a_5xx_is_found_and_shrunk() -> None:
    """A server that breaks on one field is failed, and the smallest request found still has it."""
    with serving(lambda body: 500 if is_chat(body) else sturdy(body)) as server:
        seen = observe(server)
    assert robust.judge(seen).causes == ("5xx",)
    path, _, body = seen.shrunk.partition(" ")
    assert path in list(Route)
    assert is_chat(json.loads(body))
    assert len(body) <= min(len(failure.request) for failure in seen.failures)


def test_a_dropped_connection_is_no_death() -> None:
    """A connection that ends without an answer is its own cause while the server goes on answering."""
    with serving(lambda body: None if is_chat(body) else sturdy(body)) as server:
        judgement = robust.judge(observe(server))
    assert judgement.causes == ("connection-reset",)


def test_a_hang_is_bounded() -> None:
    """Two hangs are enough to stop generating, and each costs the limit at most."""
    def slow(body: Any) -> int:
        if is_chat(body):
            time.sleep(1.6)
        return sturdy(body)

    with serving(slow) as server:
        seen = observe(server, limit_s=0.8, without=["role-null"])
    assert robust.judge(seen).causes == ("hang",)
    assert len(seen.failures) == 2


@pytest.mark.parametrize(("name", "deadly"), [
    (OUT_OF_VOCABULARY, lambda body: prompt_of(body) == [1007]),
    (HUGE_LOGPROBS, lambda body: isinstance(body, dict) and body.get("logprobs") == 10**6),
    ("server-died", lambda body: is_chat(body)),
])
def test_what_killed_the_server_is_named(name: str, deadly: Callable[[Any], bool]) -> None:
    """A death is one cause, by name where the explicit example is known, and nothing is sent after it."""
    with serving(lambda body: -1 if deadly(body) else sturdy(body)) as server:
        seen = observe(server)
        last = json.loads(server.bodies[-1])
    assert robust.judge(seen).causes == (name,)
    assert [killer.kind for killer in seen.killers] == ["died"]
    assert deadly(json.loads(seen.killers[0].request))
    assert last["max_tokens"] == 1  # the good request that found the server dead


def test_a_revived_server_is_asked_the_rest() -> None:
    """After a death by an explicit example the rest goes on, and each killer is named."""
    def react(body: Any) -> int:
        deadly = prompt_of(body) == [1007] or (isinstance(body, dict) and body.get("logprobs") == 10**6)
        return -1 if deadly else sturdy(body)

    with serving(react) as server:
        def revive() -> bool:
            server.alive = True
            return True

        seen = observe(server, revive=revive)
    assert set(robust.judge(seen).causes) == {OUT_OF_VOCABULARY, HUGE_LOGPROBS}
    assert seen.examples == 40 + len(explicit(SUBJECT))


def test_a_server_that_lives_and_answers_nothing_is_told_from_a_dead_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process runs, the engine behind it is gone."""
    monkeypatch.setattr(robust, "DEATH_S", 0.2)
    with serving(lambda body: -1 if is_chat(body) else sturdy(body)) as server:
        seen = robust.observe(server.client, SUBJECT, lambda: True, examples=40, limit_s=5.0)
    assert robust.judge(seen).causes == ("bad-after",)


def test_a_server_that_never_answers_is_not_fuzzed() -> None:
    """Without a good answer to begin with nothing is sent, and nothing passes."""
    with serving(lambda body: 500) as server:
        seen = observe(server)
    assert seen.examples == 0
    assert robust.judge(seen).causes == ("not-answering",)


def test_an_error_code_inside_a_stream_counts() -> None:
    """A 200 whose stream carries a 5xx error is a 5xx."""
    event = b'data: {"error": {"code": 500, "message": "boom"}}\n\n'
    assert robust._error_code(event.decode()) == 500
    assert robust._error_code('data: {"choices": [{"text": "\\"code\\": 500"}]}') == 0


def test_the_killer_is_no_other_failure() -> None:
    """Death hides the answer that the killing request got, and other failures stay."""
    killer = Mishap("died", Route.COMPLETIONS, "{}", None, "", OUT_OF_VOCABULARY)
    other = Mishap("5xx", Route.CHAT, "[]", 500, "oops")
    judgement = robust.judge(RobustObserved(3, (other,), (killer,), 1.0, 1))
    assert judgement.causes == (OUT_OF_VOCABULARY, "5xx")


def test_surrogates_and_infinities_reach_the_wire() -> None:
    """What a careless client would send is sent, as bytes that are plain ASCII."""
    assert encode({"a": "\ud800", "b": float("inf")}) == b'{"a": "\\ud800", "b": Infinity}'
    assert len(Request(Route.CHAT, b"x" * 5000).text) == 500
