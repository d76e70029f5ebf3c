"""Real runs of the suite with a real llama.cpp: their record, and what is left of them however they end."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import pytest

from fixtures.deployment.server import Server
from fixtures.engines.base import Served
from fixtures.engines.registry import engine
from fixtures.launchers import proc, stray
from fixtures.launchers.process import ProcessHandle, launch
from fixtures.lineup import ModelEntry
from fixtures.memory.sampler import Sampler
from fixtures.models.folder import ModelFolder
from fixtures.setup import Environment
from reports import store
from reports.record import Matrix, Verdict
from tests.launching import eventually
from tests.runs import CHECKOUT, SMALLEST, Ended, Running, lineup

SCHEMA = json.loads((CHECKOUT / "reports" / "schema" / "matrix.schema.json").read_text())
Start = Callable[..., Running]


@dataclass(frozen=True)
class Done:
    """A run that has ended."""

    ended: Ended
    folder: Path
    matrix: Matrix

    def verdicts(self, engine: str) -> set[Verdict]:
        return {cell.verdict for cell in self.matrix.cells if cell.engine == engine}


def done(running: Running) -> Done:
    ended = running.end()
    return Done(ended, running.folder, store.read(running.folder))


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts runs; none outlives the tests."""
    with ExitStack() as stack:

        def begin(*arguments: str, **options: dict[str, str]) -> Running:
            running = Running(tmp_path_factory.mktemp("run"), *arguments, **options)
            stack.callback(running.process.kill)
            return running

        yield begin


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, llama_environment: Environment) -> Path:
    """A folder with lineups of one small model; llama.cpp is set up by now."""
    folder = tmp_path_factory.mktemp("lineups")
    lineup(folder / "small.toml", model='languages = ["en"]')
    lineup(folder / "both.toml", engines=["ollama", "llamacpp"], head='require = ["startup", "api"]')
    lineup(folder / "heavy.toml", engines=["llamacpp", "vllm"])
    return folder


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory, llama_environment: Environment) -> dict[str, str]:
    """Variables of a machine on which llama.cpp is set up, and nothing else can be."""
    home, path = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("path")
    (home / "engines").mkdir()
    (home / "engines" / llama_environment.root.name).symlink_to(llama_environment.root)
    return {"COTENANT_HOME": str(home), "PATH": str(path)}


@pytest.fixture(scope="module")
def passed(start: Start, files: Path) -> Done:
    """Start, ask one thing, stop: with the JUnit file beside."""
    return done(start("-m", "cpu and startup", f"--lineup={files}/small.toml", "--engine", "llamacpp",
                      f"--junitxml={files}/junit.xml"))


def test_the_record(passed: Done) -> None:
    """Every cell is a line, in matrix.json as the schema has it, and in matrix.md; `latest` is this run."""
    assert passed.ended.code == 0, passed.ended.output
    lines = [json.loads(line) for line in (passed.folder / "cells.jsonl").read_text().splitlines()]
    document = json.loads((passed.folder / "matrix.json").read_text())
    jsonschema.validate(document, SCHEMA)
    assert lines == document["cells"]
    assert {line["check"]: line["verdict"] for line in lines} == {"startup.ready": "pass", "startup.identity": "pass"}
    assert "llamacpp" in (passed.folder / "matrix.md").read_text()
    assert document["run"]["id"] == passed.folder.name


def test_the_evidence(passed: Done) -> None:
    """Each cell's evidence is there and says how to see it again."""
    for cell in passed.matrix.cells:
        assert cell.evidence
        document = json.loads((passed.folder / cell.evidence[0]).read_text())
        assert document["cell"] == cell.name
        assert "xllamacpp" in cell.build
        assert any("trilingual-2m" in command for command in document["command"])
        assert document["how_to_repeat"].startswith("./cotenant run -m cpu --engine llamacpp")


def test_junit(passed: Done, files: Path) -> None:
    """pytest's own JUnit file carries the cells: ids are their names, properties their facts."""
    cases = ElementTree.parse(files / "junit.xml").findall(".//testcase")
    names = [re.sub(r"^\w+\[(.+)\]$", r"\1", case.attrib["name"]) for case in cases]
    assert names == [cell.name for cell in passed.matrix.cells]
    for case, cell in zip(cases, passed.matrix.cells, strict=True):
        facts = {entry.attrib["name"]: entry.attrib["value"] for entry in case.iter("property")}
        assert (facts["check"], facts["verdict"], facts["version"]) == (cell.check, cell.verdict, cell.version)


def test_the_last_words(passed: Done) -> None:
    """The run ends with where its time went and one sentence on the gate."""
    assert "Where the time went" in passed.ended.output
    assert passed.ended.output.strip().splitlines()[-1] == "Gate open: 2 of 2 cells passed."


def test_static_starts_nothing(start: Start, files: Path) -> None:
    """`-m static` judges files: no server, no log."""
    run = done(start("-m", "static", f"--lineup={files}/small.toml"))
    assert run.ended.code == 0, run.ended.output
    assert [(cell.check, cell.verdict) for cell in run.matrix.cells] == [("kernels.static", Verdict.PASS)]
    assert not list(run.folder.glob("logs/*.log"))


