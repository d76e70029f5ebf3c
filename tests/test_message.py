"""However the bytes of an answer are cut into reads, it is the same answer, and each event is dated within its bounds."""

from __future__ import annotations

import json
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fixtures.load.answer import Answer, Failure, Usage
from fixtures.load.stream import StreamReader
from fixtures.load.wire import digest as digest_module
from fixtures.load.wire.message import MAX_BODY, MAX_HEAD, Message, WireError
from tests.reads import CLOCK, START_NS, chunked, event, pieces, played, stamped, started

SSE = b"content-type: text/event-stream\r\n"
USAGE = '{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}'
CLOSING = '{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'
WORDS = ("", "Hi", "국어\u2028", 'a"b\\n', "😀\r")
PAYLOADS = [*map(event, WORDS), CLOSING, USAGE, "[DONE]"]
WHOLE = json.dumps({"model": "m", "choices": [{"message": {"content": "국어 😀"}, "finish_reason": "length"}],
                    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}, ensure_ascii=False).encode()
CHAT_LINES = ['{"model":"m","message":{"role":"assistant","content":"한"},"done":false}',
              '{"model":"m","message":{"role":"assistant","content":"글"},"done":false}',
              '{"model":"m","done":true,"done_reason":"stop","prompt_eval_count":4,"eval_count":2}']
GENERATE_LINES = ['{"model":"m","response":"한","done":false}', '{"model":"m","response":"글","done":false}',
                  '{"model":"m","response":"","done":true,"done_reason":"stop","prompt_eval_count":4,"eval_count":2}']


def sse(payloads: Sequence[str], end: str = "\n", field: str = "data: ", comment: str = "") -> list[bytes]:
    """The events on the wire, each with the comment before it."""
    return [f"{comment and comment + end}{field}{payload}{end}{end}".encode() for payload in payloads]


MULTI_LINE = "".join(f"data: {line}\n" for line in json.dumps(json.loads(event("Hi")), indent=1).splitlines()) + "\n"
ERROR = [*sse([event("Hi")]), b'data: {"error":{"message":"out of memory"}}\n\n']
STREAMS = {
    "lf": sse(PAYLOADS), "crlf": sse(PAYLOADS, "\r\n"), "cr": sse(PAYLOADS, "\r"),
    "no-space": sse(PAYLOADS, field="data:"), "comments": sse(PAYLOADS, comment=": ping"),
    "other-fields": sse(PAYLOADS, "\r\n", comment="event: message\r\nid: 7\r\nretry: 1\r\ndatum: 1"),
    "multi-line": [MULTI_LINE.encode(), *sse(PAYLOADS[1:])], "no-end-mark": sse(PAYLOADS[:-1]),
    "no-last-blank-line": [*sse(PAYLOADS[:-1]), b"data: [DONE]"], "error": ERROR,
    "broken-utf8": [*sse(PAYLOADS[:2]), sse([event("ab")])[0].replace(b"ab", b"a\xed\x95b"), *sse(PAYLOADS[2:])],
}
HEADS = {
    "plain": b"HTTP/1.1 200 OK\r\n" + SSE,
    "no-reason": b"HTTP/1.1 200\r\n" + SSE,
    "old": b"HTTP/1.0 200 OK\r\n" + SSE,
    "continue": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\n" + SSE,
    "case": b"HTTP/1.1 200 ok\r\nCONTENT-TYPE: Text/Event-Stream; Charset=UTF-8\r\n",
    "repeated": b"HTTP/1.1 200 OK\r\nset-cookie: a\r\nSet-Cookie: b\r\nx:\r\n" + SSE,
    "blanks": b"HTTP/1.1 200 OK \r\nx-latin: \xe9\t \r\ncontent-type:\t text/event-stream \t\r\n",
}


def framed(head: bytes, how: str, parts: Sequence[bytes]) -> bytes:
    """An answer of these parts; `head` is its lines so far."""
    body = b"".join(parts)
    if how == "length":
        return head + b"content-length: %d\r\nContent-Length: %d\r\n\r\n" % (len(body), len(body)) + body
    if how == "close":
        return head + b"\r\n" + body
    shapes = {"chunked": (parts, b"", b""), "one-chunk": ([body], b"", b""), "bytes": ([bytes([b]) for b in body], b"", b""),
              "extended": (parts, b" ;a=b;c", b"x-check: 1\r\ny:\r\n")}
    chunks, extension, trailer = shapes[how]
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(*chunks, extension=extension, trailer=trailer)


