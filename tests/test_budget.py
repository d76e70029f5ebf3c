"""A budget ends a run in time: what fits is judged, the rest waits for --continue."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from fixtures import lineup
from fixtures.budget import CAUSE, Budget, OutOfTime
from fixtures.check import Check, Step
from fixtures.engines.registry import engine
from fixtures.figures import Figures, Known
from fixtures.gpu import profile
from fixtures.launchers import stray
from fixtures.place import Place
from fixtures.setup import Environment
from fixtures.verdict import Verdict
from reports import store
from reports.record import Cell
from tests import runs
from tests.launching import eventually
from tests.runs import Running, several

TRILINGUAL = lineup.load("trilingual")
DEPLOYMENT = Place(profile.committed()["cpu"], "process", engine("vllm"), "0.32.0", TRILINGUAL)


class Stated(Figures):
    """Ten seconds a start, five a check, two an end."""

    def boot(self, place: Place) -> Known:
        return Known(8, 10, "stated")

    def cell(self, place: Place) -> Known:
        return Known(3, 5, "stated")

    def stop(self, place: Place) -> Known:
        return Known(1, 2, "stated")


class Clock:
    """A clock that tells the time it is set to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def check(step: Step) -> Check:
    return Check("startup.ready", step, True, step is Step.NOTHING, lambda place: ("",), lambda place: True)


def ask(budget: Budget, step: Step, model: int = 0) -> str:
    """The reason of the refusal of one cell, empty where it fits."""
    refusal = budget.refusal(DEPLOYMENT.at("startup.ready", TRILINGUAL.models[model]), check(step))
    assert refusal is None or (refusal.verdict, refusal.causes) == (Verdict.UNAVAILABLE, (CAUSE,))
    return refusal.reason if refusal else ""


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_without_a_budget_everything_fits(tmp_path: Path, clock: Clock) -> None:
    """However long the run takes."""
    budget = Budget(None, Stated(tmp_path), clock)
    clock.now += 1e9
    assert not ask(budget, Step.ROBUST)
    with budget.kept(DEPLOYMENT):
        pass


def test_start_check_and_end_must_fit(tmp_path: Path, clock: Clock) -> None:
    """A first start takes 10 + 5 + 2 s at the longest: of 20 s the seventeenth-last is the last for it to begin."""
    for late, refused in ((2.9, False), (3.1, True)):
        clock.now = 100.0
        budget = Budget(1 / 3, Stated(tmp_path), clock)
        clock.now += late
        assert bool(ask(budget, Step.START)) is refused


def test_a_model_that_runs_needs_no_start(tmp_path: Path, clock: Clock) -> None:
    """The second cell of a model is charged for its check alone, and the end of its server."""
    budget = Budget(1 / 3, Stated(tmp_path), clock)
    assert not ask(budget, Step.START)
    clock.now += 12.9
    assert not ask(budget, Step.START)
    assert ask(budget, Step.START, model=1)


def test_models_that_start_at_once_are_one_start(tmp_path: Path, clock: Clock) -> None:
    """10 s for all three, and three ends: 21 s, not 41."""
    assert not ask(Budget(21.1 / 60, Stated(tmp_path), clock), Step.CONCURRENT)
    assert ask(Budget(20.9 / 60, Stated(tmp_path), clock), Step.CONCURRENT)


def test_the_first_refusal_ends_the_run(tmp_path: Path, clock: Clock) -> None:
    """Cells that might have fitted are refused with the same sentence, which names the figures and the cell."""
    budget = Budget(0.25, Stated(tmp_path), clock)
    reason = ask(budget, Step.START)
    assert budget.spent
    assert reason.startswith("the budget of 0.25 minutes was spent: after 0.0 s startup.ready of vllm, lineup trilingual, "
                             "may have taken 17 s more")
    assert ask(budget, Step.NOTHING) == reason


def test_a_cell_that_outlasts_the_budget_is_broken_off(tmp_path: Path) -> None:
    """In time to end its servers; the timer is gone afterwards."""
    budget = Budget(2.5 / 60, Stated(tmp_path))
    budget._courses.of(DEPLOYMENT).take(Step.START, TRILINGUAL.models[0].name)
    began = time.monotonic()
    with pytest.raises(OutOfTime), budget.kept(DEPLOYMENT):
        time.sleep(10)
    assert 0.4 < time.monotonic() - began < 1.5, "2.5 s less the 2 s of an end"
    judgement = budget.broken_off(DEPLOYMENT.at("startup.ready"))
    assert "was broken off" in judgement.reason
    assert ask(budget, Step.NOTHING) == judgement.reason
    time.sleep(0.2)


