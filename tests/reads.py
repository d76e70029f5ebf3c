"""Reads as a kernel would return them, put through a call without a socket."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Sequence
from typing import Any

from fixtures.load.answer import Answer
from fixtures.load.wire.call import Call
from fixtures.load.wire.stamp import SO_TIMESTAMPNS, Ancillary, StampClock

START_NS = 1_700_000_000_000_000_000
CLOCK = StampClock()
CLOCK.close()  # only its arithmetic is needed


def stamped(at_ns: int) -> Ancillary:
    """The control message of a read whose last segment arrived then."""
    return [(socket.SOL_SOCKET, SO_TIMESTAMPNS, struct.pack("@qq", *divmod(at_ns, 1_000_000_000)))]


def started(*, streamed: bool = True) -> Call:
    """A call whose request was just sent."""
    call = Call(b"request", streamed=streamed)
    call.started_ns = START_NS
    return call


def played(reads: Sequence[bytes], *, streamed: bool = True) -> tuple[Call, Answer]:
    """The call and its answer where these reads come, one a millisecond, and then the server closes."""
    call, at_ns = started(streamed=streamed), START_NS
    for data in reads:
        at_ns += 1_000_000
        if data and call.take(at_ns, stamped(at_ns), data):
            break
    else:
        call.close(at_ns + 1_000_000)
    return call, call.answer(CLOCK)


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """The bytes cut at these places."""
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in zip(edges, edges[1:], strict=False)]


def event(text: str, **more: Any) -> str:
    """The JSON of one chat event, not escaped."""
    payload = {"model": "m", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}], **more}
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":"))


def chunked(*parts: bytes, extension: bytes = b"", trailer: bytes = b"") -> bytes:
    """Each part in a chunk of its own."""
    sized = b"".join(b"%x%s\r\n%s\r\n" % (len(part), extension, part) for part in parts if part)
    return sized + b"0\r\n" + trailer + b"\r\n"
