"""Compiled code runs on this device."""

from dataclasses import replace

from fixtures.check import Step, check, on_gpu
from fixtures.gpu import device
from fixtures.here import Here
from fixtures.kernels import cpu, live, static
from fixtures.kernels.residency import Residency
from fixtures.load.client import Client
from fixtures.place import Place
from fixtures.verdict import Judgement, failed


def _reads_libraries(place: Place) -> bool:
    wanted = place.engine.instruction_sets if place.profile.is_cpu else place.engine.gpu_code
    return bool(wanted) and place.reads_files


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


def _modes(place: Place) -> tuple[str, ...]:
    """As it was started; of the first model on a GPU also without CUDA graphs, which takes another start."""
    first = place.model is None or place.model == place.lineup.models[0]
    eager = on_gpu(place) and first and bool(place.engine.eager_flags) and place.launcher != "endpoint"
    return ("", "eager") if eager else ("",)


def _observed(here: Here, client: Client) -> tuple[tuple[live.Case, ...], Residency | None]:
    """The answers, and on a GPU where they were made."""
    served, view = here.script.deployment.tenants[here.model].served, here.device_view
    chunk = live.GPU_CHUNK if on_gpu(here.place) else live.CPU_CHUNK
    observed = live.observe(client, served.context, streams=served.slots, chunk=chunk, device=view)
    if not on_gpu(here.place):
        return observed.cases, None
    seen = observed.residency or Residency()
    before = view.meter.baseline if view else None
    return observed.cases, replace(seen, used_before=before, weights=here.weights, engine=here.engine_report())


@check("kernels.live", lambda place: Step.EAGER if place.variant == "eager" else Step.TOGETHER, variants=_modes)
def test_live(here: Here) -> Judgement:
    """Every way of asking, alone and many at once, gives its tokens; on a GPU on that GPU, with CUDA graphs and without."""
    if here.place.variant != "eager":
        return live.judge(*_observed(here, here.client))
    begun = here.script.eager()
    if refusal := begun.boot.failure:
        return failed(refusal.cause, f"without CUDA graphs it does not start: {refusal.reason}", refusal.cure)
    cases, residency = _observed(here, here.solo)
    return live.judge_eager(cases, begun.graphs, live.single_stream_speed(here.solo), residency)
