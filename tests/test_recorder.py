"""The recorder: whatever a check does becomes one cell with its evidence."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fixtures import lineup
from fixtures.configuration import ConfigurationError
from fixtures.engines.registry import engine
from fixtures.gpu import profile
from fixtures.launchers.process import LaunchError
from fixtures.place import Place
from fixtures.recorder import Recorder, judged, with_deaths
from fixtures.setup import SetupFailed
from fixtures.verdict import Figure, Judgement, Unavailable, Verdict, error, failed, inconclusive, passed, unavailable
from fixtures.waiver import Waiver
from reports.store import CELLS, DuplicateCellError, Run

TRILINGUAL = lineup.load("trilingual")
PLACE = Place(profile.committed()["cpu"], "process", engine("vllm"), "0.32.0", TRILINGUAL)
HERE = PLACE.at("languages.script", TRILINGUAL.models[0], "ko")
DEATH = [("b", "exit code 3"), ("a", "exit code 9")]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """A run of its own."""
    with Run.start(tmp_path / "results") as started:
        yield started


def raising(fault: BaseException) -> Any:
    """A check that raises."""

    def check() -> None:
        raise fault

    return check


@pytest.mark.parametrize(("fault", "verdict", "cause", "cure"), [
    (Unavailable("no neighbour", "start one", ("no-neighbour",)), Verdict.UNAVAILABLE, "no-neighbour", "start one"),
    (SetupFailed("no compiler", "apt install g++"), Verdict.UNAVAILABLE, "not-set-up", "apt install g++"),
    (LaunchError("no such program", "check the path"), Verdict.ERROR, "launch-failed", "check the path"),
    (ConfigurationError("x.toml: unknown key"), Verdict.ERROR, "configuration", ""),
    (AssertionError("a running tenant has a client"), Verdict.ERROR, "suite-broke", "report"),
    (ZeroDivisionError("division by zero"), Verdict.ERROR, "suite-broke", "report"),
])
def test_a_check_that_raises_is_never_a_pass_and_never_the_engines_fault(
        fault: Exception, verdict: Verdict, cause: str, cure: str) -> None:
    """A refusal is unavailable, all else an error of ours, with its words and a way to go on."""
    judgement = judged(raising(fault))
    assert (judgement.verdict, judgement.causes) == (verdict, (cause,))
    assert str(fault) in judgement.reason
    assert judgement.cure.startswith(cure)


def test_a_check_that_broke_leaves_its_traceback() -> None:
    """In the evidence, not in the reason."""
    judgement = judged(raising(ZeroDivisionError()))
    assert "in check" in judgement.samples["traceback"]
    assert "Traceback" not in judgement.reason


@pytest.mark.parametrize("answer", [None, True, Verdict.PASS, "pass"])
def test_a_check_that_judges_nothing_is_an_error(answer: object) -> None:
    """A test that forgets its return must not pass."""
    assert judged(lambda: answer).causes == ("no-judgement",)


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), SystemExit(2)])
def test_an_interrupt_is_no_verdict(fault: BaseException) -> None:
    """Ctrl-C ends the run; it does not become a cell."""
    with pytest.raises(type(fault)):
        judged(raising(fault))


@pytest.mark.parametrize("judgement", [
    passed(), inconclusive("too-few-samples", "few"), unavailable("no neighbour"), error("suite-broke", "client is closed"),
])
def test_a_death_during_a_check_is_a_fail(judgement: Judgement) -> None:
    """A pass is none, and what broke over the death was not ours."""
    found = with_deaths(judgement.with_figures({"x": Figure(value=1)}, {"y": [1]}), DEATH, "a")
    assert (found.verdict, found.causes) == (Verdict.FAIL, ("server-died",))
    assert "exit code 9" in found.reason
    assert (found.figures, found.samples) == ({"x": Figure(value=1)}, {"y": [1]})


def test_a_fail_keeps_its_own_causes() -> None:
    """A check that says why knows better, and a waiver is for its cause."""
    known = failed("out-of-vocabulary-token", "it died of token 9999")
    assert with_deaths(known, DEATH, "a") is known


@pytest.mark.parametrize(("model", "cause", "words"), [
    ("a", "server-died", "of a died"), ("c", "neighbour-died", "of b died"), (None, "server-died", "of b died"),
])
def test_whose_death_it_was(model: str | None, cause: str, words: str) -> None:
    """The model's own before a neighbour's; any server is the deployment's own."""
    found = with_deaths(passed(), DEATH, model)
    assert found.causes == (cause,)
    assert words in found.reason


