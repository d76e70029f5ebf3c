"""Clients leave, crowds come, servers are stopped and killed: bounded, named, nothing left behind."""

from fixtures.check import Step, check
from fixtures.faults import disconnect, ending, overload
from fixtures.here import Here
from fixtures.verdict import Judgement


@check("faults.disconnect", Step.CROWD)
def test_disconnect(here: Here) -> Judgement:
    """Clients leave in mid-stream; the server stops working for them and answers the next."""
    return disconnect.judge(disconnect.observe(here.client, here.subject.context, here.cpu_seconds, here.device_view))


@check("faults.overload", Step.CROWD)
def test_overload(here: Here) -> Judgement:
    """More requests than there is room for are answered or refused in words; none hangs."""
    return overload.judge(overload.observe(here.client))


@check("faults.shutdown", Step.SHUTDOWN, per_model=False)
def test_shutdown(here: Here) -> Judgement:
    """SIGTERM with an open stream: the server ends in time, the client is told, nothing stays."""
    return ending.judge_shutdown(here.script.shutdown())


@check("faults.kill", Step.KILL, per_model=False)
def test_kill(here: Here) -> Judgement:
    """SIGKILL: the client is told, and no process or memory stays."""
    return ending.judge_kill(here.script.killed())
