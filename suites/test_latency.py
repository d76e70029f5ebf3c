"""Answers come fast enough under the load that the lineup states, neighbours idle.

Limits hold for every request sent, or nothing is judged: a load of which a part failed is a fail (latency.goodput counts
the failed ones instead). An open loop is judged from the moments at which its requests were due. Where the client's
error, the machine's noise or too few samples could turn a verdict, it is inconclusive. On a CPU limits on a p99, which take
five times the requests, are judged with --thorough.
"""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from fixtures.check import Step, check, has_limit
from fixtures.here import Here
from fixtures.load import capacity, latency, single
from fixtures.verdict import Judgement


def _judge(here: Here, *figures: str) -> Judgement:
    return latency.judge(here.script.load(here.model), here.limits, figures, p99=here.p99)


@pytest.mark.benchmark(group="ttft", timer=single.TTFT)
@check("latency.ttft", Step.LOAD, applies=has_limit("ttft_"))
def test_ttft(here: Here, benchmark: BenchmarkFixture) -> Judgement:
    """Time to first token, by percentile; of one request at a time it is kept by pytest-benchmark."""
    alone = single.measure(benchmark, here.client, single.TTFT)
    return single.judged(_judge(here, "ttft"), alone, single.TTFT)


@check("latency.itl", Step.LOAD, applies=has_limit("itl_", "tpot_"))
def test_itl(here: Here) -> Judgement:
    """Inter-token latency, pooled over all gaps of all answers, its longest gap, and time per output token."""
    return _judge(here, "itl", "tpot")


@pytest.mark.benchmark(group="e2e", timer=single.E2E)
@check("latency.e2e", Step.LOAD, applies=has_limit("e2e_"))
def test_e2e(here: Here, benchmark: BenchmarkFixture) -> Judgement:
    """The whole answer, by percentile; of one request at a time it is kept by pytest-benchmark."""
    alone = single.measure(benchmark, here.client, single.E2E)
    return single.judged(_judge(here, "e2e"), alone, single.E2E)


@check("latency.throughput", Step.LOAD, applies=has_limit("throughput_"))
def test_throughput(here: Here) -> Judgement:
    """Output tokens per second."""
    return _judge(here, "throughput")


@check("latency.goodput", Step.LOAD, applies=has_limit("goodput_"))
def test_goodput(here: Here) -> Judgement:
    """The share of all requests, failed ones among them, that each kept to every limit stated on times.

    With --thorough the highest rate at which it still does is looked for and shown.
    """
    judgement = _judge(here, "goodput")
    return capacity.shown(judgement, here.script.highest_rate(here.model)) if here.thorough else judgement
