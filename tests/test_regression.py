"""A regression is what was right in every run of the baseline and is not, or is worse than tolerance and noise explain."""

from __future__ import annotations

from typing import Any

import numpy
import pytest

from reports import baseline, gate, policy, regression
from reports.baseline import Baseline, BaselineError
from reports.comparison import Comparison
from reports.merge import merge
from reports.record import Cell, Figure, Matrix, Verdict
from tests import held_runs
from tests.cells import cell
from tests.held_runs import MODELS, heavy, normal, run, several

TRIALS = 200
SLOW = {("small", "latency.itl"): 1.2}


def held(seed: int = 0, **how: Any) -> Baseline:
    return baseline.make("main", several(numpy.random.default_rng(seed), **how))


def trial(seed: int, *, new: int = 1, slower: dict[tuple[str, str], float] | None = None, number: int = 5,
          **how: Any) -> Comparison:
    """One gate decision: a baseline and new runs of a system that did not change but for `slower`."""
    random = numpy.random.default_rng(seed)
    before = baseline.make("main", several(random, number, **how))
    return regression.compare(before, merge([run(random, f"new-{one}", slower=slower, **how) for one in range(new)]))


@pytest.mark.parametrize(("how", "new"), [
    ({"noise": normal}, 1), ({"noise": heavy}, 1), ({"noise": normal, "all_of_it": 0.03}, 1), ({"noise": heavy}, 3),
])
def test_an_unchanged_system_raises_no_alarm(how: dict[str, Any], new: int) -> None:
    """Of the gate decisions on a system that did not change fewer than one in twenty finds a regression, whatever the noise:
    normal, with a heavy tail, or common to all figures of a run."""
    alarms = sum(bool(trial(seed, new=new, **how).regressions) for seed in range(TRIALS))
    assert alarms / TRIALS < 0.05


@pytest.mark.parametrize("new", [1, 3])
def test_a_planted_slow_down_is_found(new: int) -> None:
    """20 % on one model's ITL, which varies by 1 to 2 %, is found in nine of ten decisions, and nothing else is named."""
    found = [trial(seed, new=new, slower=SLOW) for seed in range(100)]
    named = [{bad.cell for bad in one.regressions} for one in found]
    assert sum("cpu/process/vllm/trilingual/small/latency.itl" in cells for cells in named) >= 90
    assert sum(any("/small/latency.itl" not in name for name in cells) for cells in named) <= 5


def test_a_rate_that_falls_is_found_and_one_that_rises_is_not() -> None:
    """More tokens a second are better, so the direction is not that of times."""
    check = ("large", "latency.throughput")
    (bad,) = trial(1, slower={check: 1.5}).regressions
    assert bad.sentence.startswith("throughput_min_tok_s is ")
    assert " below all 5 runs " in bad.sentence
    assert trial(1, slower={check: 0.5}).regressions == ()


def test_a_single_run_is_believed_less() -> None:
    """The time of one request, which nobody stated a limit for, needs a second run; a rate that breaks down does not."""
    cold, rate = ("small", "kernels.live"), "decode_tok_s"
    assert [bad.sentence.split()[0] for bad in trial(2, slower={cold: 6.0}).regressions] == [rate]
    assert {bad.sentence.split()[0] for bad in trial(2, new=2, slower={cold: 6.0}).regressions} == {
        rate, "prefix_cold_ttft_ms"}


def test_what_cannot_be_told_is_said() -> None:
    """A figure that varies by a quarter from run to run and looks half worse is no regression, but is named with the change
    that would have shown."""
    found = trial(0, slower={("small", "coexistence.busy"): 1.9})
    assert found.regressions == ()
    (note,) = (note for note in found.notes if note.startswith("not told from noise"))
    assert "small/coexistence.busy ttft_p95_ms by " in note
    assert "would show from " in note
    assert any("with 5 runs before and 1 now" in note for note in found.notes)


def changed(**fields: Any) -> Comparison:
    """A new run in which one cell that passed has these fields."""
    new = run(numpy.random.default_rng(99), "new")
    target = ("small", "latency.itl")
    return regression.compare(held(), held_runs.changed(
        new, lambda one: one.model_copy(update=fields) if (one.model, one.check) == target else one))


@pytest.mark.parametrize("verdict", ["fail", "error", "inconclusive", "unavailable", "waived"])
def test_a_cell_that_passed_and_does_not(verdict: str) -> None:
    """Whatever it is now, a waiver included, is a regression."""
    (bad,) = changed(verdict=verdict, reason="3 of 8", causes=("usage",)).regressions
    assert (bad.what, bad.cell) == ("verdict", "cpu/process/vllm/trilingual/small/latency.itl")
    assert f"passed in all 5 runs of the baseline, is {verdict} now: 3 of 8" in bad.sentence


