"""Answers come fast enough at the stated load: 64 streamed chats, four at once, neighbours idle."""

from fixtures.check import Step, check, has_limit
from fixtures.here import Here
from fixtures.load import latency
from fixtures.verdict import Judgement


@check("latency.ttft", Step.LOAD, applies=has_limit("ttft_"))
def test_ttft(here: Here) -> Judgement:
    """Time to first token, by percentile."""
    return latency.judge(here.script.load(here.model), here.limits, ("ttft",))


@check("latency.itl", Step.LOAD, applies=has_limit("itl_", "tpot_"))
def test_itl(here: Here) -> Judgement:
    """Inter-token latency, pooled over all gaps of all answers, and time per output token."""
    return latency.judge(here.script.load(here.model), here.limits, ("itl", "tpot"))


@check("latency.e2e", Step.LOAD, applies=has_limit("e2e_"))
def test_e2e(here: Here) -> Judgement:
    """The whole answer, by percentile."""
    return latency.judge(here.script.load(here.model), here.limits, ("e2e",))


@check("latency.throughput", Step.LOAD, applies=has_limit("throughput_"))
def test_throughput(here: Here) -> Judgement:
    """Output tokens per second."""
    return latency.judge(here.script.load(here.model), here.limits, ("throughput",))
