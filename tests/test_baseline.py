"""A baseline is five different runs of one place that passed, in a file that can be read, compared and committed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy
import pytest

from reports import baseline, cli, samples
from reports.baseline import BaselineError
from reports.record import Figure, Matrix, Verdict
from reports.store import write_matrix
from tests import held_runs
from tests.cells import cell
from tests.held_runs import run, several


def runs(number: int = 5, **how: Any) -> dict[str, Matrix]:
    return several(numpy.random.default_rng(0), number, **how)


def folders(tmp_path: Path, found: dict[str, Matrix]) -> list[str]:
    for name, matrix in found.items():
        (tmp_path / name).mkdir()
        write_matrix(tmp_path / name, matrix)
    return [str(tmp_path / name) for name in found]


def test_round_trip(tmp_path: Path) -> None:
    """What is read is what was saved, to the byte."""
    made = baseline.make("main", runs())
    file = baseline.save(made, tmp_path)
    assert baseline.load("main", tmp_path) == made
    assert baseline.load(str(file)) == made
    assert file.read_text() == baseline.text(made)
    assert json.loads(file.read_bytes())["place"]["machines"] == ["desk"]


def test_it_can_be_diffed(tmp_path: Path) -> None:
    """A line for each run and each figure, in an order that does not depend on the results' own."""
    found = runs()
    turned = {name: matrix.model_copy(update={"cells": matrix.cells[::-1]}) for name, matrix in found.items()}
    one, other = (baseline.text(baseline.make("main", held)) for held in (found, turned))
    assert [line for line in one.splitlines() if "sha256" not in line and "saved" not in line] == [
        line for line in other.splitlines() if "sha256" not in line and "saved" not in line]
    lines = [line for line in one.splitlines() if '"itl_p95_ms"' in line]
    assert len(lines) == len(held_runs.MODELS)
    assert all('"values": [' in line and '"limit": 60.0' in line for line in lines)


def test_what_is_kept() -> None:
    """The better way is known by unit and limit; errors come from the interval beside a figure; what is unknown is named."""
    figures = {"ttft_p95_ms": Figure(value=60.0, unit="ms", limit=500.0), "ttft_p95_low_ms": Figure(value=56.0, unit="ms"),
               "ttft_p95_high_ms": Figure(value=63.84, unit="ms"), "wake_p99_ms": Figure(value=0.2, unit="ms"),
               "requests": Figure(value=64, unit="answers"), "held_mib": Figure(value=900.0, unit="MiB", limit=700.0),
               "leak": Figure(value=0.0, unit="KiB a request", limit=48.0), "tail_share": Figure(value=0.2, limit=0.6),
               "size_vram_mib": Figure(value=900.0, unit="MiB")}

    def with_figures(number: int, matrix: Matrix) -> Matrix:
        own = {**figures, "ttft_p95_ms": Figure(value=60.0 + number, unit="ms", limit=500.0)}
        return matrix.model_copy(update={"cells": (cell("latency.ttft", figures=own),)})

    made = baseline.make("main", {name: with_figures(number, one) for number, (name, one) in enumerate(runs().items())})
    (held,) = made.cells
    better = {name: figure.lower_is_better for name, figure in held.figures.items()}
    assert better == {"tail_share": True, "ttft_p95_ms": True}
    assert held.figures["ttft_p95_ms"].values == (60.0, 61.0, 62.0, 63.0, 64.0)
    assert held.figures["ttft_p95_ms"].errors == (2.0,) * 5
    assert set(made.not_compared) == {"wake_p99_ms", "requests", "held_mib", "leak", "size_vram_mib"}
    assert "was 0 in the baseline" in made.not_compared["leak"]


def test_no_folders_and_no_secrets(tmp_path: Path) -> None:
    """Builds name their last part, credentials are gone, and neither evidence nor commands are kept."""
    build = "given: /home/ann/venvs/vllm-main from https://ann:s3cr3tvalue@host/wheels"
    found = {name: held_runs.changed(matrix, lambda one: one.model_copy(update={
        "build": build, "evidence": ("/home/ann/logs/a",), "reason": ""})) for name, matrix in runs(
            arguments=["--engine-env=vllm=/home/ann/venvs/vllm-main"]).items()}
    text = baseline.save(baseline.make("main", found), tmp_path).read_text()
    assert "vllm-main" in text
    assert "ann" not in text
    assert "s3cr3t" not in text


