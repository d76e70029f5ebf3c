"""Answers that were damaged on their way never raise, and are good only where they are whole."""

from __future__ import annotations

import random
from collections.abc import Iterator
from unittest.mock import patch

import pytest

from fixtures.load.answer import Answer
from fixtures.load.template import Template
from fixtures.load.wire.call import Call
from tests.reads import event, pieces, played
from tests.test_message import framed, messages, said, sse

SHORT, LONG, SEED = 5_000, 1_000_000, 20_261_121
USUAL = framed(b"HTTP/1.1 200 OK\r\n", "chunked", sse([event(word) for word in ("a", "b", "한", "d", "e", "f")]))
CORPUS = [*((data, streamed) for _, data, streamed in messages() if len(data) < 1500), *[(USUAL, True)] * 20]
SPLICES = (b"\r\n", b"\n\n", b"\r", b"0\r\n\r\n", b"\r\n0\r\n\r\n", b"data: ", b"data: [DONE]\n\n", b"error: x\n",
           b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 100 C\r\n\r\n", b"content-length: 3\r\n", b"connection: close\r\n",
           b"transfer-encoding: chunked\r\n", b"content-encoding: gzip\r\n", b"ffffffff\r\n", b"-1\r\n", b" " * 300, b"\0",
           b"\xff", b"\xed\xa0\x80", b'"', b"\\", b"\\ud83d", b"[" * 2000, b'{"error":{}}', b"1e999", b"9" * 5000,
           b"null", b"[]", b"{}")


def mutated(data: bytes, dice: random.Random) -> bytes:
    """The bytes with one to four faults."""
    for _ in range(dice.randint(1, 4)):
        begin = dice.randrange(len(data) + 1)
        end = min(len(data), begin + int(dice.expovariate(0.1)))
        kind = dice.randrange(6)
        if kind == 0 and begin < len(data):
            data = data[:begin] + bytes([data[begin] ^ 1 << dice.randrange(8)]) + data[begin + 1:]
        elif kind == 1:
            data = data[:begin] + data[end:]
        elif kind == 2:
            data = data[:end] + data[begin:end] * dice.randint(1, 3) + data[end:]
        elif kind == 3:
            data = data[:begin] + dice.choice(SPLICES) + data[begin:]
        elif kind == 4:
            other = dice.choice(CORPUS)[0]
            data = data[:begin] + other[dice.randrange(len(other)):]
        elif dice.random() < 0.3:
            data = data[:begin]
    return data


def cases(count: int, seed: int) -> Iterator[tuple[list[bytes], bool]]:
    """So many damaged answers, cut into reads at random."""
    dice = random.Random(seed)
    for _ in range(count):
        data, streamed = dice.choice(CORPUS)
        data = mutated(data, dice)
        cuts = [dice.randrange(len(data) + 1) for _ in range(dice.choice((0, 0, 1, 2, 5, 12)))]
        yield pieces(data, cuts), streamed if dice.random() < 0.9 else not streamed


def expect_sane(call: Call, answer: Answer) -> None:
    """What holds for every answer, good or bad."""
    assert call.over
    assert not call.held
    assert len(answer.message) <= 500
    assert answer.text == "".join(chunk.text for chunk in answer.chunks) or not answer.streamed
    assert call.digest.merged <= call.digest.reads
    assert answer.failure or (answer.ok and call.digest.message.complete)
    before = 0.0
    for chunk in answer.chunks:
        assert before <= chunk.at_s <= answer.e2e_s
        assert 0 <= chunk.earliest_s <= chunk.at_s
        before = chunk.at_s


def fuzz(count: int, seed: int, every: int) -> dict[str, int]:
    """Play so many damaged answers, each `every`th also with events read by the parser alone; how they ended, counted."""
    ends: dict[str, int] = {}
    for number, (reads, streamed) in enumerate(cases(count, seed)):
        try:
            call, answer = played(reads, streamed=streamed)
            expect_sane(call, answer)
            if number % every == 0:
                with patch.object(Template, "learn", return_value=False):
                    assert said(played(reads, streamed=streamed)[1]) == said(answer)
        except Exception as fault:
            fault.add_note(f"seed {seed}, case {number}: {reads!r}")
            raise
        end = str(answer.failure or "ok")
        ends[end] = ends.get(end, 0) + 1
    return ends


def test_damaged_answers_never_raise() -> None:
    """Some thousands, of which every class that bytes alone can bring is seen."""
    ends = fuzz(SHORT, SEED, every=2)
    print(f"seed {SEED}: {ends}")
    assert set(ends) >= {"ok", "protocol", "disconnect", "malformed", "status", "content-type", "stream-error"}
    assert min(ends["ok"], ends["protocol"], ends["malformed"]) > SHORT // 50


@pytest.mark.long
def test_a_million_damaged_answers_never_raise() -> None:
    """10^6 of them from one seed: two to four minutes on one core."""
    print(f"seed {SEED + 1}: {fuzz(LONG, SEED + 1, every=10)}")
