"""The load bench: its mock server sends what and when it says, and its errors are errors of the client."""

from __future__ import annotations

import json
import shutil
import socket
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from bench.load import server, truth
from bench.load.clients import Load, Seen, Told
from bench.load.errors import errors
from bench.load.measure import Cost, Run
from bench.load.processor import Sampler
from bench.load.server import Schedule, Server
from bench.load.truth import Sent, Truth

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="the mock server is compiled with gcc")

TOKENS = 6
EPSILON = 1e-6  # what seconds since boot lose as floats, and more
BODY = {"model": "mock", "prompt": "Hi", "max_tokens": TOKENS, "stream": True, "stream_options": {"include_usage": True}}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server, compiled afresh."""
    return server.compiled(tmp_path_factory.mktemp("mock"))


def request(body: dict[str, object], path: str = "/v1/completions") -> bytes:
    """A POST as bytes."""
    data = json.dumps(body).encode()
    return f"POST {path} HTTP/1.1\r\nHost: mock\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


def ask(connection: socket.socket, data: bytes) -> bytes:
    """Send, and read to the end of the chunked answer."""
    connection.sendall(data)
    answer = b""
    while not answer.endswith(b"\r\n0\r\n\r\n"):
        part = connection.recv(65536)
        assert part, "the server closed the connection in the middle of an answer"
        answer += part
    return answer


def payloads(answer: bytes) -> list[str]:
    """The chunks of an answer, each of which has to be one event."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    found = []
    while rest != b"0\r\n\r\n":
        size, _, rest = rest.partition(b"\r\n")
        chunk, rest = rest[:int(size, 16)], rest[int(size, 16):]
        assert rest.startswith(b"\r\n"), "the chunk is as long as it says"
        assert chunk.startswith(b"data: ")
        assert chunk.endswith(b"\n\n")
        found.append(chunk[6:-2].decode())
        rest = rest[2:]
    return found


def talk(program: Path, schedule: Schedule, *requests: bytes) -> tuple[list[bytes], Truth, tuple[float, float, int]]:
    """Requests one after the other on one connection: the answers, the log, and when and from which port they were sent."""
    with Server(schedule, program) as mock, socket.create_connection(("127.0.0.1", mock.port), timeout=10) as connection:
        began = time.monotonic()
        answers = [ask(connection, data) for data in requests]
        ended, port = time.monotonic(), connection.getsockname()[1]
    return answers, mock.truth, (began, ended, port)


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_each_token_is_one_event_in_one_chunk(program: Path, path: str) -> None:
    """Tokens, then usage, then the end mark; the first text is the number of the request, the last has the reason."""
    answers, _, _ = talk(program, Schedule(1, 1), *[request(BODY, path)] * 2)
    *events, done = payloads(answers[1])
    assert done == "[DONE]"
    *tokens, usage = [json.loads(event) for event in events]
    choices = [token["choices"][0] for token in tokens]
    texts = [choice["delta"]["content"] if "chat" in path else choice["text"] for choice in choices]
    assert texts == [" #1"] + [" tok"] * (TOKENS - 1)
    assert [choice["finish_reason"] for choice in choices] == [None] * (TOKENS - 1) + ["length"]
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 8, "completion_tokens": TOKENS, "total_tokens": TOKENS + 8}