def test_an_engine_that_cannot_be_set_up(start: Start, files: Path, bare: dict[str, str]) -> None:
    """In a run of all engines its row is `unavailable`, with the cure, and the others are judged."""
    run = done(start("-m", "cpu and startup", f"--lineup={files}/both.toml", variables=bare))
    assert run.verdicts("llamacpp") == {Verdict.PASS}
    assert run.verdicts("ollama") == {Verdict.UNAVAILABLE}
    assert run.ended.code == 1, "both are required"
    last = run.ended.output.strip().splitlines()[-1]
    assert "2 required cells are unavailable (ollama startup.ready, ollama startup.identity)" in last
    assert "required api has no cell" in last
    for cell in run.matrix.cells:
        if cell.engine == "ollama":
            assert cell.causes == ("not-set-up",)
            assert "needs gcc" in cell.reason
            assert "apt install build-essential" in cell.cure


def test_an_engine_asked_for_by_name(start: Start, files: Path, bare: dict[str, str]) -> None:
    """By name it is exit code 4 with the cure, and nothing is judged."""
    run = done(start("-m", "cpu and startup", f"--lineup={files}/both.toml", "--engine", "ollama", variables=bare))
    assert run.ended.code == 4
    assert "ollama cannot be set up" in run.ended.output
    assert "apt install build-essential" in run.ended.output
    assert not run.matrix.cells


@pytest.fixture
def theirs(tmp_path: Path, llama_environment: Environment) -> Iterator[ProcessHandle]:
    """A llama.cpp that the run did not start."""
    llama = engine("llamacpp")
    served = Served(ModelEntry(name="small"), ModelFolder(SMALLEST), str(SMALLEST), {})
    command = llama.command(llama_environment, [served], tmp_path)
    with launch(command, name="theirs", log=tmp_path / "log", scratch_root=tmp_path, run_id="theirs") as handle:
        assert Server(llama, [served], handle, Sampler(), time.monotonic()).boot("small", "sequential", 30).ok
        yield handle


def test_somebody_elses_server(start: Start, files: Path, theirs: ProcessHandle) -> None:
    """An endpoint is asked, never stopped; what it cannot prove is not held against it."""
    file = lineup(files / "endpoint.toml", engines=["openai"], source="", model=f'endpoint = "{theirs.url}"')
    run = done(start("-m", "cpu and startup", f"--lineup={file}"))
    assert run.ended.code == 0, run.ended.output
    assert [cell.launcher for cell in run.matrix.cells] == ["endpoint", "endpoint"]
    assert theirs.running()


def of_run(running: Running) -> list[stray.Stray]:
    """Processes that carry this run's mark."""
    return [process for process in stray.launched() if process.run_id == running.folder.name]


@pytest.fixture
def halfway(start: Start, files: Path) -> Running:
    """A run that has judged two cells and goes on."""
    running = start("-m", "cpu", f"--lineup={files}/small.toml")
    running.until_cells(2)
    assert of_run(running), "the server that is to end was not found"
    return running


def test_interrupted(halfway: Running) -> None:
    """Ctrl-C keeps what was judged, prints the matrix, shuts the gate, ends with 2 and leaves no process."""
    before = len(halfway.cells())
    halfway.signal(signal.SIGINT)
    run = done(halfway)
    assert run.ended.code == 2, run.ended.output
    assert len(run.matrix.cells) >= before
    jsonschema.validate(json.loads((run.folder / "matrix.json").read_text()), SCHEMA)
    assert run.matrix.run["interrupted"] is True
    assert run.ended.output.strip().splitlines()[-1].startswith("Gate shut: the run was interrupted")
    assert not of_run(halfway)


def test_interrupted_while_an_engine_is_set_up(start: Start, files: Path, bare: dict[str, str]) -> None:
    """Ctrl-C while the next engine is fetched does not wait for it, and keeps the rows that stand."""
    with socket.create_server(("127.0.0.1", 0)) as silence:
        silence.settimeout(30)
        url = f"http://127.0.0.1:{silence.getsockname()[1]}"
        registry = {"PIP_INDEX_URL": url, "PIP_FIND_LINKS": "", "PIP_NO_INDEX": ""}
        running = start("-m", "cpu and startup", f"--lineup={files}/heavy.toml", variables={**bare, **registry})
        connection, _ = silence.accept()
        running.signal(signal.SIGINT)
        run = done(running)
        connection.close()
    assert run.ended.code == 2, run.ended.output
    assert [(cell.engine, cell.verdict) for cell in run.matrix.cells] == [("llamacpp", Verdict.PASS)] * 2
    assert not [pid for pid in proc.all_pids() if bare["COTENANT_HOME"] in proc.command_line(pid, 10_000)]


def test_killed(halfway: Running) -> None:
    """SIGKILL leaves no process after a few seconds, and a record that can be read and merged."""
    before = len(halfway.cells())
    halfway.signal(signal.SIGKILL)
    assert halfway.process.wait(5) == -signal.SIGKILL
    assert eventually(lambda: not of_run(halfway), within_s=8)
    matrix = store.read(halfway.folder)
    assert len(matrix.cells) >= before
    assert not (halfway.folder / "matrix.json").exists()
