"""Doubts: what client and machine add turns a verdict into none, and never hides a server that is surely broken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from fixtures.load import latency
from fixtures.load.answer import Answer
from fixtures.load.doubt import BUSY_SHARE
from fixtures.load.result import ClientError, LoadResult, Noise
from tests.loads import FAIL, HEALTHY, OPEN, PASS, answer, blurred, load, open_, queued, verdict

QUIET = Noise(0.00005, 0.0, 0.02)


def by(result: LoadResult, limit: float) -> tuple[object, object]:
    """Verdict and causes on a TTFT p95 that is measured as 100 ms."""
    return verdict(result, ttft_p95_ms=limit)


@pytest.mark.parametrize(("result", "cause", "inside_ms"), [
    (replace(HEALTHY, noise=Noise(0.005, 0.0, 0.0)), "noise", 5),
    (replace(HEALTHY, client=ClientError(clock_step_s=0.005)), "clock-set", 5),
    (replace(HEALTHY, client=ClientError(clock_step_s=-0.005)), "clock-set", 5),
    (replace(HEALTHY, client=ClientError(lag_p99_s=0.005, lag_max_s=0.9)), "late-client", 5),
])
def test_a_limit_nearer_than_the_error_is_not_judged(result: LoadResult, cause: str, inside_ms: float) -> None:
    """On either side of it; a little further off, and for a fault 20 % beyond a limit or a healthy server, it is."""
    for limit in (100 - 0.9 * inside_ms, 100 + 0.9 * inside_ms):
        assert by(result, limit) == open_(cause)
    assert by(result, 100 - 1.1 * inside_ms) == by(result, 100 / 1.2) == (FAIL, ("slow-first-token",))
    assert by(result, 100 + 1.1 * inside_ms) == by(result, 300) == (PASS, ())


@pytest.mark.parametrize("result", [
    replace(HEALTHY, noise=QUIET),
    replace(HEALTHY, client=ClientError(clock_step_s=9e-5)),
    replace(HEALTHY, client=ClientError(lag_p99_s=0.05, lag_max_s=0.9, kernel_stamps=True)),
    replace(HEALTHY, client=ClientError(late_p99_s=0.05, late_max_s=0.9)),
])
def test_what_falsifies_nothing_casts_no_doubt(result: LoadResult) -> None:
    """A quiet machine, a clock read to microseconds, a client that reads late what the kernel dated, and in a closed loop a
    client that takes its time."""
    assert by(result, 99.94) == (FAIL, ("slow-first-token",))
    assert by(result, 100.06) == (PASS, ())


def test_the_longest_lag_counts_for_the_longest_gap() -> None:
    """Of a p95 it is the p99 of the lag; a single gap may be the one that was read latest."""
    result = replace(HEALTHY, client=ClientError(lag_p99_s=0.001, lag_max_s=0.02))
    assert verdict(result, itl_p95_ms=12) == (PASS, ())
    assert verdict(result, itl_max_ms=12) == open_("late-client")
    assert verdict(result, itl_max_ms=31) == (PASS, ())


# --- a busy machine -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [Noise(0, 0.2, 0), Noise(0, 0, 0.2), Noise(0, 0.06, 0.06), Noise(0, 0.2, None)])
def test_a_fail_on_a_busy_machine_is_none(noise: Noise) -> None:
    """What else runs only makes a server slower: a pass stays one."""
    assert by(replace(HEALTHY, noise=noise), 50) == open_("busy-machine")
    assert by(replace(HEALTHY, noise=noise), 150) == (PASS, ())
    assert verdict(replace(HEALTHY, noise=noise), throughput_min_tok_s=300) == open_("busy-machine")


@pytest.mark.parametrize("noise", [Noise(0.0, BUSY_SHARE, 0.0), Noise(0.0, 0.04, 0.05), Noise(0.0, 0.0, None), None])
def test_a_fault_a_fifth_beyond_its_limit_fails_on_a_machine_that_is_not_busy(noise: Noise | None) -> None:
    """For each figure; so it does where nobody measured."""
    result = replace(HEALTHY, noise=noise)
    for limit, measured, cause in (("ttft_p95_ms", 100, "slow-first-token"), ("itl_p50_ms", 10, "slow-tokens"),
                                   ("e2e_p95_ms", 210, "slow-answers")):
        assert verdict(result, **{limit: measured / 1.2}) == (FAIL, (cause,))
    assert verdict(result, throughput_min_tok_s=192 * 1.2) == (FAIL, ("low-throughput",))


# --- merged reads ---------------------------------------------------------------------------------------------------------

# One chunk in three came with the one after it, at an unknown moment since the one before.
MERGED = load([blurred(answer(), 1, 4, 7, 10)] * 64, client=ClientError(reads=1000, merged=333))


@pytest.mark.parametrize(("limit", "expected"), [
    (25, (PASS, ())), (20.001, (PASS, ())), (19, open_("merged-reads")), (11, open_("merged-reads")),
    (9.9, (FAIL, ("slow-tokens",))),
])
def test_a_limit_inside_what_merged_reads_leave_open_is_not_judged(limit: float, expected: object) -> None:
    """Gaps of 10 ms, a third of which may have been up to 20: beyond both ends of the p95 the verdict is sure."""
    assert verdict(MERGED, itl_p95_ms=limit) == expected


def test_the_reason_names_the_interval_and_the_share() -> None:
    """So that a reader sees what is known; samples and their ends are kept."""
    judgement = latency.judge(MERGED, {"itl_p95_ms": 15}, ("itl",))
    assert "between 10 and 20 ms" in judgement.reason
    assert "33.3% of reads" in judgement.reason
    assert judgement.cure
    assert max(judgement.samples["itl_highs"]) == 20
    figures = judgement.figures
    assert (figures["itl_p95_low_ms"].value, figures["itl_p95_high_ms"].value) == (10, 20)
    assert figures["merged_share"].value == 0.333


def test_a_first_chunk_of_unknown_time_is_a_ttft_of_unknown_size() -> None:
    """And a longest gap that may have been a stall is no stall yet, while one that surely was is one."""
    result = load([blurred(answer(), 0)] * 64)
    assert by(result, 50) == open_("merged-reads")
    assert by(result, 100) == (PASS, ())
    stalled = answer(gap_s=0.2)
    assert verdict(load([blurred(stalled, 5)] * 64), itl_max_ms=300) == open_("merged-reads")
    assert verdict(load([blurred(stalled, 5)] * 64), itl_max_ms=150) == (FAIL, ("stall",))


# --- late sends -----------------------------------------------------------------------------------------------------------


def sent(count: int, own_late_s: float = 0.0, apart_s: float = 0.05, one: Answer = answer()) -> list[Answer]:
    """Answers of an open loop whose client sent each so late."""
    return [one.starting(100 + number * apart_s + own_late_s, own_late_s) for number in range(count)]


def opened(answers: Sequence[Answer], concurrency: int | None = None) -> LoadResult:
    """An open loop."""
    return load(answers, arrivals=OPEN, concurrency=concurrency)


def test_an_open_loop_is_judged_from_the_schedule() -> None:
    """Sent 5 ms late: 105 ms is what a user waited; what counts from the send is shown beside."""
    result = opened(sent(64, 0.005))
    judgement = latency.judge(result, {"ttft_p95_ms": 300, "e2e_p95_ms": 300, "itl_p95_ms": 11}, ("ttft", "itl", "e2e"))
    assert judgement.verdict is PASS
    shown = {name: figure.value for name, figure in judgement.figures.items()}
    assert (shown["scheduled_ttft_p95_ms"], shown["ttft_p95_ms"], shown["scheduled_e2e_p95_ms"]) == (105, 100, 215)
    assert judgement.figures["scheduled_ttft_p95_ms"].limit == 300
    assert judgement.figures["ttft_p95_ms"].limit is None
    assert shown["late_p99_ms"] == 5


def test_a_closed_loop_is_judged_from_the_send() -> None:
    """It has no schedule."""
    figures = latency.judge(load(sent(64, 0.005)), {"ttft_p95_ms": 300}, ("ttft",)).figures
    assert figures["ttft_p95_ms"].value == 100
    assert not [name for name in figures if "scheduled" in name or "late" in name]


def test_late_sends_that_could_turn_a_verdict_leave_it_open() -> None:
    """105 ms, of which up to 5 are the client's."""
    result = opened(sent(64, 0.005))
    assert by(result, 102) == by(result, 108) == open_("late-sends")
    assert by(result, 105 / 1.2) == (FAIL, ("slow-first-token",))
    assert by(result, 130) == (PASS, ())


