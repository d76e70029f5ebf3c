"""Verdicts on neighbours: starts, arrivals, departures and naps, from what was seen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fixtures.coexistence import neighbours
from fixtures.deployment.events import Boot, Nap, Stop
from fixtures.deployment.script import Bystander, Scene
from fixtures.engines.failure import Failure
from fixtures.verdict import Judgement, Verdict

BOOT = Boot("a", "sequential", 3.0, 60.0, capacity=8192, planned=8192)
STOP = Stop("a", "term", 0.4, 30.0, exit_code=0)
WITNESS = Bystander("b", 3, 3, (), True)
ARRIVAL = Scene("a", (WITNESS,), boot=BOOT)
DEPARTURE = Scene("a", (WITNESS,), stop=STOP)
NAP = Nap(replace(STOP, how="unload"), replace(BOOT, order="again"), 50 << 20, 51 << 20)
NOT_UP = Failure("out-of-memory", "the KV cache does not fit", "lower the share", 7, "")


def outcome(judgement: Judgement) -> tuple[Verdict, tuple[str, ...]]:
    """Verdict and causes; what is no pass has a reason."""
    assert judgement.verdict is Verdict.PASS or judgement.reason
    return judgement.verdict, judgement.causes


def boots(*changed: Boot) -> list[Boot]:
    """Three starts, the last ones as given."""
    healthy = [replace(BOOT, model=name) for name in "abc"]
    return healthy[: 3 - len(changed)] + list(changed)


def test_healthy_neighbours_pass() -> None:
    """Starts, an arrival, a departure, a nap."""
    judged = (neighbours.judge_starts(boots(), 3), neighbours.judge_arrival(ARRIVAL),
              neighbours.judge_departure(DEPARTURE), neighbours.judge_sleep(NAP))
    assert [outcome(judgement) for judgement in judged] == [(Verdict.PASS, ())] * 4


def test_a_start_that_failed_names_its_cause() -> None:
    """The cause from the log is the cell's cause."""
    judgement = neighbours.judge_starts(boots(replace(BOOT, model="c", failure=NOT_UP, capacity=None)), 3)
    assert outcome(judgement) == (Verdict.FAIL, ("out-of-memory",))
    assert "c did not become ready" in judgement.reason


@pytest.mark.parametrize(("capacity", "causes"), [
    (8192, ()), (8192 - 16, ()), (9000, ()),
    (6553, ("capacity-below-plan",)), (4096, ("capacity-below-plan",)), (0, ("capacity-below-plan",)),
])
def test_a_start_without_its_capacity_is_no_start(capacity: int, causes: tuple[str, ...]) -> None:
    """Rounded to a block is the plan; a fifth less is not: it started, but beside it nothing else may."""
    start = replace(BOOT, capacity=capacity)
    assert neighbours.judge_starts(boots(replace(start, model="c")), 3).causes == causes
    assert neighbours.judge_arrival(replace(ARRIVAL, boot=start)).causes == causes


def test_a_capacity_that_is_not_reported_is_shown_as_unknown() -> None:
    """Some engines never tell; the record must not look as if they had."""
    judgement = neighbours.judge_starts(boots(replace(BOOT, model="c", capacity=None)), 3)
    assert judgement.verdict is Verdict.PASS
    figure = judgement.figures["c kv_tokens"]
    assert (figure.value, figure.limit) == (None, 8192)


@pytest.mark.parametrize("started", [boots()[:2], [*boots()[:2], boots()[0]]])
def test_all_models_must_have_been_started(started: list[Boot]) -> None:
    """Two of three, or one of them twice, is not all."""
    assert outcome(neighbours.judge_starts(started, 3)) == (Verdict.FAIL, ("not-all-started",))


def test_no_start_at_all_does_not_pass() -> None:
    """Nothing was examined."""
    assert neighbours.judge_starts([], 3).verdict is not Verdict.PASS
    assert neighbours.judge_starts([], 0).verdict is Verdict.ERROR


@pytest.mark.parametrize(("witness", "cause"), [
    (replace(WITNESS, alive=False), "neighbour-died"),
    (replace(WITNESS, failed=("connection reset",)), "neighbour-failed"),
    (replace(WITNESS, after=0), "neighbour-silent"),
    (replace(WITNESS, before=0), "neighbour-silent"),
])
def test_a_neighbour_must_go_on(witness: Bystander, cause: str) -> None:
    """It lives, fails no request, and answers before (or it was not busy) and after; one of two is enough to fail."""
    for scene, judge in ((ARRIVAL, neighbours.judge_arrival), (DEPARTURE, neighbours.judge_departure)):
        assert outcome(judge(replace(scene, bystanders=(WITNESS, witness)))) == (Verdict.FAIL, (cause,))


