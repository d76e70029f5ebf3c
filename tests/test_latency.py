"""Latency verdicts: from the answers of one load to pass, fail or inconclusive, and the load itself."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from fixtures.load import latency, loop
from fixtures.load.answer import Answer, Failure, Usage
from fixtures.load.chunk import Chunk
from fixtures.load.client import Client
from fixtures.load.result import Beside, Noise
from fixtures.load.stated import StatedLoad
from fixtures.load.stream import StreamReader
from fixtures.verdict import Verdict
from tests.loads import ALL, FAILED, HEALTHY, answer, load, verdict
from tests.scripted import MODEL, serving


@pytest.mark.parametrize(("limit", "measured", "cause"), [
    ("ttft_p50_ms", 100, "slow-first-token"),
    ("ttft_p95_ms", 100, "slow-first-token"),
    ("itl_p95_ms", 10, "slow-tokens"),
    ("itl_p99_ms", 10, "slow-tokens"),
    ("itl_max_ms", 10, "stall"),
    ("tpot_p95_ms", 110 / 23, "slow-tokens"),
    ("e2e_p95_ms", 210, "slow-answers"),
])
def test_a_limit_that_is_met_passes_and_anything_beyond_fails(limit: str, measured: float, cause: str) -> None:
    """Met exactly is met; a server slower than the limit, by a fifth or a hundredth, is not."""
    assert verdict(HEALTHY, **{limit: measured + 1e-9}) == (Verdict.PASS, ())
    for beyond in (1.01, 1.2):
        assert verdict(HEALTHY, **{limit: measured / beyond}) == (Verdict.FAIL, (cause,))


def test_throughput_counts_tokens_of_usage_by_wall_time() -> None:
    """64 answers of 24 tokens in 8 s are 192 tok/s, whatever the number of chunks."""
    assert verdict(HEALTHY, throughput_min_tok_s=192) == (Verdict.PASS, ())
    assert verdict(HEALTHY, throughput_min_tok_s=192 * 1.2) == (Verdict.FAIL, ("low-throughput",))
    many_chunks = load([answer(chunks=100)] * 64)
    assert latency.judge(many_chunks, {"throughput_min_tok_s": 1}, ALL).figures["throughput_min_tok_s"].value == 192


def test_figures_and_samples_are_kept() -> None:
    """The record shows value beside limit, the evidence every sample."""
    judgement = latency.judge(HEALTHY, {"ttft_p95_ms": 300}, ("ttft",))
    figure = judgement.figures["ttft_p95_ms"]
    assert (figure.value, figure.unit, figure.limit) == (100, "ms", 300)
    assert judgement.samples["ttft"] == [100.0] * 64


def test_only_the_figures_of_the_check_are_judged() -> None:
    """latency.e2e says nothing of a slow first token."""
    assert verdict(HEALTHY, ("e2e",), ttft_p95_ms=1, e2e_p95_ms=300) == (Verdict.PASS, ())


def test_no_limit_is_an_error_of_the_suite() -> None:
    """A check without a limit makes no cell; reached all the same, it must not pass."""
    assert verdict(HEALTHY, ("itl",), ttft_p95_ms=300) == (Verdict.ERROR, ("no-limit",))


@pytest.mark.parametrize("answers", [[], [FAILED] * 64])
def test_without_a_success_there_is_no_number(answers: list[Answer]) -> None:
    """All requests failed, or none was sent: a fail, and no figure that could be compared."""
    judgement = latency.judge(load(answers), {"ttft_p95_ms": 300, "throughput_min_tok_s": 0}, ALL)
    assert (judgement.verdict, judgement.causes) == (Verdict.FAIL, ("all-requests-failed",))
    assert not judgement.figures


@pytest.mark.parametrize("failures", [1, 32])
def test_a_load_that_failed_in_part_fails(failures: int) -> None:
    """The fast half of a load, half of which failed, is no pass, and neither is all but one."""
    answers = [answer()] * (64 - failures) + [FAILED] * failures
    assert verdict(load(answers), ttft_p95_ms=300) == (Verdict.FAIL, ("requests-failed",))


def test_empty_answers_are_not_fast_answers() -> None:
    """A 200 without text has no first token that could be late."""
    empty = Answer(200, "", (), Usage(9, 0, 9), "stop", "m", True, True, None, 0.01)
    assert verdict(load([answer()] * 60 + [empty] * 4), ttft_p95_ms=300, e2e_p95_ms=300) == (
        Verdict.FAIL, ("empty-answers",))


def test_answers_that_break_off_are_not_fast_answers() -> None:
    """A stream closed in the middle as if it were over: no end mark and no finish reason. Without the mark alone it is
    whole, which is for api.contract to say."""
    cut = replace(answer(chunks=2), done=False, finish_reason=None)
    unmarked = replace(answer(), done=False)
    assert verdict(load([answer()] * 60 + [cut] * 4), e2e_p95_ms=300) == (Verdict.FAIL, ("cut-off-answers",))
    assert verdict(load([unmarked] * 64), e2e_p95_ms=300) == (Verdict.PASS, ())


@pytest.mark.parametrize(("limit", "enough"), [
    ("ttft_p50_ms", 10), ("e2e_p95_ms", 60), ("tpot_p95_ms", 60), ("ttft_p99_ms", 300),
])
def test_percentiles_need_their_samples(limit: str, enough: int) -> None:
    """One sample short is inconclusive without a number, on either side of the limit."""
    short = load([answer()] * (enough - 1))
    for bound in (1, 500):
        judgement = latency.judge(short, {limit: bound}, ALL)
        assert (judgement.verdict, judgement.causes) == (Verdict.INCONCLUSIVE, ("too-few-samples",))
        assert judgement.figures[limit].value is None
    assert verdict(load([answer()] * enough), **{limit: 500}) == (Verdict.PASS, ())


def test_a_broken_limit_outweighs_one_without_samples() -> None:
    """Inconclusive shuts the gate only where required, so it must not hide a fail."""
    assert verdict(HEALTHY, ttft_p99_ms=500, ttft_p95_ms=50)[0] is Verdict.FAIL
    assert verdict(HEALTHY, ttft_p99_ms=500, ttft_p95_ms=500)[0] is Verdict.INCONCLUSIVE


def test_a_p99_limit_gets_the_requests_it_needs() -> None:
    """Else it could never be judged; ITL has many samples an answer."""
    assert latency.requests_for({"ttft_p99_ms": 1}) >= latency.NEEDED["p99"]
    assert latency.requests_for({"ttft_p95_ms": 1, "itl_p99_ms": 1}) == latency.REQUESTS < latency.NEEDED["p99"]


def test_without_thorough_a_p99_is_named_and_not_judged() -> None:
    """Neither as a pass nor as a fail; where nothing else is stated, the cell says what would judge it."""
    limits = {"ttft_p95_ms": 300.0, "ttft_p99_ms": 50.0}
    many = load([answer()] * 320)
    judgement = latency.judge(many, limits, ("ttft",), p99=False)
    assert judgement.verdict is Verdict.PASS
    assert "ttft_p99_ms" in judgement.reason
    assert (judgement.figures["ttft_p99_ms"].value, judgement.figures["ttft_p99_ms"].limit) == (None, 50)
    assert latency.judge(many, limits, ("ttft",)).causes == ("slow-first-token",)
    assert latency.judge(many, {**limits, "ttft_p95_ms": 50}, ("ttft",), p99=False).causes == ("slow-first-token",)
    alone = latency.judge(many, {"ttft_p99_ms": 500}, ("ttft",), p99=False)
    assert (alone.verdict, alone.causes) == (Verdict.UNAVAILABLE, ("not-thorough",))
    assert "--thorough" in alone.cure
    assert latency.requests_for(latency.judged_limits(limits, p99=False)) == 64
    assert latency.judged_limits(limits, p99=True) == limits


def test_figures_that_no_limit_is_stated_for_are_shown() -> None:
    """ITL by token, normalised latency, the total rate; the errors of client and machine; the 95 % interval."""
    result = replace(load([answer(chunks=24)] * 64), noise=Noise(0.0002, 0.01, 0.02))
    judgement = latency.judge(result, {"itl_p95_ms": 30, "e2e_p50_ms": 900, "throughput_min_tok_s": 1}, ALL)
    shown = {name: figure.value for name, figure in judgement.figures.items()}
    assert (shown["itl_token_p50_ms"], shown["itl_token_p95_ms"]) == (10, 10)
    assert (shown["normalised_p50_ms"], shown["throughput_total_tok_s"]) == (round(330 / 24, 3), 33 * 64 / 8)
    assert (shown["e2e_p50_low_ms"], shown["e2e_p50_high_ms"]) == (330, 330)
    assert (shown["wake_p99_ms"], shown["steal_share"], shown["foreign_share"]) == (0.2, 0.01, 0.02)
    with_limits = {name for name, figure in judgement.figures.items() if figure.limit is not None}
    assert with_limits == {"itl_p95_ms", "e2e_p50_ms", "throughput_min_tok_s"}


def test_chunks_of_unknown_tokens_have_no_latency_by_token() -> None:
    """12 chunks of 24 tokens in all: nobody knows which had how many."""
    assert "itl_token_p50_ms" not in latency.judge(HEALTHY, {"itl_p95_ms": 30}, ("itl",)).figures


@pytest.mark.parametrize("limit", ["itl_p95_ms", "itl_max_ms", "tpot_p95_ms"])
def test_answers_in_one_piece_have_no_gaps_to_judge(limit: str) -> None:
    """A server that sends each answer whole must not have the best inter-token latency of all, nor by the few answers
    that it did not send so."""
    whole = answer(chunks=1)
    for answers in ([whole] * 64, [whole] * 58 + [answer(chunks=24)] * 6):
        judgement = latency.judge(load(answers), {limit: 500}, ALL)
        assert (judgement.verdict, judgement.causes) == (Verdict.INCONCLUSIVE, ("no-gaps",))
        assert judgement.figures[limit].value is None


def test_time_per_token_is_not_taken_from_answers_in_one_piece() -> None:
    """Theirs would be nothing; where they are the fewer, the others must suffice."""
    few, enough = [answer(chunks=1)] * 24 + [answer()] * 40, [answer(chunks=1)] * 24 + [answer()] * 60
    assert verdict(load(few), tpot_p95_ms=500) == (Verdict.INCONCLUSIVE, ("too-few-samples",))
    assert verdict(load(enough), tpot_p95_ms=500) == (Verdict.PASS, ())


def test_answers_of_one_token_have_no_gaps_either() -> None:
    """But that is no fault: too few samples, and the rest is judged."""
    one = answer(chunks=1, tokens=1)
    assert verdict(load([one] * 64), itl_p95_ms=500) == (Verdict.INCONCLUSIVE, ("too-few-samples",))
    assert verdict(load([one] * 40 + [answer()] * 24), itl_p95_ms=500) == (Verdict.PASS, ())


def test_one_stall_in_a_thousand_gaps_is_seen_by_the_maximum_alone() -> None:
    """itl_max_ms is for the stall that no percentile sees; of stalls one sample is enough."""
    stalled = replace(answer(), chunks=(*answer().chunks, Chunk(2.0, "late")))
    result = load([answer()] * 63 + [stalled])
    assert verdict(result, itl_p99_ms=30) == (Verdict.PASS, ())
    assert verdict(result, itl_max_ms=500) == (Verdict.FAIL, ("stall",))
    assert verdict(load([stalled]), itl_max_ms=500) == (Verdict.FAIL, ("stall",))
    assert verdict(load([answer()]), itl_max_ms=500) == (Verdict.INCONCLUSIVE, ("too-few-samples",))


@pytest.mark.parametrize("counted", [0, 60])
def test_tokens_that_are_not_counted_are_no_throughput(counted: int) -> None:
    """Without usage nobody knows; with some of it the sum would be too small and fail a healthy server."""
    result = load([answer()] * counted + [answer(tokens=None)] * (64 - counted))
    judgement = latency.judge(result, {"throughput_min_tok_s": 200}, ("throughput",))
    assert (judgement.verdict, judgement.causes) == (Verdict.INCONCLUSIVE, ("missing-usage",))
    assert judgement.figures["throughput_min_tok_s"].value is None


def test_a_handful_of_answers_is_no_throughput() -> None:
    """As for the percentiles."""
    assert verdict(load([answer()] * 9), throughput_min_tok_s=1) == (Verdict.INCONCLUSIVE, ("too-few-samples",))


@pytest.mark.parametrize(("neighbour", "cause"), [
    (Beside("n", 0), "neighbour-silent"), (Beside("n", 5, ("503 busy",)), "neighbour-failed"),
])
def test_a_neighbour_that_was_not_busy_proves_nothing(neighbour: Beside, cause: str) -> None:
    """coexistence.busy: inside the limits beside a neighbour that answered nothing, or failed, is no pass."""
    assert verdict(replace(HEALTHY, beside=(neighbour,)), ttft_p95_ms=300) == (Verdict.FAIL, (cause,))
    assert verdict(replace(HEALTHY, beside=(Beside("n", 5),)), ttft_p95_ms=300) == (Verdict.PASS, ())


@pytest.mark.parametrize("requests", [2, 8])
def test_the_load_is_sent_as_stated(requests: int) -> None:
    """Warm-up not counted; fewer requests than threads do not hang it."""
    with serving() as server:
        work = StatedLoad(max_tokens=4, warm_up=1).workload(requests, ["Hello!"], {"include_usage": True})
        result = loop.run(Client(server.url, MODEL), work)
    assert len(result.good) == requests
    assert all(len(answer.gaps_s) == 3 for answer in result.good)
    assert 0 < max(answer.e2e_s for answer in result.good) <= result.seconds


def test_a_server_that_is_not_there_fails_and_does_not_break_the_load() -> None:
    """Refused connections are failed requests of their class."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        client = Client(f"http://127.0.0.1:{unused.getsockname()[1]}", MODEL)
        result = loop.run(client, StatedLoad(warm_up=0).workload(4, ["Hello!"], {"include_usage": True}))
    assert result.failures == {"connect": 4}
    assert latency.judge(result, {"ttft_p95_ms": 300}, ("ttft",)).causes == ("all-requests-failed",)


@contextmanager
def dribbling() -> Iterator[str]:
    """A server that keeps every stream alive with comments and never says a word."""
    listener, ended = socket.create_server(("127.0.0.1", 0)), threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        while not ended.wait(0.05):
            connection.sendall(b": ping\n\n")
        connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        ended.set()
        listener.close()


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_that_never_ends_is_a_timeout(stream: bool) -> None:
    """Keep-alive comments reset the time that a read may take, and must not keep the suite for ever."""
    with dribbling() as url:
        began = time.monotonic()
        found = Client(url, MODEL, timeout_s=5, whole_s=0.3).chat("Hello!", stream=stream)
    assert found.failure is Failure.TIMEOUT
    assert time.monotonic() - began < 3


def test_choices_that_are_no_list_are_the_servers_fault() -> None:
    """And never an exception of the reader."""
    reader = StreamReader()
    reader.feed(b'data: {"choices": 5}\n\n', 0.1)
    assert reader.answer(200, 0.2).failure is Failure.MALFORMED
