"""Percentiles: bounds hold whatever the truth inside them is, and intervals know that an answer's gaps go together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.load import statistics
from fixtures.load.answer import Answer
from fixtures.load.chunk import Chunk
from fixtures.load.samples import rows_of
from fixtures.load.statistics import Between, Samples
from tests.cells import steady
from tests.loads import answer, blurred

TIMES = st.floats(0, 1e5, allow_nan=False)


def exact(clusters: Sequence[Sequence[float]]) -> Samples:
    """Samples that are known exactly."""
    return Samples.of([[(value, value, value) for value in cluster] for cluster in clusters])


@st.composite
def truths(draw: st.DrawFn) -> tuple[Samples, list[float], list[float]]:
    """Samples, a truth inside their bounds, and another that is nowhere smaller."""
    rows, truth, later = [], [], []
    for low, width in draw(st.lists(st.tuples(TIMES, TIMES), min_size=1, max_size=30)):
        high = low + width
        one, other = sorted(draw(st.tuples(st.floats(low, high), st.floats(low, high))))
        rows.append((low, draw(st.floats(low, high)), high))
        truth.append(one)
        later.append(other)
    return Samples.of([rows]), truth, later


@steady
@given(truths(), st.floats(0, 100))
def test_the_bounds_hold_whatever_the_truth_is(case: tuple[Samples, list[float], list[float]], percent: float) -> None:
    """No truth inside the samples' bounds has its percentile outside theirs; a slower truth has none that is smaller."""
    samples, truth, later = case
    bounds, slack = samples.bounds(percent), 1e-6
    of_truth, of_later = numpy.percentile(truth, percent), numpy.percentile(later, percent)
    assert bounds.low - slack <= of_truth <= of_later + slack <= bounds.high + 2 * slack
    assert bounds.low - slack <= samples.percentile(percent) <= bounds.high + slack


def test_exact_samples_have_the_percentile_that_numpy_gives() -> None:
    """And nothing left open."""
    samples = exact([[3.0, 1.0], [], [2.0, 10.0]])
    assert samples.bounds(95) == Between(*[float(numpy.percentile([1, 2, 3, 10], 95))] * 2)
    assert samples.exact
    assert samples.bounds(95).exact
    assert len(samples) == 4


def test_without_samples_there_is_no_percentile() -> None:
    """Never a number."""
    for ask in (lambda: exact([[], []]).percentile(50), lambda: exact([]).bounds(50), lambda: exact([[]]).confidence([50])):
        with pytest.raises(ValueError, match="without samples"):
            ask()


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    """The median of 64 exponential times, 200 times over: some 95 of 100 intervals hold the true one. Seeded."""
    randomness = numpy.random.default_rng(7)
    held = [interval.low <= 10 * numpy.log(2) <= interval.high for interval in (
        exact(randomness.exponential(10, (64, 1)).tolist()).confidence([50])[0] for _ in range(200))]
    assert 180 <= sum(held) <= 199


def test_gaps_of_one_answer_are_not_so_many_witnesses() -> None:
    """20 answers, each with a pace of its own and 50 gaps at it: drawing gaps instead would make the interval far too
    narrow, and miss the true median of paces most of the time."""
    randomness = numpy.random.default_rng(3)
    clustered: list[bool] = []
    alone: list[bool] = []
    for _ in range(60):
        gaps = numpy.repeat(randomness.normal(10, 2, (20, 1)), 50, axis=1) + randomness.normal(0, 0.1, (20, 50))
        for found, samples in ((clustered, exact(gaps.tolist())), (alone, exact(gaps.reshape(-1, 1).tolist()))):
            interval = samples.confidence([50])[0]
            found.append(interval.low <= 10 <= interval.high)
    assert sum(clustered) >= 50
    assert sum(alone) <= 40


def test_resampling_is_what_it_says() -> None:
    """The counted percentiles are those of the resamples written out."""
    samples = exact([[5.0, 1.0, 9.0], [4.0], [], [7.0, 7.5]])
    written_out = []
    for counts in statistics._draws(4):
        drawn = [value for value, owner in zip(samples.values, samples.owners, strict=True) for _ in range(counts[owner])]
        if drawn:
            written_out.append(numpy.percentile(drawn, [50, 95]))
    assert numpy.allclose(samples._replicates(samples.values, [50, 95]), written_out)


