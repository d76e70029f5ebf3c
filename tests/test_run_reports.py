"""Real runs write what reports promise: valid files that agree on the gate, a baseline held, and no secret anywhere."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import xmlschema

from fixtures.setup import Environment
from reports import artefacts, baseline, certificate, cli, comparison, gate, html, schema, store
from reports.baseline import Baseline
from reports.record import Cell, Matrix
from tests.cells import cell
from tests.runs import Running, lineup

JUNIT = xmlschema.XMLSchema(Path(__file__).parent / "schemas" / "junit-10.xsd")
KEY, TOKEN = "sk-cotenant-planted-0123456789", "hf_plantedPlantedPlanted42"
Start = Callable[..., Running]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, llama_environment: Environment) -> Iterator[Start]:
    """Starts runs of one small model's startup; none outlives the tests."""
    one = lineup(tmp_path_factory.mktemp("lineups") / "small.toml")
    with ExitStack() as stack:

        def begin(*arguments: str, variables: dict[str, str] | None = None) -> Running:
            running = Running(tmp_path_factory.mktemp("run"), "-m", "cpu and startup", f"--lineup={one}", *arguments,
                              variables=variables)
            stack.callback(running.process.kill)
            return running

        yield begin


@pytest.fixture(scope="module")
def whole(start: Start) -> Path:
    """The folder of a run that came to its end."""
    running = start()
    ended = running.end()
    assert ended.code == 0, ended.output
    assert f"To look at: {running.folder}/matrix.html" in ended.output
    return running.folder


def test_every_file_is_valid(whole: Path) -> None:
    """Each as its schema says, JUnit for Jenkins; and the certificate holds."""
    schema.validate(json.loads((whole / "run.json").read_bytes()), "run")
    document = json.loads((whole / "matrix.json").read_bytes())
    schema.validate(document)
    schema.validate(document["run"], "run")
    for line in (whole / "cells.jsonl").read_text().splitlines():
        schema.validate(json.loads(line), "cell")
    evidence = list((whole / "logs" / "cells").glob("*.json"))
    assert len(evidence) == 2
    for file in evidence:
        schema.validate(json.loads(file.read_bytes()), "evidence")
    for file in (whole / "logs").glob("*-device.json"):
        schema.validate(json.loads(file.read_bytes()), "device")
    JUNIT.validate(str(whole / "junit.xml"))
    assert certificate.verify(whole).exit_code == 0


def test_the_facts_that_a_gate_goes_by(whole: Path) -> None:
    """How many cells were planned, by which policy they are judged, what became of waivers, and what each cell took."""
    run = store.read(whole).run
    assert run["planned"] == 2
    assert run["policy"]["default"]["inconclusive"] == "required"
    assert run["waivers"] == []
    assert {name.partition("@")[0] for name in run["seconds"]} == {cell.name for cell in store.read(whole).cells}
    cases = ElementTree.parse(whole / "junit.xml").iter("testcase")
    times = [float(case.attrib["time"]) for case in cases if "time" in case.attrib]
    assert len(times) == 2
    assert max(times) > 0.05, "a start takes time"


def test_a_cell_taken_out_is_missed(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The gate of a record that lost a cell is shut, although all that is left passes."""
    document = json.loads((whole / "matrix.json").read_bytes())
    del document["cells"][0]
    (tmp_path / "matrix.json").write_text(json.dumps(document))
    assert cli.main(["gate", str(tmp_path)]) == 1
    assert "1 of 2 planned cells missing" in capsys.readouterr().out


def slow(one: Cell, seconds: float) -> Cell:
    """The cell with another time for its start, if it has one."""
    ready = one.figures.get("ready_s")
    slower = {"ready_s": ready.model_copy(update={"value": seconds})} if ready else {}
    return one.model_copy(update={"figures": {**one.figures, **slower}})


def saved(whole: Path, folder: Path, *more: Cell) -> Path:
    """A baseline of runs like this one, with more cells."""
    known = store.read(whole)
    cells = (*known.cells, *more)
    matrices = {f"run-{number}": Matrix(run={**known.run, "id": f"run-{number}", "planned": len(cells)},
                                        cells=tuple(slow(one, 50 + number) for one in cells)) for number in range(5)}
    made: Baseline = baseline.make("own", matrices)
    return baseline.save(made, folder)


def test_held_against_a_baseline(start: Start, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is better than it was opens the gate and is said; the exit code of the run is that of ./cotenant gate later."""
    running = start(f"--baseline={saved(whole, tmp_path)}")
    ended = running.end()
    assert ended.code == 0, ended.output
    assert "held against baseline own of 5 runs" in " ".join(ended.output.split())
    assert comparison.recorded(store.read(running.folder).run)[0].compared > 0
    assert cli.main(["gate", str(running.folder)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == ended.output.splitlines()[-1]


def test_a_cell_that_vanished(start: Start, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All that is there passes, one that the baseline has is not there: shut, and every report says so."""
    gone = cell("api.contract", engine="llamacpp", lineup="small", machine=store.read(whole).cells[0].machine)
    running = start(f"--baseline={saved(whole, tmp_path, gone)}", variables={"GITHUB_ACTIONS": "true"})
    ended = running.end()
    last = ended.output.splitlines()[-1]
    assert ended.code == 1, ended.output
    assert last == "Gate shut: 1 regression against baseline own: 1 vanished (llamacpp api.contract)."
    assert f"::error title=cotenant::{last}" in ended.output
    assert cli.main(["gate", str(running.folder)]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == last
    for name in ("matrix.html", "matrix.md", "junit.xml", "certificate.md"):
        assert "1 regression against baseline own" in (running.folder / name).read_text(), name
    assert "\ncotenant_regressions 1.0\n" in (running.folder / "metrics.prom").read_text()


def test_a_baseline_that_is_not_there(start: Start) -> None:
    """Exit 4 before anything starts, with the cure."""
    running = start("--baseline=nowhere")
    ended = running.end()
    assert ended.code == 4
    assert "./cotenant baseline save nowhere RESULTS" in ended.output
    assert not running.results.exists()


def test_no_secret_is_in_any_file(start: Start) -> None:
    """A key on the engine's command line, which it refuses and prints; a token in the environment; both in a reason."""
    running = start(f"--engine-args=llamacpp=--api-key {KEY} --hub {TOKEN}", variables={"HF_TOKEN": TOKEN})
    ended = running.end()
    assert ended.code == 1
    log = "".join(path.read_text() for path in (running.folder / "logs").glob("*.log"))
    assert "unrecognized arguments" in log
    files = [path for path in running.folder.rglob("*") if path.is_file()]
    assert len(files) > 10
    secrets = [secret.encode() for secret in (KEY, TOKEN, str(Path.home()))]
    leaks = [path.name for path in files for secret in secrets if secret in path.read_bytes()]
    assert leaks == []
    assert KEY not in ended.output


def test_a_page_that_cannot_be_made_costs_no_run(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is said, and all else is there and certified."""
    monkeypatch.setattr(html, "write", lambda *_: 1 / 0)
    folder = shutil.copytree(whole, tmp_path / "run")
    matrix = store.read(folder)
    (said,) = artefacts.write(folder, matrix, gate.of(matrix))
    assert said == "matrix.html was not written: ZeroDivisionError: division by zero"
    assert certificate.verify(folder).exit_code == 0
