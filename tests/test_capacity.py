"""Capacity: the highest rate at which requests still get what is promised, looked for with loads of several seconds."""

from __future__ import annotations

import pytest

from fixtures.load import capacity, latency
from fixtures.load.ramp import Outcome
from fixtures.load.result import LoadResult
from fixtures.verdict import Verdict
from tests.loads import FAILED, HEALTHY, OPEN, answer, load

LIMITS = {"ttft_p95_ms": 250.0, "goodput_min": 0.9}


def one_by_one(per_second: float, rate: float, requests: int) -> LoadResult:
    """What a server brings that answers one after another, so many a second, when requests come evenly at `rate`."""
    free, answers = 0.0, []
    for number in range(requests):
        due = number / rate
        free = max(free, due) + 1 / per_second
        answers.append(answer(ttft_s=free - due, gap_s=0.001).starting(due))
    return load(answers, seconds=free, arrivals=OPEN, concurrency=None)


@pytest.mark.parametrize("per_second", [6.0, 20.0, 55.0])
def test_the_rate_at_which_a_queue_grows_is_found(per_second: float) -> None:
    """Below its speed a server that answers one by one keeps its times; above it each request waits longer than the last."""
    found = capacity.highest_rate(lambda rate, requests: one_by_one(per_second, rate, requests), HEALTHY, LIMITS)
    assert found is not None
    assert found.outcome is Outcome.FOUND
    assert found.highest == pytest.approx(per_second, rel=0.15)


def test_a_load_is_long_enough_for_a_queue_to_grow() -> None:
    """Five seconds of requests, as many as the share needs, and an end to it."""
    assert capacity.requests_at(2, 0.9) == 30
    assert capacity.requests_at(40, 0.9) == 200
    assert capacity.requests_at(1000, 0.9) == capacity.MOST_REQUESTS


def test_nothing_is_looked_for_where_nothing_was_answered() -> None:
    """There is no rate to begin at."""
    assert capacity.highest_rate(lambda rate, requests: HEALTHY, load([FAILED] * 64), LIMITS) is None


def test_what_was_found_is_shown_and_judges_nothing() -> None:
    """No limit is stated on it: a figure beside the others, and every try as evidence; words where there is no rate."""
    judgement = latency.judge(HEALTHY, LIMITS, ("goodput",))
    found = capacity.highest_rate(lambda rate, requests: one_by_one(20, rate, requests), HEALTHY, LIMITS)
    shown = capacity.shown(judgement, found)
    assert (shown.verdict, shown.reason) == (Verdict.PASS, judgement.reason)
    assert found is not None
    assert shown.figures["highest_rate_req_s"].value == round(found.highest or 0, 3)
    assert len(shown.samples["ramp"]["tries"]) == len(found.tries)
    hopeless = capacity.highest_rate(lambda rate, requests: load([FAILED] * requests), HEALTHY, LIMITS)
    assert capacity.shown(judgement, hopeless).figures["highest_rate_req_s"].value == "lowest-fails"
    assert capacity.shown(judgement, None) == judgement
