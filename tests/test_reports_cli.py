"""report, gate and merge work on old results alone and say in words what the user must correct."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from reports import cli, schema
from reports.record import Cell
from reports.store import Run, read
from tests.cells import cell

NOON = "2026-11-21T12:00:00+00:00"


def a_run(results: Path, *cells: Cell, started: str = NOON, end: bool = True, **facts: object) -> Path:
    with Run.start(results, {"started": started, **facts}) as run:
        for one in cells:
            run.add(one)
        if end:
            run.finish()
    return run.folder


def test_gate_is_exit_code_and_last_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 for an open gate, 1 for a shut one, the sentence on the last line and the deciding cells before it."""
    good, bad = a_run(tmp_path, cell()), a_run(tmp_path, cell(verdict="fail", reason="3 tokens of 8"))
    assert cli.main(["gate", str(good)]) == 0
    assert capsys.readouterr().out == "Gate open: 1 of 1 cell passed.\n"
    assert cli.main(["gate", str(bad)]) == 1
    first, last = capsys.readouterr().out.splitlines()
    assert first.endswith("/api.contract: 3 tokens of 8")
    assert last == "Gate shut: 1 cell failed (vllm api.contract)."


def test_gate_of_a_result_alone(tmp_path: Path) -> None:
    """A matrix.json far from its run still knows what it required; `--require` asks for more."""
    cells = cell("startup.ready"), cell("api.contract", "unavailable")
    folder = a_run(tmp_path, *cells, require={"trilingual": ["startup"]})
    alone = tmp_path / "alone.json"
    alone.write_bytes((folder / "matrix.json").read_bytes())
    assert cli.main(["gate", str(alone)]) == 0
    assert cli.main(["gate", str(alone), "--require", "startup,api"]) == 1
    assert cli.main(["gate", str(alone), "--require", "languages"]) == 1


def test_gate_of_a_killed_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was judged before a kill is shown, but no gate opens for a run that did not end."""
    folder = a_run(tmp_path, cell(), end=False)
    assert cli.main(["gate", str(folder)]) == 1
    assert capsys.readouterr().out == "Gate shut: the run did not finish.\n"
    assert cli.main(["report", str(folder)]) == 0
    assert "✓ pass 1/1" in capsys.readouterr().out


def test_report_shows_latest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a name it is the latest run; `show` may be said."""
    a_run(tmp_path / "results", cell())
    monkeypatch.chdir(tmp_path)
    assert cli.main(["report"]) == 0
    shown = capsys.readouterr().out
    assert shown.endswith("\nGate open: 1 of 1 cell passed.\n")
    assert cli.main(["report", "show", "results/latest"]) == 0
    assert capsys.readouterr().out == shown


def test_report_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--json` prints the document that matrix.json holds."""
    folder = a_run(tmp_path, cell(reason="한국어"))
    assert cli.main(["report", "--json", str(folder)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads((folder / "matrix.json").read_bytes())
    schema.validate(document)


def test_merge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of two cells with one key the newer run's stands, in whatever order given; the older is kept beside it."""
    runs = tmp_path / "runs"
    old = a_run(runs, cell(verdict="fail"), cell("api.errors", evidence=("logs/a",)), started="2026-11-20T12:00")
    new = a_run(runs, cell(), cell(engine="sglang"), require={"trilingual": ["api"]})
    merged = tmp_path / "merged"
    assert cli.main(["merge", str(new), str(old), "-o", str(merged)]) == 0
    assert "3 cells of 2 results, 1 superseded" in capsys.readouterr().out
    matrix = read(merged)
    assert {one.name: one.verdict.value for one in matrix.cells} == {
        "cpu/process/vllm/trilingual/small/api.contract": "pass",
        "cpu/process/vllm/trilingual/small/api.errors": "pass",
        "cpu/process/sglang/trilingual/small/api.contract": "pass",
    }
    (superseded,) = matrix.run["superseded"]
    assert (superseded["run"], superseded["cell"]["verdict"]) == (old.name, "fail")
    assert [run["id"] for run in matrix.run["merged"]] == [old.name, new.name]
    assert matrix.run["require"] == {"trilingual": ["api"]}
    (evidence,) = (one.evidence[0] for one in matrix.cells if one.evidence)
    assert os.path.normpath(merged / evidence) == str(old / "logs/a")
    schema.validate(json.loads((merged / "matrix.json").read_bytes()))
    assert cli.main(["gate", str(merged)]) == 0


def test_merge_again(tmp_path: Path) -> None:
    """Merging what was merged loses neither runs nor superseded cells."""
    days = [f"2026-11-1{day}T00:00:00+00:00" for day in range(3)]
    one, two, three = (a_run(tmp_path / "runs", cell(build=day), started=day) for day in days)
    assert cli.main(["merge", str(one), str(two), "-o", str(tmp_path / "first")]) == 0
    assert cli.main(["merge", str(three), str(tmp_path / "first"), "-o", str(tmp_path / "second")]) == 0
    matrix = read(tmp_path / "second")
    assert [run["id"] for run in matrix.run["merged"]] == [one.name, two.name, three.name]
    assert [held["cell"]["build"] for held in matrix.run["superseded"]] == days[:2]
    assert matrix.cells == (cell(build=days[2]),)


def test_merge_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that holds something is not written into."""
    folder = a_run(tmp_path, cell())
    before = (folder / "matrix.json").read_bytes()
    assert cli.main(["merge", str(folder), "-o", str(folder)]) == 4
    assert "not empty" in capsys.readouterr().err
    assert (folder / "matrix.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no command; known: baseline, gate, merge, report"),
        (["repot"], "did you mean 'report'?"),
        (["baseline", "save"], "baseline save: write a NAME and RESULTS"),
        (["report", "compare", "a", "b"], "no results at a"),
        (["report", "html", "x"], "no results at x"),
        (["gate"], "RESULTS"),
        (["gate", "RUN", "--requre", "api"], "did you mean '--require'?"),
        (["gate", "RUN", "--require", "latncy"], "no promise or check 'latncy'; did you mean 'latency'?"),
        (["gate", "RUN", "--require", "startup.redy"], "did you mean 'startup.ready'?"),
        (["gate", "RUN", "--require", ""], "no promise or check ''"),
        (["gate", "RUNx"], "did you mean '"),
        (["gate", "RESULTS"], "no run"),
        (["merge"], "RESULTS"),
    ],
)
def test_usage(arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistake is exit 4 and one sentence with the nearest right word, never a traceback."""
    folder = a_run(tmp_path / "results", cell())
    places = {"RUN": str(folder), "RUNx": f"{folder}x", "RESULTS": str(folder.parent)}
    assert cli.main([places.get(argument, argument) for argument in arguments]) == 4
    said = capsys.readouterr().err
    assert words in said
    assert said.startswith("cotenant")
    assert said.count("\n") == 1