FRAMES = ("chunked", "one-chunk", "extended", "length", "close")


def messages() -> Iterator[tuple[str, bytes, bool]]:
    """A name, the bytes, and whether a stream was asked for."""
    for name, head in HEADS.items():
        yield from ((f"{name}-{how}", framed(head, how, STREAMS["lf"]), True) for how in FRAMES)
    for name, parts in STREAMS.items():
        yield from ((f"{name}-{how}", framed(HEADS["plain"], how, parts), True) for how in ("chunked", "close"))
    ndjson = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\n"
    for lines in (CHAT_LINES, GENERATE_LINES):
        parts = [f"{line}\n".encode() for line in lines]
        yield from ((f"ndjson-{lines is CHAT_LINES}-{how}", framed(ndjson, how, parts), True) for how in FRAMES)
    for how in FRAMES:
        yield f"whole-{how}", framed(b"HTTP/1.1 200 OK\r\n", how, [WHOLE[:9], WHOLE[9:]]), False
        yield f"refusal-{how}", framed(b"HTTP/1.1 503 Busy\r\n", how, [b'{"error":"', b'busy"}']), True
    lf = HEADS["plain"].replace(b"\r\n", b"\n") + b"\n" + b"".join(STREAMS["lf"])
    yield "bare-lf", lf, True
    yield "tiny-chunks", framed(HEADS["plain"], "bytes", STREAMS["crlf"]), True


CORPUS = [pytest.param(data, streamed, id=name) for name, data, streamed in messages()]


def said(answer: Answer) -> tuple[object, ...]:
    """All that an answer says beside its times."""
    return (answer.status, answer.text, answer.usage, answer.finish_reason, answer.model, answer.done, answer.failure,
            answer.message, answer.broken_utf8, answer.raw, [(chunk[1], *chunk[2:5]) for chunk in answer.chunks])


@pytest.mark.parametrize(("data", "streamed"), CORPUS)
def test_one_cut_changes_nothing(data: bytes, streamed: bool) -> None:
    """At each place of the message, and byte by byte."""
    expected = said(played([data], streamed=streamed)[1])
    step = 1 if len(data) < 900 else 7
    for cut in range(1, len(data), step):
        assert said(played([data[:cut], data[cut:]], streamed=streamed)[1]) == expected, (cut, data[:cut][-30:])
    assert said(played([bytes([byte]) for byte in data], streamed=streamed)[1]) == expected


@settings(max_examples=150, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(CORPUS), st.lists(st.integers(0, 1 << 16), max_size=40))
def test_many_cuts_change_nothing(message: tuple[bytes, bool], cuts: list[int]) -> None:
    """Any cuts of any message."""
    data, streamed = message.values  # type: ignore[attr-defined]
    assert said(played(pieces(data, cuts), streamed=streamed)[1]) == said(played([data], streamed=streamed)[1])


GOOD = [case for case in CORPUS if "error" not in str(case.id) and "refusal" not in str(case.id)]


@pytest.mark.parametrize(("data", "streamed"), GOOD)
def test_what_they_say(data: bytes, streamed: bool) -> None:
    """The corpus holds what was put into it: text, usage and the reason of the end."""
    _, answer = played([data], streamed=streamed)
    assert answer.ok
    assert answer.usage in (Usage(3, 2, 5), Usage(4, 2, 6), Usage(1, 2, 3))
    assert answer.finish_reason in ("stop", "length")
    assert answer.text in ("".join(WORDS), "한글", "국어 😀", "Hi" + "".join(WORDS), "Hia\ufffdb" + "".join(WORDS[2:]))


# --- when it came -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wire:
    """Bytes, and where on them each event's last byte is and the last byte of the chunk that ends with it."""

    data: bytes
    ends: tuple[int, ...]
    chunk_ends: tuple[int, ...]


