"""A run that was killed, interrupted or out of budget is gone on with: what was judged stands, the rest is judged once."""

from __future__ import annotations

import json
import signal
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fixtures import lineup, resume
from fixtures.configuration import ConfigurationError
from fixtures.engines.registry import engine
from fixtures.gpu import profile
from fixtures.place import Place
from fixtures.setup import Environment
from fixtures.timesheet import Timesheet
from reports import facts, store
from reports.record import Cell, Verdict
from reports.store import BusyError, Run
from reports.timesheet import lines
from tests import runs
from tests.cells import cell
from tests.runs import Running

TRILINGUAL = lineup.load("trilingual")
VLLM = Place(profile.committed()["cpu"], "process", engine("vllm"), "1.0", TRILINGUAL)
SELECTION: dict[str, Any] = {"-m": "cpu", "paths": ["suites"]}
NOW = {"machine": "desk", "python": "3.11.7", "fixtures/ of the checkout": "sha256:aa", "version of vllm": "1.0"}
BUDGET: dict[str, Any] = {"verdict": "unavailable", "causes": ("budget",)}
NOT_SET_UP: dict[str, Any] = {"verdict": "unavailable", "causes": ("not-set-up",)}


def earlier(results: Path, *cells: Cell, finished: bool = False, **known: Any) -> Path:
    """A run of SELECTION under NOW that holds these cells."""
    with Run.start(results, {"selection": SELECTION, "circumstances": NOW, **known}) as run:
        for one in cells:
            run.add(one)
        if finished:
            run.finish()
    return run.folder


def named(cells: Sequence[Cell]) -> list[str]:
    return [one.check for one in cells]


def test_what_stands_and_what_is_judged_again(tmp_path: Path) -> None:
    """Every verdict stands, also that of what could not be set up; what the budget left out does not."""
    verdicts = [verdict for verdict in Verdict if verdict is not Verdict.UNAVAILABLE]
    cells = [cell(f"api.{verdict}", verdict) for verdict in verdicts]
    earlier(tmp_path, *cells, cell("startup.ready", **NOT_SET_UP), cell("faults.kill", **BUDGET), finished=True)
    found = resume.find(tmp_path, SELECTION, NOW)
    assert named(found.kept) == [*(f"api.{verdict}" for verdict in verdicts), "startup.ready"]
    assert named(found.again) == ["faults.kill"]


@pytest.mark.parametrize(("finished", "kept"), [(True, 4), (False, 2)])
def test_errors_that_a_run_broke_off_with(tmp_path: Path, finished: bool, kept: int) -> None:
    """What killed the run may have made its last errors; of a run that came to its end they stand."""
    cells = [cell("api.contract", "error"), cell("api.errors"), cell("api.robust", "error"), cell("faults.kill", "error")]
    earlier(tmp_path, *cells, finished=finished)
    assert named(resume.find(tmp_path, SELECTION, NOW).kept) == named(cells)[:kept]


def test_the_newest_run_of_the_selection(tmp_path: Path) -> None:
    """Not one of another selection, nor one that is damaged; `latest` is no run of its own."""
    (tmp_path / "20990101T000000Z-0000").mkdir()
    (tmp_path / "20990101T000000Z-0000" / "run.json").write_text("{")
    mine = earlier(tmp_path, cell())
    with Run.start(tmp_path, {"selection": {"-m": "rtx5090"}}) as other:
        pass
    assert other.folder != mine
    assert resume.find(tmp_path, SELECTION, NOW).folder == mine


def test_no_such_run(tmp_path: Path) -> None:
    """The sentence names what was asked for and what is there."""
    with pytest.raises(ConfigurationError, match=r"no run in .* this selection \(-m=cpu\); there: none; leave"):
        resume.find(tmp_path, SELECTION, NOW)
    folder = earlier(tmp_path)
    with pytest.raises(ConfigurationError, match=rf"\(-m=cuda -k=x\); there: {folder.name} \(-m=cpu\); leave"):
        resume.find(tmp_path, {"-m": "cuda", "-k": "x"}, NOW)


@pytest.mark.parametrize(("change", "sentence"), [
    ({"machine": "other"}, "machine was desk, is other"),
    ({"version of vllm": "2.0"}, "version of vllm was 1.0, is 2.0"),
    ({"fixtures/ of the checkout": "sha256:bb"}, "fixtures/ of the checkout changed"),
    ({"machine": "other", "python": "3.12.0"}, "machine was desk, is other; python was 3.11.7, is 3.12.0"),
])
def test_what_must_not_change(tmp_path: Path, change: dict[str, str], sentence: str) -> None:
    """Cells of two checkouts, versions or machines are no one run."""
    folder = earlier(tmp_path, cell())
    with pytest.raises(ConfigurationError) as caught:
        resume.find(tmp_path, SELECTION, {**NOW, **change})
    assert str(caught.value) == (f"--continue: run {folder.name} cannot be gone on with: {sentence}; leave --continue out "
                                 "to begin anew")