def test_a_client_that_cannot_keep_the_rate_proves_nothing() -> None:
    """Starts that are late by a good part of an answer and of the time to the next are another load than the stated one,
    whatever came of it; late by a millisecond of an answer of eight, ten a second, they are not."""
    result = opened(sent(64, 0.05))
    short = answer(0.002, 0.0005)
    assert by(opened(sent(64, 0.001, 0.1, short)), 300) == (PASS, ())
    assert by(opened(sent(64, 0.001, 0.001, short)), 300) == open_("late-sends")
    for limits in ({"itl_p95_ms": 500}, {"itl_p95_ms": 5}, {"throughput_min_tok_s": 1}, {"ttft_p95_ms": 1000}):
        assert verdict(result, **limits) == open_("late-sends")


def test_waiting_for_a_server_that_is_too_slow_is_its_own_latency() -> None:
    """Two seats, answers of 0.21 s, a request every 0.05 s: the queue grows, none of it the client's fault."""
    result = opened(queued(64, 2, 0.05), concurrency=2)
    assert max(one.late_s for one in result.answers) > 3
    assert by(result, 300) == (FAIL, ("slow-first-token",))
    assert latency.judge(result, {"ttft_p95_ms": 300}, ("ttft",)).figures["ttft_p95_ms"].value == 100
    assert by(opened(queued(64, 2, 0.11), concurrency=2), 300) == (PASS, ())
    # The same lateness without the bound that would explain it.
    assert by(replace(result, concurrency=None), 300) == open_("late-sends")


# --- several at once ------------------------------------------------------------------------------------------------------


def test_a_sure_fail_outweighs_a_doubt_and_a_doubt_a_pass() -> None:
    """Inconclusive shuts the gate only where required, so it must hide no fail; nor is half a check a pass."""
    noisy = replace(HEALTHY, noise=Noise(0.005, 0.0, 0.0))
    assert verdict(noisy, ttft_p50_ms=98, e2e_p95_ms=150) == (FAIL, ("slow-answers",))
    assert verdict(noisy, ttft_p50_ms=98, e2e_p95_ms=500) == open_("noise")
    both = replace(noisy, answers=(*noisy.answers[:59],))
    assert verdict(both, ttft_p50_ms=98, e2e_p95_ms=500) == (open_("")[0], ("noise", "too-few-samples"))