@st.composite
def wires(draw: st.DrawFn) -> Wire:
    """A chunked stream of events, some sharing a chunk, some cut over two, in one of three line ends."""
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    words = draw(st.lists(st.sampled_from(["a", "bc", "한", '"', "d\n"]), min_size=1, max_size=8))
    comment = draw(st.sampled_from(["", "", ": x"]))
    data, ends, chunk_ends, part = bytearray(HEADS["plain"] + b"Transfer-Encoding: chunked\r\n\r\n"), [], [], b""
    marks: list[int] = []
    for encoded in sse(list(map(event, words)), end, comment=comment):
        part, marks = part + encoded, [*marks, len(part) + len(encoded)]
        if draw(st.integers(0, 3)):
            cut = draw(st.integers(1, len(part))) if not draw(st.integers(0, 3)) else len(part)
            for chunk, first in ((part[:cut], 0), (part[cut:], cut)):
                begin = len(data) + len(b"%x\r\n" % len(chunk))
                data += b"%x\r\n%s\r\n" % (len(chunk), chunk) if chunk else b""
                here = [mark - first for mark in marks if first < mark <= first + len(chunk)]
                ends += [begin + mark - 1 for mark in here]
                chunk_ends += [begin + mark - 1 + 2 * (mark == len(chunk)) for mark in here]
            part, marks = b"", []
    return Wire(bytes(data + b"0\r\n\r\n"), tuple(ends), tuple(chunk_ends))


def read_late(wire: Wire, cuts: Sequence[int], waits: Sequence[int], naps: Sequence[int],
              most: int) -> tuple[Answer, list[int]]:
    """What a reader that naps makes of segments that come after these waits, and when each byte came (nanoseconds)."""
    segments, at, came = pieces(wire.data, cuts), 0, []
    for number, segment in enumerate(segments):
        at += 1 + waits[number % len(waits)]
        came += [at] * len(segment)
    call, now, taken = started(), 0, 0
    for number in range(1 << 20):
        now += 1 + naps[number % len(naps)]
        here = bisect_right(came, now)
        if taken == here:
            continue
        data = wire.data[taken:min(here, taken + most)]
        taken += len(data)
        # A segment that is read in part may have been joined with all that had come: the kernel says the latest moment.
        if call.take(START_NS + now, stamped(START_NS + came[here - 1]), data):
            return call.answer(CLOCK), came
    raise AssertionError("the end was not seen")


