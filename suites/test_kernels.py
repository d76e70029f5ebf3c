"""Compiled code runs on this device."""

from fixtures.check import Step, check
from fixtures.gpu import device
from fixtures.here import Here
from fixtures.kernels import cpu, live, static
from fixtures.place import Place
from fixtures.verdict import Judgement


def _reads_libraries(place: Place) -> bool:
    return bool(place.engine.instruction_sets if place.profile.is_cpu else place.engine.gpu_code)


@check("kernels.static", Step.NOTHING, per_model=False, static=True, applies=_reads_libraries)
def test_static(here: Here) -> Judgement:
    """Every library that is always used carries code for this GPU, told from its files, whether or not the card is here.

    On a CPU: every such library is there, and this CPU has the instruction sets it needs.
    """
    profile = here.place.profile
    if not profile.is_cpu:
        return static.judge(here.gpu_code, here.place.engine, profile, device.find().driver_of(profile))
    found = cpu.libraries(here.environment.root, here.place.engine.instruction_sets)
    return cpu.judge(found, cpu.instruction_sets())


@check("kernels.live", Step.TOGETHER)
def test_live(here: Here) -> Judgement:
    """Short and long prompts, greedy and sampled, one and many streams give tokens."""
    return live.judge(live.observe(here.client, here.subject.context))
