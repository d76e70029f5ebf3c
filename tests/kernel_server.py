"""A server whose kernels may be broken in one way: a small OpenAI API in this process, made for kernels.live.

`fault` is `KIND` or `KIND:WAY`, broken always or only where a request is asked in that way. It is healthy without.
`words` is its vocabulary: a model with random weights says one word over and over where it is greedy.
"""

from __future__ import annotations

import json
import math
import random
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from fixtures.kernels import schema

CONTEXT = 512
WORDS = tuple(f" {head}{tail}" for head in ("ba", "du", "ki", "lo", "me", "nu", "ra", "si") for tail in "bglnrt")
LONG = CONTEXT // 4  # words from which on a prompt is a long one
MANY = 4  # seeds from here on are those of many streams
Json = dict[str, Any]


class KernelServer(ThreadingHTTPServer):
    """Answers until it is closed, or dies."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, fault: str, *, knows_all: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.kind, _, self.way = fault.partition(":")
        self.knows_all = knows_all  # of what OpenAI's API does not have
        self.dead = self.stuck = False
        self.cache: set[str] = set()
        self.bodies: list[Json] = []

    @property
    def url(self) -> str:
        """Base URL without /v1."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def breaks(self, body: Json, prompt: str) -> bool:
        """Whether this request is asked in the way that is broken."""
        if not self.kind or not self.way:
            return bool(self.kind)
        return self.way in ways_of(body, prompt)


def ways_of(body: Json, prompt: str) -> set[str]:
    """The ways in which a request is asked, as its kernels see them."""
    found = {"long" if len(prompt.split()) > LONG else "short"}
    found |= {"greedy"} if body.get("temperature") == 0 else {"sampled"}
    found |= {name for name in ("top_p", "top_k", "frequency_penalty", "repetition_penalty", "logprobs", "response_format")
              if name in body}
    found |= {"decode"} if body["max_tokens"] > 32 and "response_format" not in body else set()
    plain = found == {"short", "sampled"} and body.get("seed", 0) >= MANY
    return found | ({"many"} if plain else set())


@contextmanager
def serving(fault: str = "", *, knows_all: bool = True) -> Iterator[KernelServer]:
    """A server for the time of a test."""
    server = KernelServer(fault, knows_all=knows_all)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.dead = True
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: KernelServer
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        """Generate, or break."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.bodies.append(body)
        self._answer(body, body["messages"][-1]["content"])

    def _answer(self, body: Json, prompt: str) -> None:
        broken = self.server.kind if self.server.breaks(body, prompt) else ""
        self.server.stuck |= broken == "sticks"
        if self.server.dead:
            return  # closed without a word, as by a process that is gone
        if broken == "dies":
            self.server.dead = True
            self.server.socket.close()
        elif broken == "hangs" or self.server.stuck:
            while not self.server.dead:
                time.sleep(0.02)
        elif broken == "500":
            self._json(500, {"error": {"message": "CUDA error: an illegal memory access was encountered"}})
        elif refusal := self._refusal(body, prompt, broken):
            self._json(400, {"error": {"message": refusal}})
        else:
            self._generate(body, prompt, broken)

    def _refusal(self, body: Json, prompt: str, broken: str) -> str:
        own = {"top_k", "repetition_penalty", "ignore_eos"} & set(body)
        if broken == "refuses":
            return "not supported by this build"
        if own and not self.server.knows_all:
            return f"unrecognized request argument: {sorted(own)[0]}"
        too_long = len(prompt.split()) + 8 + body["max_tokens"] > CONTEXT
        return "this model's maximum context length is exceeded" if too_long else ""

    def _generate(self, body: Json, prompt: str, broken: str) -> None:
        asked = body["max_tokens"]
        words = self._words(body, prompt, broken)
        count = len(words) - (3 if broken == "too-few" else 0)
        text, finish = "".join(words[:count]), "length" if len(words) == asked else "stop"
        if broken in ("empty", "no-tokens"):
            text, count = "", 0 if broken == "no-tokens" else count
        usage = None if broken == "no-usage" else self._usage(prompt, count)
        if not body["stream"]:
            choice = {"index": 0, "message": {"content": text}, "finish_reason": finish,
                      "logprobs": self._logprobs(body, words, broken)}
            self._json(200, {"choices": [choice], **({"usage": usage} if usage else {})})
        else:
            self._stream(text, finish, usage, broken)

    def _words(self, body: Json, prompt: str, broken: str) -> list[str]:
        asked = body["max_tokens"]
        if "response_format" in body and broken not in ("ignores-schema",):
            text = json.dumps({"season": schema.SEASONS[1], "warm": True})
            whole = re.findall(r"\S+\s*|\s+", text)
            return [*whole[:1], *["\n"] * (asked - 1)] if broken == "blanks" else whole
        if broken == "one-text":
            return ["!"] * asked
        if broken == "one-token-and-stop":
            return [WORDS[0]]
        rng = random.Random(f"{prompt}{body.get('seed')}")
        if body.get("temperature") == 0:
            return [rng.choice(WORDS)] * asked
        own_end = asked if body.get("ignore_eos") else rng.randrange(24, 200)
        return [rng.choice(WORDS) for _ in range(min(asked, own_end))]

    def _usage(self, prompt: str, count: int) -> Json:
        begun = " ".join(prompt.split()[: CONTEXT // 2])
        cached = len(begun.split()) if begun in self.server.cache else 0
        self.server.cache.add(begun)
        tokens = len(prompt.split()) + 8
        return {"prompt_tokens": tokens, "completion_tokens": count, "total_tokens": tokens + count,
                "prompt_tokens_details": {"cached_tokens": cached}}

    def _logprobs(self, body: Json, words: list[str], broken: str) -> Json | None:
        if not body.get("logprobs") or broken == "no-logprobs":
            return None
        value = {"nan": math.nan, "null": None, "never": -9999.0}.get(broken, -1.25)
        return {"content": [{"token": word, "logprob": value if number else -0.5} for number, word in enumerate(words)]}

    def _stream(self, text: str, finish: str, usage: Json | None, broken: str) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for word in re.findall(r"\s*\S+", text) or [text]:
            self._event({"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]})
        if broken == "cut":
            return
        self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
        if usage:
            self._event({"choices": [], "usage": usage})
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, event: Json) -> None:
        self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")

    def _json(self, status: int, body: Json) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