def test_the_same_samples_have_the_same_interval() -> None:
    """Seeded; bounded samples have the wider one."""
    rows = [[(value - 1.0, value, value + 2.0)] for value in range(64)]
    wide, narrow = Samples.of(rows).confidence([95])[0], exact([[float(value)] for value in range(64)]).confidence([95])[0]
    assert Samples.of(rows).confidence([95])[0] == wide
    assert (wide.low, wide.high) == (narrow.low - 1, narrow.high + 2)


def test_a_large_load_is_counted_in_a_tenth_of_a_second() -> None:
    """320 answers of 24 gaps, the best of three."""
    samples, took = exact(numpy.random.default_rng(1).exponential(10, (320, 24)).tolist()), []
    for _ in range(3):
        began = time.thread_time()
        samples.confidence([50, 95])
        took.append(time.thread_time() - began)
    assert min(took) < 0.15


# --- the samples of an answer ---------------------------------------------------------------------------------------------


def test_a_chunk_that_shares_a_read_bounds_the_gaps_on_either_side() -> None:
    """The longer of two has at least half of their sum, the shorter at most half; the first bounds TTFT, e2e is exact."""
    blurry = blurred(answer(chunks=4, tokens=4), 2)
    gaps = rows_of(blurry, "itl")
    assert [numpy.allclose(gap, expected) for gap, expected in zip(gaps, (
        (10, 10, 10), (10, 10, 20), (0, 10, 10)), strict=True)] == [True] * 3
    first = blurred(answer(chunks=4, tokens=4), 0, since_s=0.04)
    assert numpy.allclose(rows_of(first, "ttft"), [(40, 100, 100)])
    assert numpy.allclose(rows_of(first, "tpot"), [(10, 10, 30)])
    assert numpy.allclose(rows_of(first, "e2e"), [(130, 130, 130)])


def test_a_gap_is_shared_out_over_its_tokens() -> None:
    """Chunks of 3, 1, 0 and 2 tokens: what brought none waits for the next. Without counts nobody knows."""
    whole = answer(chunks=4, tokens=None)
    chunks = tuple(chunk._replace(tokens=count) for chunk, count in zip(whole.chunks, (3, 4, 4, 6), strict=True))
    rows = rows_of(replace(whole, chunks=chunks), "itl_token")
    assert numpy.allclose([value for _, value, _ in rows], [10, 10, 10])
    assert rows_of(whole, "itl_token") == []
    assert len(rows_of(answer(chunks=24, tokens=24), "itl_token")) == 23


@settings(deadline=None, database=None, derandomize=True)
@given(st.lists(st.tuples(st.floats(0, 10), st.booleans()), min_size=2, max_size=30))
def test_bounds_of_gaps_hold_for_the_sorted_truth(steps: list[tuple[float, bool]]) -> None:
    """Whenever the chunks of a merged read really came, the n-th longest gap lies within the n-th greatest bounds."""
    true_s, at_s, chunks, before = 0.0, 0.0, [], 0.0
    moments = [sum(step for step, _ in steps[: end + 1]) for end in range(len(steps))]
    for place, (true_s, (_, exact)) in enumerate(zip(moments, steps, strict=True)):
        alone = exact or place == len(steps) - 1
        at_s = true_s if alone else next(moment for later, moment in enumerate(moments[place:], place)
                                         if steps[later][1] or later == len(steps) - 1)
        chunks.append(Chunk(at_s, "x", since_s=None if alone else before))
        before = true_s if alone else before
    bounds = Answer(200, chunks=tuple(chunks)).gap_bounds_s
    truth = sorted(later - earlier for earlier, later in pairwise(moments))
    lows, highs = sorted(low for low, _ in bounds), sorted(high for _, high in bounds)
    assert all(low <= gap + 1e-9 and gap <= high + 1e-9 for low, gap, high in zip(lows, truth, highs, strict=True))