@pytest.mark.parametrize("fields", [{"check": "latency.it1"}, {"variant": "eager"}, {"model": "smal1"}, {"lineup": "other"}])
def test_a_cell_that_vanished_or_was_renamed(fields: dict[str, str]) -> None:
    """It is missed by its old name."""
    assert [bad.what for bad in changed(**fields).regressions] == ["vanished"]
    assert any("not in the baseline" in note for note in changed(**fields).notes)


FIGURES = [
    (Figure(value=float("nan"), unit="ms", limit=60.0), "has no value now"),
    (Figure(value=None, unit="ms", limit=60.0), "has no value now"),
    (Figure(value="fast", unit="ms", limit=60.0), "has no value now"),
    (Figure(value=True, unit="ms", limit=60.0), "has no value now"),
    (Figure(value=0.011, unit="s", limit=60.0), "was in ms and is in s now"),
]


@pytest.mark.parametrize(("figure", "words"), FIGURES)
def test_a_figure_that_is_none_any_more(figure: Figure, words: str) -> None:
    """A promise that was measured and is NaN, empty, a word or in another unit now is not known to hold."""
    (bad,) = changed(figures={"itl_p95_ms": figure}).regressions
    assert bad.what == "figure-vanished"
    assert words in bad.sentence


def test_a_rate_of_nothing() -> None:
    """0 tokens a second are infinitely worse, which no share can say."""
    new = run(numpy.random.default_rng(99), "new")
    dead = Figure(value=0.0, unit="tok/s")
    found = regression.compare(held(), held_runs.changed(
        new, lambda one: one.model_copy(update={"figures": {**one.figures, "decode_tok_s": dead}})
        if one.check == "kernels.live" else one))
    assert len(found.regressions) == len(MODELS)
    assert all(bad.sentence.startswith("decode_tok_s is 0 now and was ") for bad in found.regressions)


def test_a_limit_that_was_moved_is_said() -> None:
    """A looser promise is no regression of the engine, and nobody can do it unseen."""
    found = changed(figures={"itl_p95_ms": Figure(value=11.0, unit="ms", limit=600.0)})
    assert any("1 limit moved" in note and "from 60 to 600.0" in note for note in found.notes)


def elsewhere(**facts: Any) -> Comparison:
    new = run(numpy.random.default_rng(3), "new", slower={(name, check): 3.0 for name in MODELS for check in (
        "latency.itl", "memory.plan")}, **facts)
    machine = facts.get("machine", "desk")
    return regression.compare(held(), held_runs.changed(new, lambda one: one.model_copy(update={"machine": machine})))


def kinds(found: Comparison) -> set[str]:
    return {bad.cell.rpartition("/")[2] for bad in found.regressions}


def test_another_machine_is_compared_in_what_it_shares() -> None:
    """Times of another machine say nothing, memory of the same type of device does; the same machine with another driver is
    what a gate is for."""
    assert kinds(elsewhere()) == {"latency.itl", "memory.plan"}
    other = elsewhere(machine="rack")
    assert kinds(other) == {"memory.plan"}
    assert any("machine was desk, is rack" in note for note in other.notes)
    assert any("of another machine or device" in note for note in other.notes)
    assert kinds(elsewhere(cpu="another processor, 64 cores")) == {"memory.plan"}
    driver = elsewhere(driver="590.1")
    assert kinds(driver) == {"latency.itl", "memory.plan"}
    assert any("driver was 580.10, is 590.1" in note for note in driver.notes)


def test_another_type_of_device_is_compared_in_verdicts_alone() -> None:
    """Nothing that is measured carries over; a cell that fails does."""
    new = run(numpy.random.default_rng(3), "new", slower={(name, "memory.plan"): 3.0 for name in MODELS})
    other = held_runs.changed(new, lambda one: one.model_copy(update={
        "device": "NVIDIA H200", "verdict": "fail" if one.check == "startup.ready" else "pass"}))
    found = regression.compare(held(), other)
    assert (kinds(found), found.compared) == ({"startup.ready"}, 0)


def test_another_version_of_the_engine_is_the_same_subject() -> None:
    """What a release changes must not hide what it made worse."""
    new = run(numpy.random.default_rng(3), "new", slower={("small", "latency.itl"): 2.0})
    newer = held_runs.changed(new, lambda one: one.model_copy(update={"version": "2.0", "build": "sha256:abc"}))
    found = regression.compare(held(), newer)
    assert kinds(found) == {"latency.itl"}
    assert any("engine vllm was 1.0, is 2.0 (sha256:abc)" in note for note in found.notes)