def test_the_circumstances_follow_the_files(tmp_path: Path) -> None:
    """A limit that is changed in a lineup, or the engine's version, is another circumstance."""
    file = runs.lineup(tmp_path / "x.toml")
    place = replace(VLLM, lineup=lineup.load(str(file)))
    before = resume.circumstances([place])
    assert before == resume.circumstances([place, place.at("api.contract")])
    runs.lineup(file, model="limits = { ready_s = 3 }")
    after = resume.circumstances([replace(place, version="1.1")])
    assert {name for name in before if before[name] != after.get(name)} == {"lineup x", "version of vllm"}
    assert {"machine", "cpu", "suites/ of the checkout", "fixtures/ of the checkout"} <= before.keys()


def test_cells_are_found_by_their_names(tmp_path: Path) -> None:
    """Model, variant and engine tell cells apart, and the version where the run has several of an engine."""
    script = cell("languages.script", model="trilingual-2m", variant="ko", version="1.0+cpu")
    earlier(tmp_path, script)
    found = resume.find(tmp_path, SELECTION, NOW)
    here = VLLM.at("languages.script", TRILINGUAL.models[0], "ko")
    assert found.has(here)
    assert not found.has(VLLM.at("languages.script", TRILINGUAL.models[0], "en"))
    assert not found.has(VLLM.at("languages.script", TRILINGUAL.models[1], "ko"))
    assert found.has(replace(here, several=True))
    assert not found.has(replace(here, several=True, version="2.0"))
    assert found.version(here) == "1.0+cpu"
    assert found.half_judged(here)
    assert not found.half_judged(replace(here, engine=engine("sglang")))


def test_a_static_cell_is_no_half_judged_deployment(tmp_path: Path) -> None:
    """Nor one that could not be run: no server of it did anything yet."""
    earlier(tmp_path, cell("kernels.static", model=None), cell("startup.ready", **NOT_SET_UP))
    assert not resume.find(tmp_path, SELECTION, NOW).half_judged(VLLM)


def test_the_record_of_two_parts(tmp_path: Path) -> None:
    """What is judged again leaves cells.jsonl, and no matrix of the first part is read in the place of the whole."""
    folder = earlier(tmp_path, cell("api.contract"), cell("api.errors", **BUDGET), finished=True)
    found = resume.find(tmp_path, SELECTION, NOW)
    with found.open(continued=[{"kept": 1}]) as run:
        assert not (folder / "matrix.json").exists()
        assert named(store.read(folder).cells) == ["api.contract"]
        assert store.read(folder).run["finished"] is None
        run.add(cell("api.errors", "fail"))
        assert named(store.read(folder).cells) == ["api.contract", "api.errors"]
        run.finish()
    matrix = store.read(folder)
    assert [one.verdict for one in matrix.cells] == ["pass", "fail"]
    assert matrix.run["continued"] == [{"kept": 1}]
    assert matrix.run["circumstances"] == NOW
    assert (tmp_path / "latest").resolve() == folder


def test_a_run_that_is_still_written(tmp_path: Path) -> None:
    """Two processes never write one record; nothing of it is changed by the one that comes second."""
    with Run.start(tmp_path, {"selection": SELECTION, "circumstances": NOW}) as run:
        run.add(cell())
        run.add(cell("api.errors", **BUDGET))
        before = (run.folder / "cells.jsonl").read_bytes()
        with pytest.raises(BusyError):
            Run.resume(run.folder)
        with pytest.raises(ConfigurationError, match="another process is still writing"):
            resume.find(tmp_path, SELECTION, NOW).open()
        assert (run.folder / "cells.jsonl").read_bytes() == before
        run.finish()
    Run.resume(run.folder).close()


def test_logs_are_numbered_on(tmp_path: Path) -> None:
    """After those of the first part, whatever else lies there."""
    folder = earlier(tmp_path, cell())
    assert resume.find(tmp_path, SELECTION, NOW).servers == 0
    (folder / "logs").mkdir()
    for name in ("03-vllm-x-a.log", "12-vllm-x-b.log", "vllm-device.log", "99-notes.txt"):
        (folder / "logs" / name).touch()
    assert resume.find(tmp_path, SELECTION, NOW).servers == 12


def test_timesheets_add_up() -> None:
    """The sum of two parts is a timesheet; a first part that left none, or another version's, changes nothing."""
    sheet = Timesheet()
    sheet.entries += [("boot", "vllm", 3.0), ("wait", "vllm stops", 2.0), ("generation", "vllm", 5.0),
                      ("setup", "vllm", 1.0)]
    one = {**sheet.summary(), "total": 12.0, "own": {"seconds": 1.0, "percent": 8.3}}
    both = resume.added(one, one)
    assert (both["total"], both["setup"], both["generation"]) == (24.0, 2.0, 10.0)
    assert both["boots"] == {"count": 2, "seconds": 6.0, "each": [{"engine": "vllm", "seconds": 3.0}] * 2}
    assert both["waits"] == [{"condition": "vllm stops", "seconds": 4.0}]
    assert both["own"] == {"seconds": 2.0, "percent": 8.3}
    assert resume.added(None, one) == resume.added({}, one) == one
    assert lines(facts.of({"timesheet": both}).timesheet or pytest.fail("no timesheet"))


