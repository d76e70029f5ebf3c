"""The scripted server: a small OpenAI-compatible server in this process that can break one thing at a time."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

MODEL = "scripted"
VOCABULARY = 1000
CONTEXT = 512
WORDS = ("one", "small", "bird", "sang", "in", "green", "trees", "while", "rain", "fell")
OWN_END = 60  # a chat answer ends by itself after this many tokens
TOKEN_S = 0.001
FLOWS = frozenset({"", "buffered", "held-after-first", "paced"})  # what takes its time: the others may hurry
Json = dict[str, Any]


class RefusedError(Exception):
    """A bad request, with the status that it gets."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ScriptedServer(ThreadingHTTPServer):
    """Answers each prompt with the same words; `fault` names the one thing that it does wrong, "" for none."""

    daemon_threads = True

    def __init__(self, fault: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.fault = fault
        self.token_s = TOKEN_S if fault in FLOWS else TOKEN_S / 10

    @property
    def url(self) -> str:
        """Base URL without /v1."""
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def serving(fault: str = "") -> Iterator[ScriptedServer]:
    """A scripted server for the time of a test."""
    server = ScriptedServer(fault)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def usage_of(prompt_tokens: int, completion_tokens: int) -> Json:
    """A usage object."""
    return {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens}


def tokens_of(body: Json, chat: bool) -> tuple[int, list[str], str]:
    """Prompt tokens, the answer's tokens and its finish_reason; raises RefusedError for what a server must not take."""
    prompt = _prompt(body, chat)
    asked = body.get("max_tokens", 16)
    if not isinstance(asked, int) or asked < 1:
        raise RefusedError(400, "max_tokens must be a positive integer")
    for name, most in (("temperature", 2), ("top_p", 1)):
        if not isinstance(body.get(name, 1), int | float) or not 0 <= body.get(name, 1) <= most:
            raise RefusedError(400, f"{name} must be from 0 to {most}")
    if body.get("model") != MODEL:
        raise RefusedError(404, "no such model")
    prompt_tokens = len(prompt.split()) + 2 if isinstance(prompt, str) else len(prompt)
    if prompt_tokens > CONTEXT:
        raise RefusedError(400, "the prompt is longer than the context")
    return prompt_tokens, *_answer(asked, chat, body.get("stop") or [])


def _prompt(body: Json, chat: bool) -> str | list[int]:
    if not chat:
        prompt = body.get("prompt")
        if not isinstance(prompt, str | list):
            raise RefusedError(400, "prompt is missing")
        return prompt
    messages = body.get("messages")
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise RefusedError(400, "messages must be a list of objects")
    return " ".join(str(message.get("content")) for message in messages)


def _answer(asked: int, chat: bool, stops: list[str]) -> tuple[list[str], str]:
    most = OWN_END if chat else CONTEXT
    tokens = [f" {WORDS[n % len(WORDS)]}{n}" for n in range(min(asked, most))]
    text = "".join(tokens)
    for stop in stops:
        if stop in text:
            return [text[: text.index(stop)]], "stop"
    return tokens, "stop" if asked >= most else "length"


class _Handler(BaseHTTPRequestHandler):
    server: ScriptedServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    known: ClassVar[frozenset[str]] = frozenset({"/v1/chat/completions", "/v1/completions"})

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """List the models."""
        if self.path == "/v1/models":
            self._json(200, {"data": [{"id": "other" if self.server.fault == "model-not-listed" else MODEL}]})
        else:
            self._json(405 if self.path in self.known else 404, {"error": {"message": "not here"}})

    def do_POST(self) -> None:
        """Generate."""
        raw = self.rfile.read(int(self.headers.get("content-length", 0)))
        try:
            if self.path not in self.known:
                raise RefusedError(404, "no such route")
            self._generate(self._body(raw))
        except RefusedError as refused:
            self._refuse(refused)

    def _body(self, raw: bytes) -> Json:
        try:
            body = json.loads(raw)
        except (ValueError, RecursionError) as fault:
            raise RefusedError(400, "the body is not JSON") from fault
        if not isinstance(body, dict):
            raise RefusedError(400, "the body is no object")
        return body

    def _refuse(self, refused: RefusedError) -> None:
        fault = self.server.fault
        if fault == "accepts-bad":
            self._json(200, {"choices": [{"text": "fine", "message": {"content": "fine"}, "finish_reason": "stop"}]})
        elif fault == "5xx-for-bad":
            self._json(500, {"error": {"message": "oops"}})
        elif fault == "no-message":
            self._json(refused.status, {})
        elif fault == "message-elsewhere":
            self._json(refused.status, {"detail": str(refused)})
        elif fault == "hangs-on-bad":
            time.sleep(1.0)
        else:
            self._json(refused.status, {"error": {"message": str(refused)}})

    def _generate(self, body: Json) -> None:
        chat, fault = self.path.endswith("chat/completions"), self.server.fault
        if fault == "5xx-for-good":
            self._json(500, {"error": {"message": "always"}})
            return
        asked = dict(body)
        if fault == "overrun" and isinstance(asked.get("max_tokens"), int):
            asked["max_tokens"] += 2
        if fault == "ignores-stop":
            asked.pop("stop", None)
        prompt_tokens, tokens, finish = tokens_of(asked, chat)
        if fault == "always-stop":
            finish = "stop"
        if fault == "always-length":
            finish = "length"
        usage = self._usage(prompt_tokens, len(tokens), bool(body.get("stream")))
        if body.get("stream"):
            self._stream(chat, tokens, finish, usage)
        else:
            time.sleep(self.server.token_s * len(tokens))
            self._json(200, self._whole(chat, tokens, finish, usage, bool(body.get("logprobs"))))

    def _usage(self, prompt_tokens: int, completion_tokens: int, stream: bool) -> Json | None:
        fault = self.server.fault
        if fault == "wrong-usage" or (fault == "wrong-stream-usage" and stream):
            completion_tokens += 3
        return None if fault == "missing-usage" else usage_of(1 if fault == "constant-prompt" else prompt_tokens,
                                                              completion_tokens)

    def _whole(self, chat: bool, tokens: list[str], finish: str, usage: Json | None, listed: bool) -> Json:
        choice: Json = {"index": 0, "finish_reason": finish}
        text = "" if self.server.fault == "empty" else "".join(tokens)
        choice.update({"message": {"role": "assistant", "content": text}} if chat else {"text": text})
        if listed:
            choice["logprobs"] = {"content": [{"token": token} for token in tokens]}
        name = "another" if self.server.fault == "wrong-model-name" else MODEL
        return {"model": name, "choices": [choice], **({"usage": usage} if usage else {})}

    def _stream(self, chat: bool, tokens: list[str], finish: str, usage: Json | None) -> None:
        fault = self.server.fault
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        if chat and fault != "no-role":
            self._event(chat, {"role": "assistant", "content": ""})
        if fault in ("buffered", "paced"):
            time.sleep(self.server.token_s * len(tokens))
        for at, token in enumerate(tokens):
            self._token(chat, at, token)
        if fault == "error-in-stream":
            self._send({"error": {"message": "out of memory", "code": 500}})
        self._event(chat, {}, finish)
        if fault == "two-finishes":
            self._event(chat, {}, finish)
        if usage:
            self._send({"model": MODEL, "choices": [], "usage": usage})
        if fault != "no-end-mark":
            self.wfile.write(b"data: [DONE]\n\n")

    def _token(self, chat: bool, at: int, token: str) -> None:
        fault = self.server.fault
        if fault == "held-after-first":
            time.sleep(0.08 if at == 1 else 0)
        elif fault != "buffered":
            time.sleep(self.server.token_s)
        pieces = {"drops-a-chunk": 0, "repeats-a-chunk": 2}.get(fault, 1) if at == 2 else 1
        for _ in range(pieces):
            self._event(chat, {"content": "other" if fault == "other-text" and at == 2 else token})

    def _event(self, chat: bool, delta: Json, finish: str | None = None) -> None:
        choice: Json = {"index": 0, "finish_reason": finish}
        choice.update({"delta": delta} if chat else {"text": delta.get("content", "")})
        if not chat and not delta and not finish:
            return
        self._send({"model": MODEL, "choices": [choice]})

    def _send(self, event: Json) -> None:
        self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")

    def _json(self, status: int, body: Json) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
