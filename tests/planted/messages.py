"""HTTP/1.1 messages over asyncio streams: read with their framing, written with the same."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

Headers = tuple[tuple[str, str], ...]

GENERATIONS = ("/v1/chat/completions", "/v1/completions")
_PIECE = 64 * 1024


class Reader(asyncio.StreamReader):
    """A stream reader that tells when the other side has ended, also while nobody reads."""

    def __init__(self) -> None:
        super().__init__(limit=2**20)
        self.ended = asyncio.Event()

    def feed_eof(self) -> None:
        """The other side closed."""
        super().feed_eof()
        self.ended.set()

    def set_exception(self, exc: Exception) -> None:
        """The connection broke."""
        super().set_exception(exc)
        self.ended.set()


@dataclass(frozen=True)
class Request:
    """A request read whole. `upstream` is the http://host:port that it will be sent to."""

    method: str
    target: str
    headers: Headers
    body: bytes
    upstream: str = ""

    @cached_property
    def payload(self) -> dict[str, Any]:
        """The JSON object of the body; empty where the body is anything else."""
        return object_of(self.body)

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def generates(self) -> bool:
        """Whether it asks for a completion."""
        return self.method == "POST" and self.path in GENERATIONS

    @property
    def streams(self) -> bool:
        """Whether it asks for a stream."""
        return self.generates and self.payload.get("stream") is True

    @property
    def prompt(self) -> str:
        """The prompt, or the last message's text; empty where it is neither a string."""
        messages = self.payload.get("messages")
        last = messages[-1] if isinstance(messages, list) and messages else {}
        text = self.payload.get("prompt") or (last.get("content") if isinstance(last, dict) else "")
        return text if isinstance(text, str) else ""

    @property
    def stops(self) -> list[str]:
        """The stop strings."""
        stop = self.payload.get("stop")
        marks = stop if isinstance(stop, list) else [stop]
        return [mark for mark in marks if isinstance(mark, str) and mark]

    def asking(self, **changes: Any) -> Request:
        """The same request with other fields in its JSON body."""
        return replace(self, body=dump({**self.payload, **changes}))

    def wire(self) -> bytes:
        """The bytes to send: the length is stated, whatever the framing was."""
        headers = (*without(self.headers, "content-length", "transfer-encoding"),
                   *((("Content-Length", str(len(self.body))),) if self.body or self.method == "POST" else ()))
        return head(f"{self.method} {self.target} HTTP/1.1", headers) + self.body


@dataclass(frozen=True)
class Whole:
    """A response whose body came in one piece."""

    status: int
    body: bytes
    headers: Headers = (("Content-Type", "application/json; charset=utf-8"),)
    reason: str = ""

    @cached_property
    def payload(self) -> dict[str, Any]:
        """The JSON object of the body; empty where the body is anything else."""
        return object_of(self.body)

    def saying(self, payload: Any) -> Whole:
        """The same response with another JSON body."""
        return replace(self, body=dump(payload))

    def wire(self) -> bytes:
        """The bytes to send."""
        length = ("Content-Length", str(len(self.body)))
        headers = (*without(self.headers, "content-length", "transfer-encoding"), length)
        return head(f"HTTP/1.1 {self.status} {self.reason}", headers) + self.body


@dataclass(frozen=True)
class Opening:
    """A response of which only the head was read; `pieces` yields the body as it comes, chunk by chunk."""

    status: int
    reason: str
    headers: Headers
    pieces: AsyncIterator[bytes]

    @property
    def is_stream(self) -> bool:
        """Whether the body is server-sent events of an accepted request."""
        return self.status == 200 and value(self.headers, "content-type").startswith("text/event-stream")

    @property
    def is_chunked(self) -> bool:
        """Whether the body is sent in chunks."""
        return value(self.headers, "transfer-encoding").lower() == "chunked"

    @property
    def has_end(self) -> bool:
        """Whether the body's end can be told without closing the connection."""
        return self.is_chunked or bool(value(self.headers, "content-length")) or self.status in (204, 304)

    def wire(self) -> bytes:
        """The bytes of the head."""
        return head(f"HTTP/1.1 {self.status} {self.reason}", self.headers)


def dump(payload: Any) -> bytes:
    """JSON as the servers write it: compact, UTF-8; where that cannot be (lone surrogates), in ASCII."""
    try:
        return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(payload).encode()


def object_of(body: bytes) -> dict[str, Any]:
    """The JSON object that these bytes are; empty where they are anything else."""
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):  # nested too deep for the parser: no object for us either
        return {}
    return payload if isinstance(payload, dict) else {}


def head(first: str, headers: Headers) -> bytes:
    """A message's first line and headers, with the blank line."""
    lines = [first, *(f"{name}: {content}" for name, content in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def value(headers: Headers, name: str) -> str:
    """The header's value; empty where it is missing."""
    return next((content for key, content in headers if key.lower() == name), "")


def without(headers: Headers, *names: str) -> Headers:
    """The headers but these."""
    return tuple((key, content) for key, content in headers if key.lower() not in names)


async def read_request(reader: Reader, upstream: str) -> Request | None:
    """The next request of a connection; None where it ended instead."""
    try:
        first, headers = await _read_head(reader)
    except asyncio.IncompleteReadError:
        return None
    method, target, _ = first.split(" ", 2)
    body = b"".join([piece async for piece in _pieces(reader, headers, until_end=False)])
    return Request(method, target, headers, body, upstream)


async def read_opening(reader: Reader, method: str) -> Opening:
    """The head of the next response. Raises IncompleteReadError where the connection ends before it."""
    first, headers = await _read_head(reader)
    _, status, *reason = first.split(" ", 2)
    bodiless = method == "HEAD" or status in ("204", "304")
    pieces = _nothing() if bodiless else _pieces(reader, headers, until_end=True)
    return Opening(int(status), "".join(reason), headers, pieces)


def chunk(piece: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(piece), piece)


LAST_CHUNK = b"0\r\n\r\n"


async def _read_head(reader: Reader) -> tuple[str, Headers]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
    pairs = (line.partition(":") for line in lines[1:])
    return lines[0], tuple((name, content.strip()) for name, _, content in pairs)


async def _pieces(reader: Reader, headers: Headers, *, until_end: bool) -> AsyncIterator[bytes]:
    if value(headers, "transfer-encoding").lower() == "chunked":
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            yield (await reader.readexactly(size + 2))[:-2]
        while (await reader.readuntil(b"\r\n")).strip():
            pass  # trailers
        return
    length = value(headers, "content-length")
    left = int(length) if length else 2**63 if until_end else 0
    while left and (piece := await reader.read(min(left, _PIECE))):
        left -= len(piece)
        yield piece
    if length and left:
        raise ConnectionError("the body ended early")


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""