def test_a_busy_machine_is_not_taken_for_a_slow_engine() -> None:
    """Times that were measured while other work took the processors tell nothing, and that they tell nothing is said."""
    new = run(numpy.random.default_rng(3), "new", slower={("small", "latency.itl"): 3.0, ("small", "memory.plan"): 2.0})
    share = {name: Figure(value=0.25, unit="of processors") for name in ("foreign_share", "steal_share")}
    loaded = held_runs.changed(new, lambda one: one.model_copy(update={"figures": {**one.figures, **share}})
                               if one.check.startswith("latency") else one)
    found = regression.compare(held(), loaded)
    assert kinds(found) == {"memory.plan"}
    assert any("other work took more of the machine" in note for note in found.notes)
    quiet = with_comparison(loaded, found.model_copy(update={"regressions": ()}))
    assert "could not be held against baseline main." in gate.of(quiet).reason
    quiet_run = run(numpy.random.default_rng(4), "newer", slower={("small", "latency.itl"): 3.0},
                    started="2026-11-30T00:00:00+00:00")
    assert kinds(regression.compare(held(), merge([loaded, quiet_run]))) == {"latency.itl"}


def test_a_run_of_the_baseline_proves_nothing() -> None:
    """Held against itself everything is as it was."""
    runs = several(numpy.random.default_rng(0))
    with pytest.raises(BaselineError, match="one of baseline main's own"):
        regression.compare(baseline.make("main", runs), runs["run-2"])


def test_the_share_is_settable() -> None:
    """A slow-down of 20 % is let through where 30 % are allowed, and said nowhere else to be one."""
    random = numpy.random.default_rng(7)
    before, new = baseline.make("main", several(random)), run(random, "new", slower=SLOW)
    assert regression.compare(before, new).regressions
    assert not regression.compare(before, new, policy.STRICT.with_worse_by(0.3)).regressions


def test_the_order_of_cells_and_runs_is_nothing() -> None:
    """The same cells in another order give the same regressions and the same chances."""
    random = numpy.random.default_rng(7)
    before, new = baseline.make("main", several(random)), run(random, "new", slower={("small", "latency.itl"): 1.6})
    turned = new.model_copy(update={"cells": new.cells[::-1]})
    one, other = regression.compare(before, new), regression.compare(before, turned)
    assert set(one.regressions) == set(other.regressions)
    assert one.regressions


def with_comparison(matrix: Matrix, found: Comparison) -> Matrix:
    return matrix.model_copy(update={"run": {**matrix.run, "baseline": found.facts()}})


def test_the_gate_of_a_run_goes_by_what_it_recorded() -> None:
    """An old result is shut for the regression that it found, without the baseline being there, and says how many."""
    random = numpy.random.default_rng(7)
    before, new = baseline.make("main", several(random)), run(random, "new", slower={("small", "latency.itl"): 1.6})
    judged = gate.of(with_comparison(new, regression.compare(before, new)))
    assert not judged.open
    assert "against baseline main: " in judged.reason
    assert "worse by more than tolerance and noise (vllm latency.itl)" in judged.reason
    assert judged.notes[0].startswith("held against baseline main of 5 runs: ")
    assert gate.of(new).open


def test_merging_loses_no_regression() -> None:
    """Merged with others, a run keeps its regressions until a newer one judges those cells again."""
    random = numpy.random.default_rng(7)
    before, new = baseline.make("main", several(random)), run(random, "new", slower={("small", "latency.itl"): 1.6})
    shut = with_comparison(new, regression.compare(before, new))
    other = Matrix(run={**new.run, "id": "other"}, cells=(cell("api.errors"),))
    assert not gate.of(merge([shut, other])).open
    later = run(random, "newer", started="2026-11-30T00:00:00+00:00")
    assert gate.of(merge([shut, with_comparison(later, regression.compare(before, later))])).open


def test_any_worse_cell_keeps_the_regressions() -> None:
    """Making a cell of a run with regressions worse never makes the list shorter by another cell's."""
    random = numpy.random.default_rng(7)
    before, new = baseline.make("main", several(random)), run(random, "new", slower={("small", "latency.itl"): 1.6})
    first = {bad.cell for bad in regression.compare(before, new).regressions}
    for number, one in enumerate(new.cells):
        worse: list[Cell] = [*new.cells]
        worse[number] = one.model_copy(update={"verdict": Verdict.FAIL})
        assert first <= {bad.cell for bad in regression.compare(before, Matrix(run=new.run, cells=tuple(worse))).regressions}
