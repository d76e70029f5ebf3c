"""Memory stays within limits and comes back: on a GPU the device's, by process; on a CPU the PSS of a process tree."""

from fixtures.check import Step, check, has_limit, of_our_flags
from fixtures.here import Here
from fixtures.memory import growth
from fixtures.memory import judge as memory
from fixtures.verdict import Judgement


@check("memory.capacity", Step.START, applies=has_limit("kv_tokens_min"))
def test_capacity(here: Here) -> Judgement:
    """The engine's own KV capacity is at least what the lineup needs."""
    return memory.judge_capacity(here.script.first_start(here.model), here.limits["kv_tokens_min"])


@check("memory.plan", Step.START, applies=of_our_flags)
def test_plan(here: Here) -> Judgement:
    """What the model holds when it is ready is what was planned: on a device its share, on a CPU its weights and cache."""
    boot = here.script.first_start(here.model)
    if here.place.profile.is_cpu:
        return memory.judge_account(boot, lambda: here.planned)
    return memory.judge_plan(boot).with_figures({}, here.expectation if boot.ok else {})


@check("memory.growth", Step.LOAD)
def test_growth(here: Here) -> Judgement:
    """Rounds of equal load add no memory."""
    return memory.judge_growth(growth.observe(here.client, here.memory))


@check("memory.ceiling", Step.CEILING, applies=has_limit("memory_gib"))
def test_ceiling(here: Here) -> Judgement:
    """The peak over everything that was done to the model stays under the lineup's limit."""
    return memory.judge_ceiling(here.peak, here.limits["memory_gib"])


@check("memory.returned", Step.AFTER, per_model=False)
def test_returned(here: Here) -> Judgement:
    """After every ordinary stop no process and no memory of ours is left."""
    return memory.judge_returned(here.script.all_stops(), here.device_left)