def test_without_a_witness_nothing_passes() -> None:
    """An event that nobody was beside of says nothing of neighbours."""
    assert neighbours.judge_arrival(replace(ARRIVAL, bystanders=())).verdict is Verdict.ERROR
    assert neighbours.judge_departure(replace(DEPARTURE, bystanders=())).verdict is Verdict.ERROR


def test_an_arrival_that_failed_fails_whoever_looked_on() -> None:
    """Its own cause, beside what became of the neighbour."""
    failed = replace(ARRIVAL, boot=replace(BOOT, failure=NOT_UP, capacity=None))
    assert outcome(neighbours.judge_arrival(failed)) == (Verdict.FAIL, ("out-of-memory",))
    died = replace(failed, bystanders=(replace(WITNESS, alive=False),))
    assert set(neighbours.judge_arrival(died).causes) == {"out-of-memory", "neighbour-died"}
    assert neighbours.judge_arrival(replace(failed, bystanders=())).causes == ("out-of-memory",)


@pytest.mark.parametrize(("stop", "cause"), [
    (replace(STOP, seconds=None, exit_code=None), "did-not-leave"),
    (replace(STOP, held_bytes=40 << 20), "memory-left"),
])
def test_who_leaves_must_be_gone(stop: Stop, cause: str) -> None:
    """In time, and with its memory."""
    assert outcome(neighbours.judge_departure(replace(DEPARTURE, stop=stop))) == (Verdict.FAIL, (cause,))


@pytest.mark.parametrize(("nap", "cause"), [
    (replace(NAP, slept=replace(NAP.slept, held_bytes=50 << 20)), "memory-left"),
    (replace(NAP, slept=replace(NAP.slept, seconds=None)), "memory-left"),
    (replace(NAP, before_bytes=0), "no-memory-seen"),
    (replace(NAP, after_bytes=0), "no-memory-seen"),
    (replace(NAP, woken=replace(NAP.woken, failure=NOT_UP)), "out-of-memory"),
])
def test_sleep_gives_memory_back_and_waking_takes_it_again(nap: Nap, cause: str) -> None:
    """A model that keeps its memory, that never had any to be seen, or that does not wake."""
    assert outcome(neighbours.judge_sleep(nap)) == (Verdict.FAIL, (cause,))


def test_a_race_is_lost_by_one_try() -> None:
    """Three starts at once: one that comes up with the wrong capacity is a fail, and all of them are told."""
    good, small = [BOOT], [replace(BOOT, capacity=BOOT.planned // 2 if BOOT.planned else 0)]
    judgement = neighbours.judge_races([good, small, good], 1)
    assert outcome(judgement) == (Verdict.FAIL, ("capacity-below-plan",))
    assert judgement.figures["good_tries"].value == 2
    assert judgement.reason.startswith("2 of 3 tries were good: ")
    assert outcome(neighbours.judge_races([good] * 3, 1)) == (Verdict.PASS, ())


@pytest.mark.parametrize(("capacity", "cause"), [
    (999, "capacity-below-plan"), (1000, None), (1500, None), (1531, "capacity-above-plan"),
])
def test_both_ends_of_a_plan_are_judged(capacity: int, cause: str | None) -> None:
    """On a GPU a share leaves a range: below it a neighbour had taken the memory, above it the next one lacks it."""
    boot = replace(BOOT, capacity=capacity, planned=1020, planned_most=1500)
    causes = neighbours.judge_starts([boot], 1).causes
    assert causes == ((cause,) if cause else ())


def test_a_capacity_without_a_plan_is_no_pass() -> None:
    """A server on a GPU whose log does not tell what it took leaves the question open."""
    boot = replace(BOOT, planned=None)
    assert neighbours.judge_starts([boot], 1).verdict is Verdict.INCONCLUSIVE


def test_a_server_that_sleeps_may_keep_its_context() -> None:
    """What stays of a sleeping server is judged against what it took for weights and cache; its answers must be the same."""
    slept = replace(STOP, how="sleep", held_bytes=900 << 20)
    nap = Nap(slept, replace(BOOT, order="again"), 14 << 30, 14 << 30, kept_bytes=1 << 30, before="a song", after="a song")
    assert outcome(neighbours.judge_sleep(nap)) == (Verdict.PASS, ())
    assert neighbours.judge_sleep(replace(nap, kept_bytes=800 << 20)).causes == ("memory-left",)
    assert neighbours.judge_sleep(replace(nap, refused="/sleep answered 500: oops")).causes == ("did-not-sleep",)
    assert neighbours.judge_sleep(replace(nap, after="another")).causes == ("other-answer",)
    assert neighbours.judge_sleep(replace(nap, after_bytes=900 << 20)).causes == ("no-memory-seen",)