def test_too_few(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fewer than five runs are refused with the reason and how many are missing, and nothing is written."""
    given = folders(tmp_path, runs(3))
    assert cli.main(["baseline", "save", "main", *given]) == 4
    said = capsys.readouterr().err
    assert "takes 5 runs or more, 3 given, 2 missing" in said
    assert cli.main(["baseline", "save", "main"]) == 4


def refused(words: str, found: dict[str, Matrix]) -> None:
    with pytest.raises(BaselineError) as fault:
        baseline.make("main", found)
    assert words in str(fault.value)


def test_bad_runs_are_refused() -> None:
    """A baseline that would let everything through, or nothing, is not made."""
    good = runs()
    first, last = good["run-0"], good["run-4"]

    def with_last(last: Matrix) -> dict[str, Matrix]:
        return {**good, "run-4": last}

    refused("are the same run", with_last(first))
    refused("are the same run", with_last(first.model_copy(update={"run": {**first.run, "id": "renamed"}})))
    refused("its own gate is shut", with_last(last.model_copy(update={"cells": (
        last.cells[0].model_copy(update={"verdict": Verdict.FAIL}), *last.cells[1:])})))
    refused("the run did not finish", with_last(last.model_copy(update={"run": {**last.run, "finished": None}})))
    refused("is a merge of runs", with_last(last.model_copy(update={"run": {**last.run, "merged": [first.run, last.run]}})))
    refused("run-4 lacks 1 cell that run-0 has", with_last(last.model_copy(update={"cells": last.cells[1:]})))
    refused("driver was 580.10, is 590.1", with_last(last.model_copy(update={"run": {**last.run, "driver": "590.1"}})))
    refused("machine was desk, is rack", with_last(held_runs.changed(last, lambda one: one.model_copy(
        update={"machine": "rack"}))))
    refused("engine vllm was 1.0, is 2.0", with_last(held_runs.changed(last, lambda one: one.model_copy(
        update={"version": "2.0"}))))
    refused("of several versions or devices", with_last(last.model_copy(update={"cells": (
        *last.cells, last.cells[0].model_copy(update={"version": "2.0"}))})))


def test_a_cell_that_does_not_always_pass_is_not_held() -> None:
    """An open question in one run (here: of a check that nobody requires) leaves the cell out, and that is visible."""
    found = runs()
    last = found["run-4"]
    unsure = last.cells[0].model_copy(update={"verdict": Verdict.INCONCLUSIVE})
    made = baseline.make("main", {**found, "run-4": last.model_copy(update={"cells": (unsure, *last.cells[1:])})})
    assert [held.subject.name for held in made.cells if not held.passed] == [unsure.name]
    assert [len(held.figures) for held in made.cells if not held.passed] == [0]


@pytest.mark.parametrize("name", ["", "../main", "a b", ".hidden", "x" * 81])
def test_names(name: str) -> None:
    """A name is a file's name and cannot lead anywhere else."""
    with pytest.raises(BaselineError, match="write a name of letters"):
        baseline.make(name, runs())


@pytest.mark.parametrize(("change", "words"), [
    (lambda held: held["cells"][0]["verdicts"].pop(), "cells.0.verdicts"),
    (lambda held: held["cells"][0]["verdicts"].append("pass"), "of different numbers of runs"),
    (lambda held: held["runs"].pop(), "runs"),
    (lambda held: held.update(schema=2), "schema"),
    (lambda held: held["cells"].clear(), "cells"),
    (lambda held: held["cells"].append(held["cells"][0]), "a cell is there twice"),
    (lambda held: next(iter(held["cells"][0]["figures"].values()))["values"].__setitem__(0, -1.0), "not a number above 0"),
    (lambda held: next(iter(held["cells"][0]["figures"].values()))["values"].__setitem__(0, float("nan")), "above 0"),
    (lambda held: held.update(cell=[]), "cell"),
])
def test_a_file_that_was_edited(tmp_path: Path, change: Any, words: str) -> None:
    """A damaged file is refused by name and never compared with in part."""
    file = baseline.save(baseline.make("main", runs()), tmp_path)
    document = json.loads(file.read_bytes())
    change(document)
    file.write_text(json.dumps(document))
    with pytest.raises(BaselineError) as fault:
        baseline.load("main", tmp_path)
    assert words in str(fault.value)


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """save, show and gate --baseline, end to end: the exit code, the sentence last, and nothing overwritten unasked."""
    monkeypatch.setattr(baseline, "BASELINES", tmp_path / "baselines")
    given = folders(tmp_path, runs())
    assert cli.main(["baseline", "save", "main", *given]) == 0
    assert "of 5 runs; commit it" in capsys.readouterr().out
    assert cli.main(["baseline", "save", "main", *given]) == 4
    assert "--replace" in capsys.readouterr().err
    assert cli.main(["baseline", "save", "main", *given, "--replace"]) == 0
    assert cli.main(["baseline", "show", "main"]) == 0
    assert "small/latency.itl itl_p95_ms: 1" in capsys.readouterr().out
    assert cli.main(["baseline", "show"]) == 0
    assert "1 baseline in" in capsys.readouterr().out
    random = numpy.random.default_rng(5)
    new = folders(tmp_path, {"good": run(random, "good"), "bad": run(random, "bad", slower={
        ("small", "latency.itl"): 1.5})})
    assert cli.main(["gate", new[0], "--baseline", "main"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("Gate open: ")
    assert cli.main(["gate", new[1], "--baseline", "main"]) == 1
    *_, last = capsys.readouterr().out.splitlines()
    assert last.startswith("Gate shut: ")
    assert "against baseline main" in last
    assert cli.main(["gate", new[1], "--baseline", "main", "--worse-by", "0.5"]) in (0, 1)
    assert cli.main(["gate", new[1], "--baseline", "main", "--worse-by", "9"]) == 4
    assert "lets everything through" in capsys.readouterr().err
    assert cli.main(["gate", new[0], "--baseline", "mian"]) == 4
    assert "no baseline at" in capsys.readouterr().err


def test_medians_come_from_the_evidence(tmp_path: Path) -> None:
    """Samples beside the record give a median with its interval; what lies outside the folder or is no number gives none."""
    (tmp_path / "logs").mkdir()
    values = [float(number) for number in range(1, 102)]
    series = {"ttft": values, "arrivals": "closed", "e2e": [1, "x"]}
    (tmp_path / "logs" / "a.json").write_text(json.dumps({"samples": series}))
    outside = tmp_path.parent / "outside.json"
    outside.write_text(json.dumps({"samples": {"ttft": values}}))
    cells = (cell(evidence=("logs/a.json",)), cell("api.errors", evidence=("../outside.json",)),
             cell("api.robust", evidence=("logs/none.json",)))
    one, other, third = samples.with_medians(Matrix(run={}, cells=cells), tmp_path).cells
    assert {name: figure.value for name, figure in one.figures.items()} == {
        "ttft_p50_ms": 51.0, "ttft_p50_low_ms": 41.0, "ttft_p50_high_ms": 62.0}
    assert (other.figures, third.figures) == ({}, {})
