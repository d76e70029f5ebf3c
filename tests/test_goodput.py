"""Goodput: every request is held against every limit on times, and one that failed is not good however fast it failed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fixtures.load import goodput, latency
from fixtures.load.answer import Answer, Failure
from fixtures.load.result import ClientError, LoadResult, Noise
from fixtures.verdict import Verdict
from tests.loads import FAIL, FAILED, HEALTHY, OPEN, PASS, answer, blurred, load, open_, queued, verdict

SLO = {"ttft_p95_ms": 200.0, "itl_p95_ms": 30.0, "e2e_p95_ms": 500.0}
SLOW_START = answer(ttft_s=0.24)  # a fifth beyond
EMPTY = replace(answer(), text="", chunks=())
CUT_OFF = replace(answer(), done=False, finish_reason=None)


def mixed(good: int, *bad: Answer) -> LoadResult:
    """So many healthy answers among bad ones, in 8 s."""
    return load([*bad, *[answer()] * good])


def of(result: LoadResult, limit: float = 0.95, **limits: float) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict on goodput under the limits above."""
    return verdict(result, ("goodput",), **{**SLO, **limits}, goodput_min=limit)


@pytest.mark.parametrize("bad", [FAILED, SLOW_START, EMPTY, CUT_OFF, answer(gap_s=0.036, chunks=9), answer(chunks=60)])
def test_one_kind_of_bad_request_in_ten_fails(bad: Answer) -> None:
    """Failed, late to begin, empty, cut off, slow, long: 90 % is less than 95 %; one in sixty-four is not."""
    assert of(mixed(58, *[bad] * 6)) == (FAIL, ("low-goodput",))
    assert of(mixed(63, bad)) == (PASS, ())


def test_all_good_is_one_and_nothing_good_is_no_number() -> None:
    """A load without a success has no figure."""
    assert latency.judge(HEALTHY, {**SLO, "goodput_min": 0.95}, ("goodput",)).figures["goodput_min"].value == 1
    judgement = latency.judge(load([FAILED] * 64), {**SLO, "goodput_min": 0.95}, ("goodput",))
    assert (judgement.verdict, judgement.causes, judgement.figures) == (FAIL, ("all-requests-failed",), {})


def test_each_request_must_keep_all_limits_at_once() -> None:
    """Each figure's p95 holds, with 5 % missing each: together a tenth of the requests was bad for its user."""
    late, slow = answer(ttft_s=0.24), answer(gap_s=0.036, chunks=9)
    result = mixed(94, *[late] * 4, *[slow] * 4)
    assert verdict(result, **SLO) == (PASS, ())
    assert of(result) == (FAIL, ("low-goodput",))
    assert of(result, 0.9) == (PASS, ())


def test_the_record_says_what_was_missed() -> None:
    """By class of failure and by limit; a rate beside the share; of each request what it missed."""
    timeout = replace(FAILED, failure=Failure.TIMEOUT)
    result = mixed(58, timeout, timeout, FAILED, *[SLOW_START] * 3)
    judgement = latency.judge(result, {**SLO, "goodput_min": 0.95}, ("goodput",))
    assert "ttft_p95_ms 3, timeout 2, disconnect 1" in judgement.reason
    figures = judgement.figures
    assert (figures["goodput_min"].value, figures["goodput_min"].limit) == (round(58 / 64, 3), 0.95)
    assert (figures["goodput_req_s"].value, figures["failed"].value) == (58 / 8, "disconnect 1, timeout 2")
    assert judgement.samples["missed"][:4] == ["timeout", "timeout", "disconnect", "ttft_p95_ms"]


def test_the_highest_stated_percentile_is_the_objective() -> None:
    """A median is no bound for every request where a p95 is stated too."""
    limits = {"ttft_p50_ms": 1.0, "ttft_p95_ms": 2.0, "tpot_p50_ms": 3.0, "e2e_p99_ms": 4.0, "itl_max_ms": 5.0}
    found = goodput.objectives({**limits, "ready_s": 6.0})
    assert found == {"ttft_p95_ms": 2.0, "tpot_p50_ms": 3.0, "e2e_p99_ms": 4.0, "itl_max_ms": 5.0}
    stalls = [replace(answer(), chunks=(*answer().chunks[:-1], answer().chunks[-1]._replace(at_s=0.9)))] * 6
    assert of(mixed(58, *stalls), itl_p95_ms=1000, itl_max_ms=500) == (FAIL, ("low-goodput",))


@pytest.mark.parametrize(("limit", "enough"), [(0.5, 10), (0.95, 60), (0.98, 150), (0.99, 300), (1.0, 300)])
def test_a_share_near_one_needs_its_requests(limit: float, enough: int) -> None:
    """And a load is made large enough for it."""
    assert of(load([answer()] * (enough - 1)), limit) == open_("too-few-samples")
    assert of(load([answer()] * enough), limit) == (PASS, ())
    assert latency.requests_for({"goodput_min": limit}) >= enough


def test_what_nobody_knows_is_not_good() -> None:
    """Tokens that are not counted have no time each, answers in one piece no gaps."""
    assert of(load([answer(tokens=None)] * 64), tpot_p95_ms=50) == open_("missing-usage")
    assert of(load([answer(chunks=1)] * 64)) == open_("no-gaps")


def test_an_open_loop_counts_from_the_schedule() -> None:
    """Requests that waited for a seat longer and longer were not answered in time."""
    waited = queued(64, 2, 0.09)
    assert of(load(waited, arrivals=OPEN, concurrency=2)) == (FAIL, ("low-goodput",))
    assert of(load(waited)) == (PASS, ())


def test_requests_that_may_have_been_good_leave_the_share_open() -> None:
    """Six whose first token may have come in time: between 91 and 100 %. Surely late or surely in time they are judged."""
    blurry = blurred(SLOW_START, 0)
    assert of(mixed(58, *[blurry] * 6)) == open_("merged-reads")
    assert of(mixed(58, *[blurry] * 6), 0.9) == (PASS, ())
    assert of(mixed(58, *[blurred(SLOW_START, 0, since_s=0.21)] * 6)) == (FAIL, ("low-goodput",))
    assert of(mixed(58, *[blurred(answer(), 0, since_s=0.095)] * 6)) == (PASS, ())


def test_doubts_are_about_single_requests() -> None:
    """A clock set by 50 ms may have made six of 64 late by 40; a busy machine excuses no pass."""
    result = replace(mixed(58, *[SLOW_START] * 6), client=ClientError(clock_step_s=0.05))
    assert of(result) == open_("clock-set")
    assert of(replace(result, client=ClientError(clock_step_s=0.03))) == (FAIL, ("low-goodput",))
    busy = Noise(0.0, 0.3, None)
    assert of(replace(mixed(58, *[SLOW_START] * 6), noise=busy)) == open_("busy-machine")
    assert of(replace(HEALTHY, noise=busy)) == (PASS, ())
