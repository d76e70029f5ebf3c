"""Servers that answer a request as no server should, each on a loopback socket of its own."""

from __future__ import annotations

import gzip
import json
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import repeat

from fixtures.load.answer import Failure
from tests.reads import chunked, event

OK = b"HTTP/1.1 200 OK\r\n"
SSE = OK + b"content-type: text/event-stream\r\n"
CHUNKED = SSE + b"transfer-encoding: chunked\r\n\r\n"
EVENT = f"data: {event('a')}\n\n".encode()
BODY = json.dumps({"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}).encode()
STREAM = CHUNKED + chunked(EVENT, b"data: [DONE]\n\n")


@dataclass
class Peer:
    """One connection as its server sees it; `sent` counts the bytes that were taken off the server's hands."""

    sock: socket.socket
    over: threading.Event
    sent: list[int] = field(default_factory=lambda: [0])

    def send(self, data: bytes) -> None:
        """Send these bytes."""
        while data:
            count = self.sock.send(data)
            self.sent[0] += count
            data = data[count:]

    def send_all(self, parts: Iterable[bytes], wait_s: float = 0.0) -> None:
        """Send one after another until the client leaves, with a pause after each."""
        for part in parts:
            self.send(part)
            if self.over.wait(wait_s) if wait_s else self.over.is_set():
                return

    def hush(self) -> None:
        """Say nothing until the test is over or the client has left."""
        self.sock.settimeout(0.02)
        while not self.over.is_set():
            with suppress(TimeoutError):
                if not self.sock.recv(1 << 16):
                    return

    def reset(self) -> None:
        """Close so that the client gets a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


Script = Callable[[Peer], None]


def request(sock: socket.socket) -> bytes:
    """Read one request and return its head; empty where the client left."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (part := sock.recv(1 << 16)):
            return b""
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    left = int(head.lower().rpartition(b"content-length: ")[2].split(b"\r\n")[0]) - len(body)
    while left > 0 and (part := sock.recv(min(left, 1 << 16))):
        left -= len(part)
    return head


def asked_well(sock: socket.socket) -> bool:
    """Whether the request that comes next is one that is to be answered well."""
    return b"/good" in sock.recv(1 << 16, socket.MSG_PEEK)


@contextmanager
def serving(script: Script, *, early: bool = False, sent: list[int] | None = None) -> Iterator[str]:
    """Play `script` to each connection, once its request has been read (`early`: before).

    Paths with /good get a good answer. `sent` counts the bytes that clients took. Yields the base URL.
    """
    listener, over, threads = socket.create_server(("127.0.0.1", 0), backlog=64), threading.Event(), list[threading.Thread]()
    listener.settimeout(0.05)

    def play(sock: socket.socket) -> None:
        peer = Peer(sock, over, [0] if sent is None else sent)
        with sock, suppress(OSError):
            sock.settimeout(20)
            while asked_well(sock):
                request(sock)
                peer.send(STREAM)
            if early or request(sock):
                script(peer)
                sock.shutdown(socket.SHUT_WR)
                peer.hush()  # a socket that is closed with bytes unread would reset the connection

    def accept() -> None:
        while not over.is_set():
            with suppress(TimeoutError):
                threads.append(threading.Thread(target=play, args=[listener.accept()[0]], daemon=True))
                threads[-1].start()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        over.set()
        acceptor.join(5)
        listener.close()
        for thread in threads:
            thread.join(5)


@dataclass(frozen=True)
class Bad:
    """A bad server: what it does, and in which class a stream and a whole answer end (None: good, `whole` as the stream)."""

    script: Script
    stream: Failure | None
    whole: Failure | None
    early: bool = False


def says(data: bytes) -> Script:
    """Send this and close."""
    return lambda peer: peer.send(data)


def hushes(data: bytes = b"") -> Script:
    """Send this and then nothing."""
    def play(peer: Peer) -> None:
        peer.send(data)
        peer.hush()
    return play


def resets(data: bytes = b"") -> Script:
    """Send this, let it arrive, and reset the connection."""
    def play(peer: Peer) -> None:
        peer.send(data)
        time.sleep(0.05)
        peer.reset()
    return play


def closes_unread(peer: Peer) -> None:
    """Close at once with the request unread."""
    peer.sock.close()


def _counted(length: bytes, body: bytes = BODY, more: bytes = b"") -> bytes:
    return OK + b"content-length: " + length + b"\r\n" + more + b"\r\n" + body


def _sized(size: bytes, data: bytes = EVENT) -> bytes:
    return CHUNKED + size + b"\r\n" + data + b"\r\n0\r\n\r\n"


def both(script: Script, failure: Failure, *, early: bool = False) -> Bad:
    """The same class for streams and whole answers."""
    return Bad(script, failure, failure, early)


F = Failure
PROTOCOL = {
    "garbage": random.Random(0).randbytes(10_000),
    "http2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "http0.9": BODY,
    "blanks-in-the-head": OK + b"x:" + b" " * 1500 + b"\0\r\n\r\n",
    "folded-header": OK + b"x: 1\r\n y\r\n\r\n",
    "size-too-short": _sized(b"3"),
    "size-too-long": _sized(b"fff"),
    "size-negative": _sized(b"-5"),
    "size-0x": _sized(b"0x10"),
    "size-beyond-64-bits": _sized(b"f" * 17),
    "size-no-hex": _sized(b"zz"),
    "size-empty": _sized(b""),
    "length-too-short": _counted(b"5"),
    "length-negative": _counted(b"-5"),
    "length-in-words": _counted(b"many"),
    "length-beyond-64-bits": _counted(b"9" * 30),
    "two-lengths": _counted(b"%d" % len(BODY), more=b"content-length: 7\r\n"),
    "upgrade": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\n\r\n",
    "encoded-transfer": OK + b"transfer-encoding: gzip, chunked\r\n\r\n",
    "bytes-after-the-end": _counted(b"%d" % len(BODY), BODY + b"and more"),
    "bytes-after-the-last-chunk": STREAM + b"and more",
    "two-answers": STREAM + STREAM,
}
ZIPPED = gzip.compress(BODY)
BAD: dict[str, Bad] = {
    **{name: both(says(data), F.PROTOCOL) for name, data in PROTOCOL.items()},
    "no-size-then-silence": both(hushes(_sized(b"zz")[:-7]), F.PROTOCOL),
    "endless-interim": both(lambda peer: peer.send_all(repeat(b"HTTP/1.1 100 Continue\r\n\r\n")), F.PROTOCOL),
    "silence": both(hushes(), F.TIMEOUT),
    "half-a-head-then-silence": both(hushes(OK[:20]), F.TIMEOUT),
    "head-then-silence": both(hushes(CHUNKED), F.TIMEOUT),
    "half-a-stream-then-silence": both(hushes(CHUNKED + b"%x\r\n" % len(EVENT) + EVENT), F.TIMEOUT),
    "size-too-long-then-silence": both(hushes(_sized(b"fff")[:-7]), F.TIMEOUT),
    "length-too-long-then-silence": both(hushes(_counted(b"999")), F.TIMEOUT),
    "drip": both(lambda peer: peer.send_all((bytes([byte]) for byte in STREAM), 0.05), F.TIMEOUT),
    "comments-for-ever": both(lambda peer: peer.send_all([SSE + b"\r\n", *repeat(b": ping\n\n", 1 << 16)], 0.01), F.TIMEOUT),
    "interim-drip": both(lambda peer: peer.send_all(repeat(b"HTTP/1.1 100 C\r\n\r\n"), 0.05), F.TIMEOUT),
    "nothing-then-close": both(says(b""), F.DISCONNECT),
    "half-a-head-then-close": both(says(OK[:20]), F.DISCONNECT),
    "size-too-long-then-close": both(says(_sized(b"fff")[:-7]), F.DISCONNECT),
    "size-huge": both(says(_sized(b"7fffffffffffff")[:-7]), F.DISCONNECT),
    "length-too-long": both(says(_counted(b"999")), F.DISCONNECT),
    "half-an-event": both(says(CHUNKED + b"%x\r\n" % len(EVENT) + EVENT[:30]), F.DISCONNECT),
    "reset-before-the-request": both(resets(), F.RESET, early=True),
    "closed-with-the-request-unread": both(closes_unread, F.RESET, early=True),
    "reset-before-the-head": both(resets(), F.RESET),
    "reset-in-the-head": both(resets(OK[:20]), F.RESET),
    "reset-in-the-middle": both(resets(CHUNKED + b"%x\r\n" % len(EVENT) + EVENT[:30]), F.RESET),
    "moved": both(says(b"HTTP/1.1 301 Moved\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"), F.REDIRECT),
    "moved-to-itself": both(says(b"HTTP/1.1 307 Again\r\nlocation: /v1/chat/completions\r\n\r\n"), F.REDIRECT),
    "not-modified": both(says(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n"), F.REDIRECT),
    "web-page": Bad(says(OK + b"content-type: text/html\r\n\r\n<html>It works!</html>"), F.CONTENT_TYPE, F.MALFORMED),
    "json-for-a-stream": Bad(says(_counted(b"%d" % len(BODY), more=b"content-type: application/json\r\n")),
                             F.CONTENT_TYPE, None),
    "zipped": both(says(_counted(b"%d" % len(ZIPPED), ZIPPED, b"content-encoding: gzip\r\n")), F.CONTENT_TYPE),
    "no-content": both(says(b"HTTP/1.1 204 No Content\r\n\r\n"), F.STATUS),
    "created": both(says(STREAM.replace(b"200 OK", b"201 Created")), F.STATUS),
    "refusal": both(says(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"), F.STATUS),
    "status-999": both(says(b"HTTP/1.1 999 ?\r\n\r\n"), F.STATUS),
    "empty": both(says(_counted(b"0", b"")), F.MALFORMED),
    "deep": both(says(SSE + b"\r\ndata: " + b"[" * 100_000 + b"\n\n"), F.MALFORMED),
    "stream-error": Bad(says(CHUNKED + chunked(EVENT, b'data: {"error": {"message": "boom"}}\n\n')),
                        F.STREAM_ERROR, F.MALFORMED),
    "invalid-utf8": Bad(says(SSE + b"\r\n" + EVENT.replace(b'"a"', b'"\xff"') + b"data: [DONE]\n\n"), None, F.MALFORMED),
}
