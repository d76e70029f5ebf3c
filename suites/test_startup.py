"""Servers start, and the one that answers is the one that was started."""

from fixtures.check import Step, check
from fixtures.deployment.identity import judge_identity_of
from fixtures.deployment.ready import judge_ready
from fixtures.here import Here
from fixtures.verdict import Judgement


@check("startup.ready", Step.START)
def test_ready(here: Here) -> Judgement:
    """The first token of a real streamed generation comes within the limit; any exit before that is a failure."""
    return judge_ready(here.script.first_start(here.model))


@check("startup.identity", Step.START)
def test_identity(here: Here) -> Judgement:
    """The process that owns the port is the one that was launched; engine and version are the declared ones."""
    return judge_identity_of(here.place, here.script.first_start(here.model))