def test_without_a_death_nothing_changes() -> None:
    """The usual case."""
    judgement = passed()
    assert with_deaths(judgement, [], "a") is judgement


def test_a_cell_is_written_with_its_evidence(run: Run) -> None:
    """Key from the place, reason on one line, figures and samples in a file that the cell names, logs of this run only."""
    log = run.folder / "logs" / "01-vllm.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("ready")
    judgement = failed("wrong-language", "three\nlines\n of it", "retrain", share=Figure(value=0.2, unit="", limit=0.9))
    cell = Recorder(run, ()).cell(HERE, judgement.with_figures({}, {"answers": ["가을 \ud800", {1, 2}]}), version="0.32.0",
                                  build="cpu", context={"command": ["vllm serve"]}, logs=[log, Path("/etc/hosts")])
    assert cell.name == HERE.name == "cpu/process/vllm/trilingual/trilingual-2m/languages.script/ko"
    assert (cell.reason, cell.cure, cell.build) == ("three lines of it", "retrain", "cpu")
    evidence, *logs = cell.evidence
    document = json.loads((run.folder / evidence).read_text(encoding="utf-8"))
    assert document["cell"] == cell.name
    assert document["figures"]["share"] == {"value": 0.2, "unit": "", "limit": 0.9}
    assert document["samples"]["answers"][0].startswith("가을")
    assert document["command"] == ["vllm serve"]
    assert logs == ["logs/01-vllm.log"]
    written = (run.folder / CELLS).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["verdict"] for line in written] == ["fail"]


def test_each_cell_has_evidence_of_its_own(run: Run) -> None:
    """Models and variants do not overwrite each other's, and no cell is judged twice."""
    recorder = Recorder(run, ())
    places = [PLACE.at("languages.script", model, variant) for model in TRILINGUAL.models for variant in ("en", "ko")]
    places.append(PLACE.at("faults.kill"))
    cells = [recorder.cell(place, passed(), version="1", build="", context={}, logs=()) for place in places]
    assert len({cell.evidence for cell in cells}) == len(places)
    assert cells[-1].model is None
    with pytest.raises(DuplicateCellError):
        recorder.cell(HERE, passed(), version="1", build="", context={}, logs=())


def test_a_long_reason_is_cut(run: Run) -> None:
    """Other people's text has no end; the whole of it is in the evidence."""
    cell = Recorder(run, ()).cell(HERE, failed("echo", "x" * 9000), version="1", build="", context={}, logs=())
    assert len(cell.reason) <= 2000
    assert len(json.loads((run.folder / cell.evidence[0]).read_text())["reason"]) == 9000


def test_waivers_are_applied(run: Run) -> None:
    """A known failure is waived in the record; the evidence keeps what was judged."""
    tomorrow = datetime.date.today() + datetime.timedelta(days=1)
    known = Waiver(cells=HERE.name, causes=("echo",), reason="known", owner="Ann", link="https://example.org/1",
                   expires=tomorrow)
    cell = Recorder(run, (known,)).cell(HERE, failed("echo", "again"), version="1", build="", context={}, logs=())
    assert cell.verdict is Verdict.WAIVED
    assert json.loads((run.folder / cell.evidence[0]).read_text())["verdict"] == "fail"
