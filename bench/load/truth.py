"""The truth: what the mock server wrote down of each request, in seconds on CLOCK_MONOTONIC."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy

_HEAD = struct.Struct("<8s7q")
_PLANTED = struct.Struct("<IIq")
_RECORD = struct.Struct("<IIIIqqqII")
_NS = 1e-9


@dataclass(frozen=True)
class Sent:
    """One generation. `sent_s` is the moment before each token's send(), `after_s` the moment after it.

    `received_s` is the kernel's stamp of the last byte of the request where `stamped`, else when the server read it.
    """

    number: int
    port: int
    tokens: int
    received_s: float
    read_s: float
    first_due_s: float
    stamped: bool
    finished: bool
    sent_s: tuple[float, ...]
    after_s: tuple[float, ...]

    @property
    def ttft_s(self) -> float:
        """From the receipt of the request to the send of the first token."""
        return self.sent_s[0] - self.received_s

    @property
    def gaps_s(self) -> tuple[float, ...]:
        """Between the sends of neighbouring tokens."""
        return tuple(later - earlier for earlier, later in pairwise(self.sent_s))


@dataclass(frozen=True)
class Planted:
    """A stall that was planted in request `number` before its token `token` (from 0)."""

    number: int
    token: int
    seconds: float


@dataclass(frozen=True)
class Truth:
    """One life of the server; `slips` is how often it was held up for more than one ITL."""

    requests: tuple[Sent, ...]
    planted: tuple[Planted, ...]
    slips: int
    cpu_s: float
    seconds: float
    itl_s: float

    @property
    def tokens(self) -> int:
        """Tokens sent in all."""
        return sum(len(sent.sent_s) for sent in self.requests)

    @property
    def busy_s(self) -> float:
        """From the receipt of the first request to the send of the last token; 0 where there was none."""
        ends = [sent.after_s[-1] for sent in self.requests if sent.after_s]
        return max(ends) - min(sent.received_s for sent in self.requests) if ends else 0.0

    @property
    def jitter_p99_s(self) -> float:
        """How far the 99th percentile of gaps is off the schedule: the server's own error in keeping it."""
        gaps = [abs(gap - self.itl_s) for sent in self.requests for gap in sent.gaps_s]
        return float(numpy.percentile(gaps, 99)) if gaps else 0.0


def read(path: Path) -> Truth:
    """Parse the log. Raises ValueError for a file that is not one, or is cut off."""
    data = path.read_bytes()
    if data[:8] != b"MOCKLOG1":
        raise ValueError(f"{path} is no log of the mock server")
    try:
        return _parse(data)
    except struct.error as fault:
        raise ValueError(f"{path} is cut off: {fault}") from None


def _parse(data: bytes) -> Truth:
    _, count, stalls, slips, cpu, life, _, itl = _HEAD.unpack_from(data)
    at = _HEAD.size
    planted = [_PLANTED.unpack_from(data, at + n * _PLANTED.size) for n in range(stalls)]
    at += stalls * _PLANTED.size
    requests = []
    for _ in range(count):
        sent, at = _request(data, at)
        requests.append(sent)
    return Truth(tuple(requests), tuple(Planted(number, token, ns * _NS) for number, token, ns in planted), slips,
                 cpu * _NS, life * _NS, itl * _NS)


def _request(data: bytes, at: int) -> tuple[Sent, int]:
    number, port, tokens, sent, received, read_at, due, stamped, finished = _RECORD.unpack_from(data, at)
    at += _RECORD.size
    before, after = (tuple(ns * _NS for ns in struct.unpack_from(f"<{sent}q", data, at + n * 8 * sent)) for n in (0, 1))
    return Sent(number, port, tokens, received * _NS, read_at * _NS, due * _NS, bool(stamped), bool(finished), before,
                after), at + 16 * sent