@settings(max_examples=400, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(wires(), st.lists(st.integers(0, 1 << 12), max_size=30), st.lists(st.integers(0, 1000), min_size=1, max_size=9),
       st.lists(st.integers(0, 3000), min_size=1, max_size=9), st.sampled_from([64, 200, 1 << 16]))
def test_the_bounds_hold_the_truth(wire: Wire, cuts: list[int], waits: list[int], naps: list[int], most: int) -> None:
    """Whenever the segments come and whenever they are read, each event came within its bounds.

    What is called exact is the arrival of its last byte, or of the line end of its chunk.
    """
    with patch.object(digest_module, "READ_BYTES", most), patch.object(digest_module, "LEAST_BURST", 1):
        answer, came = read_late(wire, cuts, waits, naps, most)
    assert len(answer.chunks) == len(wire.ends)
    for chunk, end, chunk_end in zip(answer.chunks, wire.ends, wire.chunk_ends, strict=True):
        low, high = round(chunk.earliest_s * 1e9), round(chunk.at_s * 1e9)
        assert low <= came[chunk_end]
        # A line may be over with its CR, before the LF of a CRLF is there: then only the payload is sure to have come.
        over = wire.data.rfind(b"}", 0, end) if b"\r" in wire.data[end - 3:end + 1] else end
        assert came[over] <= high
        assert chunk.since_s is not None or high <= came[chunk_end]


@st.composite
def usual(draw: st.DrawFn) -> bytes:
    """A chunked stream whose events are nearly all of one form, each in a chunk of its own, a size that lies among them."""
    word = st.sampled_from(["a", "bc", "한", '"', "d\n", "\\", "", "\x7f", "\u2028"])
    words = draw(st.lists(word, min_size=4, max_size=40))
    odd = draw(st.sampled_from(["", "", ": x", '{"no": "choice"}', "[DONE]", "data: {}", "\xff"]))
    parts = list(sse([event(word, model=draw(st.sampled_from("mmmmn"))) for word in words], "\n"))
    parts.insert(draw(st.integers(0, len(parts))), odd.encode("latin-1"))
    ascii_only = draw(st.booleans())
    parts = [part.decode("latin-1").encode("ascii", "replace") if ascii_only else part for part in parts]
    data = chunked(*parts)
    if not draw(st.integers(0, 5)):
        place = draw(st.integers(0, len(data) - 1))
        data = data[:place] + draw(st.binary(min_size=1, max_size=1)) + data[place + 1:]
    return HEADS["plain"] + b"Transfer-Encoding: chunked\r\n\r\n" + data


@settings(max_examples=1500, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(usual(), st.lists(st.integers(0, 1 << 13), max_size=40), st.sampled_from([64, 200, 1 << 16]),
       st.sampled_from([1, 300, 1 << 18]))
def test_what_is_found_at_once_is_what_is_found_one_by_one(data: bytes, cuts: list[int], most: int, at_once: int) -> None:
    """A search over many reads brings the same events at the same times, and the same faults, as looking into each."""
    found = []
    for least in (1, 1 << 40):
        with patch.multiple(digest_module, READ_BYTES=most, LEAST_BURST=least, MOST_BURST=at_once):
            found.append(played(pieces(data, cuts))[1])
    assert found[0] == found[1]


def test_an_event_alone_in_its_read_is_exact() -> None:
    """A segment an event, each read before the next comes; the size line of the next chunk makes it inexact."""
    head, *events = HEADS["plain"] + b"transfer-encoding: chunked\r\n\r\n", *(sse(map(event, "abc")))  # type: ignore[arg-type]
    parts = [b"%x\r\n%s\r\n" % (len(part), part) for part in events]
    assert [chunk.since_s for chunk in played([head, *parts, b"0\r\n\r\n"])[1].chunks] == [None] * 3
    moved = [head, parts[0] + parts[1][:4], parts[1][4:], parts[2], b"0\r\n\r\n"]
    assert [chunk.since_s is None for chunk in played(moved)[1].chunks] == [False, True, True]


@pytest.mark.parametrize("follows", [b"data: {", b'data: {"choices":[]}\n', b": x\n\n", b"data", b"\xe4"])
def test_an_event_that_something_follows_is_not_exact(follows: bytes) -> None:
    """Of what follows the first byte is enough: the stamp is that of the last."""
    reader = StreamReader()
    reader.feed(sse([event("a")])[0] + follows, 2.0, 1.0)
    assert [chunk.since_s for chunk in reader.answer(200, 3.0, Failure.TIMEOUT).chunks] == [1.0]


def test_an_event_without_its_blank_line_came_with_the_last_read() -> None:
    """The close that ended it is later, and no arrival."""
    reader = StreamReader()
    reader.feed(b"data: " + event("a").encode(), 2.0, 1.0)
    assert [(chunk.at_s, chunk.since_s) for chunk in reader.answer(200, 9.0).chunks] == [(2.0, 1.0)]


@pytest.mark.parametrize("failure", [Failure.RESET, Failure.TIMEOUT, Failure.DISCONNECT])
def test_an_event_that_was_cut_off_is_not_malformed(failure: Failure) -> None:
    """What ended the stream in the middle of an event is its fault."""
    reader = StreamReader()
    reader.feed(sse([event("a")])[0] + b'data: {"cho', 1.0)
    answer = reader.answer(200, 2.0, failure)
    assert (answer.failure, answer.text) == (failure, "a")


# --- what is no answer ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("data", "failure"), [
    (b"HTTP/1.1 100\n\n" * 4000, Failure.PROTOCOL),
    (b"HTTP/1.1 200 OK\r\nx y: 1\r\n\r\n", Failure.PROTOCOL),
    (b"HTTP/1.1 200 OK\r\nx: 1\r\n folded\r\n\r\n", Failure.PROTOCOL),
    (b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n", Failure.PROTOCOL),
    (b"HTTP/1.1 101 Switching\r\nupgrade: h2c\r\n\r\n", Failure.PROTOCOL),
    (b"HTTP/2 200\r\n\r\n", Failure.PROTOCOL),
    (b"HTTP/1.1 200 OK\r\nx: " + b"y" * MAX_HEAD, Failure.TOO_LONG),
    (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;" + b"y" * 5000, Failure.TOO_LONG),
    (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n" + b"y: 1\r\n" * 20_000, Failure.TOO_LONG),
])
def test_what_is_no_response_is_refused(data: bytes, failure: Failure) -> None:
    """At once, and in its class."""
    with pytest.raises(WireError) as raised:
        Message().feed(data)
    assert raised.value.failure is failure


def test_blanks_are_no_work() -> None:
    """A header of blanks with a fault at its end is refused as fast as any."""
    began = time.perf_counter()
    with pytest.raises(WireError):
        Message().feed(b"HTTP/1.1 200 OK\r\nx:" + b" " * 1500 + b"\0\r\n\r\n")
    assert time.perf_counter() - began < 0.5


@pytest.mark.parametrize("status", [204, 304])
def test_some_answers_have_no_body(status: int) -> None:
    """Whatever length their heads announce."""
    message = Message()
    message.feed(b"HTTP/1.1 %d X\r\ntransfer-encoding: chunked\r\ncontent-length: 7\r\n\r\n" % status)
    assert message.complete


def test_a_body_has_a_limit() -> None:
    """The read that goes beyond it is the last."""
    message = Message()
    message.feed(b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in range(MAX_BODY >> 20):
        message.feed(bytes(1 << 20))
    with pytest.raises(WireError) as raised:
        message.feed(b"x")
    assert raised.value.failure is Failure.TOO_LONG


@pytest.mark.parametrize("wrap", ['{"error":%s}', "%s", '{"choices":[{"text":"a","more":%s}]}', '{"choices":[{"text":%s}]}',
                                  '{"choices":%s}'])
def test_nesting_is_no_crash(wrap: str) -> None:
    """However deep an event is nested, also where it can just be parsed."""
    for depth in (*range(860, 1000, 3), 100_000):
        reader = StreamReader()
        reader.feed(f"data: {wrap % ('[' * depth + '1' + ']' * depth)}\n\n".encode() * 2, 1.0)
        assert reader.answer(200, 2.0).chunks or reader.answer(200, 2.0).failure


def test_a_broken_event_that_looks_like_the_usual_one_is_malformed() -> None:
    """Head and tail of the learned event may overlap in it."""
    usual = '{"choices":[{"text":"a"}]}'
    reader = StreamReader()
    reader.feed(f"data: {usual}\n\n".encode() * 3 + b'data: {"choices":[{"text":"}]}\n\n', 1.0)
    assert reader.answer(200, 2.0).failure is Failure.MALFORMED


def test_a_model_named_in_between_is_not_the_last() -> None:
    """An event that is read without a parser names its model too."""
    reader = StreamReader()
    usual = sse([event("a")])[0]
    reader.feed(usual * 2 + b'data: {"model":"other","choices":[]}\n\n' + usual, 1.0)
    assert reader.answer(200, 2.0).model == "m"


@pytest.mark.parametrize("value", [[1], {"a": 1}, 7, ""])
def test_what_is_no_word_is_none(value: object) -> None:
    """A model or a reason that is no string names nothing."""
    choice = {"text": "a", "delta": {"role": value, "content": "a"}, "finish_reason": value}
    payload = json.dumps({"model": value, "choices": [choice]}).encode()
    for streamed, body in ((True, b"data: " + payload + b"\n\n"), (False, payload)):
        _, answer = played([b"HTTP/1.1 200 OK\r\n\r\n", body], streamed=streamed)
        assert (answer.ok, answer.model, answer.finish_reason) == (True, None, None)


@pytest.mark.parametrize("data", [b"data:ab\n" * 1_000_000, b"data\n" * 1_000_000, b"data: " + b"a" * (5 << 20)])
def test_an_event_has_a_limit(data: bytes) -> None:
    """In one line or in many."""
    reader = StreamReader()
    for place in range(0, len(data), 1 << 16):
        reader.feed(data[place:place + (1 << 16)], 1.0)
    assert reader.hopeless
    assert reader.answer(200, 2.0).failure is Failure.TOO_LONG


@pytest.mark.parametrize("usual", [b'data: {"choices":[{"text":"a"}]}\n\n', b'data:{"choices":[{}]}\n\n'])
def test_events_have_a_limit(usual: bytes) -> None:
    """Those that are read without a parser count too."""
    with patch("fixtures.load.stream.MAX_CHUNKS", 1000):
        reader = StreamReader()
        for _ in range(12):
            reader.feed(usual * 100, 1.0)
    assert reader.hopeless