Go = Callable[..., Running]


@pytest.fixture
def go(tmp_path: Path, llama_environment: Environment) -> Iterator[Go]:
    """Runs a lineup of one small model into one folder of results; none outlives the test."""
    file = runs.lineup(tmp_path / "small.toml", model='languages = ["en"]\nlimits = { memory_gib = 8 }')
    with ExitStack() as stack:

        def begin(*more: str, mark: str = "cpu and (startup or api or memory)") -> Running:
            running = Running(tmp_path, "-m", mark, "-k", "not contract and not robust", f"--lineup={file}", *more)
            stack.callback(running.process.kill)
            return running

        yield begin


def folders(tmp_path: Path) -> list[Path]:
    return sorted(path for path in (tmp_path / "results").iterdir() if not path.is_symlink())


def test_killed_and_gone_on_with(tmp_path: Path, go: Go) -> None:
    """kill -9 in the middle, then --continue: one record, no key twice, judged cells untouched, logs of both parts."""
    first = go()
    first.until_cells(2)
    first.signal(signal.SIGKILL)
    first.process.wait(5)
    judged = first.cells()[:2]
    logs = {log.name: log.read_bytes() for log in first.folder.glob("logs/*.log")}
    second = go("--continue")
    ended = second.end()
    assert ended.code == 0, ended.output
    assert f"run {first.folder.name}: goes on: " in ended.output
    (folder,) = folders(tmp_path)
    matrix = store.read(folder)
    assert second.cells()[:2] == judged
    assert sorted(named(matrix.cells)) == sorted(["startup.ready", "startup.identity", "api.errors", "memory.growth",
                                                  "memory.plan", "memory.ceiling", "memory.returned"])
    assert matrix.run["interrupted"] is False
    assert matrix.run["continued"][0]["left"] == 7 - matrix.run["continued"][0]["kept"]
    assert {log.name: log.read_bytes() for log in folder.glob("logs/*.log") if log.name in logs}.keys() == logs.keys()
    assert len(list(folder.glob("logs/*.log"))) > len(logs)
    assert sum(share.get("cells", 0) for share in matrix.run["spent"]) >= len(judged)


def test_what_judges_everything_before_it_has_something_to_judge(tmp_path: Path, go: Go) -> None:
    """The ceiling of a deployment that is started again for it alone is that of a loaded server, not of an idle one."""
    whole = go()
    whole.end()
    folder = whole.folder
    cells = [json.loads(line) for line in whole.cells()]
    kept = [line for line, one in zip(whole.cells(), cells, strict=True) if one["check"] != "memory.ceiling"]
    (folder / "cells.jsonl").write_text("\n".join(kept) + "\n")
    ended = go("--continue", "-v").end()
    assert ended.code == 0, ended.output
    seconds = {share["check"]: share.get("seconds", 0) for share in store.read(folder).run["spent"]}
    assert seconds["memory.ceiling"] > 0.2, "the stated load of 64 requests was sent again"
    evidence = json.loads(next((folder / "logs" / "cells").glob("*memory.ceiling.json")).read_text())
    assert evidence["verdict"] == "pass"


def test_out_of_budget_and_gone_on_with(tmp_path: Path, go: Go) -> None:
    """The cells that were left out are replaced; with nothing left the matrix and the gate are shown again."""
    spent = go("--gpu-minutes=0.03")
    assert "budget" in spent.end().output
    assert any(one.causes == ("budget",) for one in store.read(spent.folder).cells)
    ended = go("--continue").end()
    assert ended.code == 0, ended.output
    (folder,) = folders(tmp_path)
    assert not any(one.causes == ("budget",) for one in store.read(folder).cells)
    (junit,) = folder.glob("junit*.xml")
    assert len(ElementTree.parse(junit).findall(".//testcase")) == len(store.read(folder).cells) + 1, "and the gate"
    again = go("--continue").end()
    assert (again.code, again.output.strip().splitlines()[-1]) == (0, ended.output.strip().splitlines()[-1])
    assert "7 cells kept, 0 cells of 0 deployments" in again.output
    assert len(folders(tmp_path)) == 1


def test_a_changed_lineup_is_refused(tmp_path: Path, go: Go) -> None:
    """Exit code 4 with what differs; the record of the first part is as it was, and no other is begun."""
    go(mark="cpu and static").end()
    before = {path: path.read_bytes() for path in folders(tmp_path)[0].glob("*.json*")}
    runs.lineup(tmp_path / "small.toml", model='languages = ["ko"]')
    ended = go("--continue", mark="cpu and static").end()
    assert ended.code == 4
    assert "cannot be gone on with: lineup small changed; leave --continue out to begin anew" in ended.output
    other = go("--continue", mark="cpu and startup").end()
    assert other.code == 4
    assert "was made with this selection (-m=cpu and startup" in other.output
    assert {path: path.read_bytes() for path in folders(tmp_path)[0].glob("*.json*")} == before
    assert len(folders(tmp_path)) == 1
