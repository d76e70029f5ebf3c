"""Models side by side: they start, stay themselves, and bear each other's load, leaving and crashing."""

from fixtures.check import Step, check, has_limit, on_gpu, several_models, starts
from fixtures.coexistence import isolation, neighbours
from fixtures.here import Here
from fixtures.load import latency
from fixtures.place import Place
from fixtures.verdict import Judgement


def _has_latency_limits(place: Place) -> bool:
    return several_models(place) and has_limit("ttft_", "itl_", "tpot_", "e2e_")(place)


def _has_own_words(place: Place) -> bool:
    """With random weights the likeliest token is a near-tie, which any other batch turns: no answer stays the same."""
    return several_models(place) and place.model is not None and not place.model.random(place.member().engine.name)


def _sleeps(place: Place) -> bool:
    return place.engine.sleeps or (on_gpu(place) and bool(place.engine.sleep_flags))


def _when_it_sleeps(place: Place) -> Step:
    """By unloading in between; a server that sleeps as a whole is started for it."""
    return Step.SLEEP if place.engine.sleeps else Step.EAGER


@check("coexistence.sequential", Step.START, per_model=False, applies=starts("sequential"))
def test_sequential(here: Here) -> Judgement:
    """Started one after another, all become ready with the capacity they planned for."""
    return neighbours.judge_starts(here.script.sequential(), len(here.script.names))


@check("coexistence.busy", Step.LOAD, applies=_has_latency_limits)
def test_busy(here: Here) -> Judgement:
    """With every neighbour under load the model stays inside its own limits."""
    return latency.judge(here.script.busy(here.model), here.limits, ("ttft", "itl", "tpot", "e2e"), p99=here.p99)


def _when_alone_anyway(place: Place) -> Step:
    """The first model is alone before the others start, the last one before the first returns, the others in between."""
    names = [model.name for model in place.lineup.models]
    at = names.index(place.model.name) if place.model else 0
    return Step.COMPANY if at == 0 else Step.RETURN if at == len(names) - 1 else Step.BESIDE


@check("coexistence.isolation", _when_alone_anyway, applies=_has_own_words)
def test_isolation(here: Here) -> Judgement:
    """The model answers under its own name, and the same beside loaded neighbours as alone."""
    observed = here.script.in_company(here.model)
    return isolation.judge(here.script.alone(here.model), [observed], here.script.other_baselines(here.model))


@check("coexistence.sleep", _when_it_sleeps, per_model=False, applies=_sleeps)
def test_sleep(here: Here) -> Judgement:
    """Memory is given back while a model sleeps and taken again when it wakes."""
    return neighbours.judge_sleep(here.script.sleep())


@check("coexistence.crash", Step.CRASH, per_model=False, applies=several_models)
def test_crash(here: Here) -> Judgement:
    """A model's process is killed; the others answer on."""
    return neighbours.judge_departure(here.script.crash())


@check("coexistence.leave", Step.LEAVE, per_model=False, applies=several_models)
def test_leave(here: Here) -> Judgement:
    """A model stops; the others answer on."""
    return neighbours.judge_departure(here.script.leave())


@check("coexistence.beside", Step.BESIDE, per_model=False, applies=several_models)
def test_beside(here: Here) -> Judgement:
    """A model starts beside a neighbour under load, with the capacity it planned for."""
    return neighbours.judge_arrival(here.script.beside())


@check("coexistence.return", Step.RETURN, per_model=False, applies=several_models)
def test_return(here: Here) -> Judgement:
    """A model that was gone comes back and fits again."""
    return neighbours.judge_arrival(here.script.returns())


@check("coexistence.concurrent", Step.CONCURRENT, per_model=False, applies=starts("concurrent"))
def test_concurrent(here: Here) -> Judgement:
    """Started all at once, all become ready with the capacity they planned for; on a GPU thoroughly: in three tries."""
    tries = 3 if here.thorough and on_gpu(here.place) else 1
    return neighbours.judge_races(here.script.concurrent(tries), len(here.script.names))