@pytest.mark.parametrize(("given", "sentence"), [
    (["--gpu-minutes", "ten"], "--gpu-minutes 'ten': write a number of minutes above 0"),
    (["--gpu-minutes", "0"], "--gpu-minutes '0': write a number"),
    (["--gpu-minutes", "-3"], "--gpu-minutes '-3': write a number"),
    (["--gpu-minutes", "nan"], "--gpu-minutes 'nan': write a number"),
    (["--gpu-minutes", "inf"], "--gpu-minutes 'inf': write a number"),
    (["--device", "0,,1"], "--device '0,,1': write UUID|INDEX"),
    (["--device="], "--device '': write UUID|INDEX"),
    (["--engine-args", "vllm"], "--engine-args 'vllm': write NAME='ARGS'"),
    (["--engine-args", "vllm="], "--engine-args 'vllm=': write NAME='ARGS'"),
    (["--engine-args", "vlm=--x"], "no engine 'vlm'; did you mean 'vllm'?"),
    (["--engine-args", "vllm=--x 'y"], "--engine-args vllm: --x 'y: No closing quotation"),
])
def test_options_that_cannot_be_meant(refused: dict[str, runs.Ended], given: list[str], sentence: str) -> None:
    """Exit code 4 and a sentence that says what to write."""
    ended = refused[" ".join(given)]
    assert ended.code == 4, ended.output
    assert sentence in ended.output
    assert "Traceback" not in ended.output


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, runs.Ended]:
    marks = [mark for mark in test_options_that_cannot_be_meant.pytestmark if mark.name == "parametrize"]  # type: ignore[attr-defined]
    lines: Sequence[list[str]] = [given for given, _ in marks[0].args[1]]
    ended = several([["-m", "cpu", "--co", "-q", *line] for line in lines], tmp_path_factory.mktemp("refused"))
    return {" ".join(line): one for line, one in zip(lines, ended, strict=True)}


@pytest.fixture
def short(tmp_path: Path, llama_environment: Environment) -> Iterator[Callable[[], Running]]:
    """Starts a real run of three seconds, which are enough for the starts and not for the rest."""
    file = runs.lineup(tmp_path / "small.toml", model='languages = ["en", "zh", "ko"]')
    with ExitStack() as stack:

        def begin() -> Running:
            running = Running(tmp_path, "-m", "cpu and (startup or api or languages)", f"--lineup={file}",
                              "--gpu-minutes=0.05", "--thorough")
            stack.callback(running.process.kill)
            return running

        yield begin


def expect_spent(running: Running) -> dict[str, Cell]:
    """The cells by check, of a run that ended in time, said once what was left out, and left nothing behind."""
    began = time.monotonic()
    ended = running.end()
    assert time.monotonic() - began < 3 + 5, "three seconds, and what pytest takes to begin and end"
    assert ended.code == 0, "nothing that was left out is required, and something was judged"
    assert "run the same again with --continue" in ended.output
    assert ended.output.count("- unavailable  cpu") == 1
    matrix = store.read(running.folder)
    assert matrix.run["interrupted"] is False
    assert eventually(lambda: not [one for one in stray.launched() if one.run_id == running.folder.name])
    cells = {cell.check: cell for cell in matrix.cells}
    assert cells["startup.ready"].verdict is Verdict.PASS
    assert cells["api.robust"].causes == (CAUSE,)
    return cells


def test_a_run_that_runs_out(short: Callable[[], Running]) -> None:
    """Checks that were seen to take longer than what is left are not begun."""
    assert "may have taken" in expect_spent(short())["api.contract"].reason


def test_a_run_whose_check_outlasts_its_figure(tmp_path: Path, short: Callable[[], Running]) -> None:
    """An earlier run says that checks take no time: one is begun, and broken off."""
    earlier = tmp_path / "results" / "20200101T000000Z-0000"
    earlier.mkdir(parents=True)
    shares = [{"profile": "cpu", "engine": "llamacpp", "lineup": "small", "check": check, "cells": 1}
              for check in ("startup.ready", "startup.identity", "api.contract", "api.errors", "api.robust",
                            "languages.script", "languages.utf8", "languages.content")]
    (earlier / "run.json").write_text(json.dumps({"spent": shares}))
    cells = expect_spent(short())
    reasons = {cell.reason for cell in cells.values() if cell.causes == (CAUSE,)}
    assert len(reasons) == 1
    assert "was broken off: it took longer than was foreseen" in reasons.pop()