def test_usage_comes_only_where_it_is_asked_for(program: Path) -> None:
    """Without stream_options there is none; with continuous_usage_stats each token counts up."""
    plain = {name: value for name, value in BODY.items() if name != "stream_options"}
    running = {**BODY, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    (without, each), _, _ = talk(program, Schedule(0, 0, batch=4), request(plain), request(running))
    assert len(payloads(without)) == TOKENS + 1
    counts = [json.loads(event)["usage"]["completion_tokens"] for event in payloads(each)[:TOKENS]]
    assert counts == list(range(1, TOKENS + 1))


def test_the_schedule_is_kept_and_written_down(program: Path) -> None:
    """No token is early; half of them are less than half an ITL late, which a busy machine does to single ones only."""
    _, log, (began, ended, port) = talk(program, Schedule(30, 10), request({**BODY, "max_tokens": 20}))
    (sent,) = log.requests
    assert (sent.number, sent.port, sent.tokens, sent.finished) == (0, port, 20, True)
    # Receipt is a stamp of CLOCK_REALTIME put onto this clock with an offset that is read in two calls: 1 ms for the two.
    assert began - 0.001 <= sent.received_s <= sent.read_s + 0.001
    assert sent.received_s + 0.03 - EPSILON <= sent.sent_s[0] <= sent.sent_s[-1] <= ended
    assert 0.03 - EPSILON <= sent.first_due_s - sent.received_s <= 0.04, "the phase is within one ITL"
    late = sorted(moment - (sent.first_due_s + n * 0.01) for n, moment in enumerate(sent.sent_s))
    assert late[0] >= -EPSILON
    assert late[len(late) // 2] < 0.005 or log.slips
    assert all(before <= after for before, after in zip(sent.sent_s, sent.after_s, strict=True))


def test_a_request_that_comes_in_parts_counts_from_its_last_byte(program: Path) -> None:
    """The receipt is that of the part that completed it."""
    data = request(BODY)
    with Server(Schedule(1, 1), program) as mock, socket.create_connection(("127.0.0.1", mock.port), timeout=10) as half:
        half.sendall(data[:60])
        time.sleep(0.05)
        began = time.monotonic()
        ask(half, data[60:])
    assert mock.truth.requests[0].received_s >= began - 0.001


def test_a_planted_stall_is_sent_and_logged(program: Path) -> None:
    """The gap before the token is longer by the stall, in the stream that was named and in no other."""
    _, log, _ = talk(program, Schedule(5, 5, stalls=((1, 3, 40.0),)), *[request(BODY)] * 2)
    assert [(stall.number, stall.token, round(stall.seconds, 6)) for stall in log.planted] == [(1, 3, 0.04)]
    calm, stalled = log.requests
    # A token that left late makes the gap after it shorter, by less than one ITL.
    assert 0.04 < stalled.gaps_s[2] < 0.04 + 0.04
    assert max(calm.gaps_s) < 0.04 or log.slips


def test_phases_keep_streams_apart(program: Path) -> None:
    """Of many streams no two tick in the same hundredth of an ITL."""
    _, log, _ = talk(program, Schedule(1, 100), *[request({**BODY, "max_tokens": 1})] * 16)
    phases = sorted(sent.first_due_s - sent.received_s for sent in log.requests)
    assert min(later - earlier for earlier, later in pairwise(phases)) > 0.001


@pytest.mark.parametrize("cut", [0, 8, 40, -4])
def test_a_log_that_is_cut_off_is_refused(tmp_path: Path, cut: int) -> None:
    """A part of a truth is none."""
    log = tmp_path / "log"
    whole = b"MOCKLOG1" + (1).to_bytes(8, "little") + bytes(48)
    record = bytes(12) + (2).to_bytes(4, "little") + bytes(32) + bytes(32)
    log.write_bytes((whole + record)[:cut or None])
    if cut == 0:
        assert len(truth.read(log).requests[0].sent_s) == 2
    else:
        with pytest.raises(ValueError, match="cut off"):
            truth.read(log)


SENT = Sent(4, 5000, 4, 10.0, 10.0, 10.05, True, True, (10.05, 10.06, 10.07, 10.08), (10.05, 10.06, 10.07, 10.08))
HONEST = Seen(4, SENT.ttft_s, SENT.gaps_s, arrived_s=SENT.sent_s, earliest_s=SENT.sent_s)


def run_of(*seen: Seen) -> Run:
    """A client that tells this of a server that sent SENT."""
    log = Truth((SENT,), (), 0, 0.0, 1.0, 0.01)
    return Run(Load(1, len(seen), 4), Told(seen), log, Cost(1.0, 1.0, Sampler(0)))


def test_errors_are_what_the_client_adds() -> None:
    """None for a client that tells the truth, and exactly the planted ones for another."""
    honest = errors(run_of(HONEST))
    assert honest.ttft_ms.tolist() == [0]
    assert honest.itl_ms.tolist() == [0, 0, 0]
    assert (honest.unmatched, honest.merged, honest.bounded, honest.outside) == (0, 0, 0, 0)
    gaps = tuple(gap + off for gap, off in zip(SENT.gaps_s, (0.003, -0.003, 0), strict=True))
    off = errors(run_of(replace(HONEST, ttft_s=SENT.ttft_s + 0.002, gaps_s=gaps)))
    assert off.ttft_ms.tolist() == pytest.approx([2])
    assert off.itl_ms.tolist() == pytest.approx([3, 3, 0])


def test_what_cannot_be_compared_is_counted() -> None:
    """An answer that the log does not have, gaps that were run together, a mean, and a moment that cannot be."""
    assert errors(run_of(replace(HONEST, number=7))).unmatched == 1
    assert errors(run_of(replace(HONEST, gaps_s=(0.01, 0.02)))).merged == 1
    mean = errors(run_of(replace(HONEST, gaps_s=None, mean_gap_s=0.011)))
    assert not mean.gaps_told
    assert mean.itl_ms.tolist() == pytest.approx([1])
    early = (*SENT.sent_s[:2], SENT.sent_s[2] - 0.005, SENT.sent_s[3])
    assert errors(run_of(replace(HONEST, earliest_s=early))).bounded == 1
    wrong = errors(run_of(replace(HONEST, arrived_s=early, earliest_s=early)))
    assert wrong.outside == 1
