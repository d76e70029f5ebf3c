"""Results that were tampered with, cut short or emptied open no gate."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reports import cli
from reports.store import Run
from tests.cells import cell

Document = dict[str, Any]
CELLS = (cell("startup.ready"), cell("api.contract"), cell("api.errors", "fail", reason="3 of 8", causes=("usage",)))
NOT_READ, SHUT = 4, 1


def result(tmp_path: Path, **facts: Any) -> Path:
    """A finished run with one failure, as the suite writes it."""
    with Run.start(tmp_path, {"require": {"trilingual": ["startup", "api"]}, **facts}) as run:
        for one in CELLS:
            run.add(one)
        run.finish()
    return run.folder


def _verdict(value: Any) -> Callable[[Document], None]:
    return lambda document: document["cells"][2].update(verdict=value)


CHANGES: list[tuple[Callable[[Document], Any], int, str]] = [
    (lambda document: document["cells"].clear(), SHUT, "no cell was judged"),
    (lambda document: document["cells"].pop(), SHUT, "1 cell left out of matrix.json"),
    (_verdict("pass"), SHUT, "1 cell changed in matrix.json"),
    (_verdict("waived"), SHUT, "1 cell changed in matrix.json"),
    (_verdict("passed"), NOT_READ, "verdict"),
    (_verdict("PASS"), NOT_READ, "verdict"),
    (_verdict(None), NOT_READ, "verdict"),
    (lambda document: document["cells"][2].update(check="api.other"), SHUT, "left out of"),
    (lambda document: document["cells"][2].update(lineup="other", verdict="pass"), SHUT, "added to matrix.json"),
    (lambda document: document["cells"].append(document["cells"][0]), NOT_READ, "is there twice"),
    (lambda document: document["cells"].__setitem__(2, document["cells"][1]), NOT_READ, "is there twice"),
    (lambda document: document["cells"][2].update(figures={"x": {"value": float("nan"), "unit": "", "limit": None}}), SHUT,
     "changed in"),
    (lambda document: document["cells"][2].update(extra=1), NOT_READ, "extra"),
    (lambda document: document.update(schema=2), NOT_READ, "schema"),
    (lambda document: document["run"].update(require={}), SHUT, "differ in require"),
    (lambda document: document["run"].update(policy={"default": {"unavailable": "never"}}), SHUT, "differ in policy"),
    (lambda document: document["run"].update(policy={"default": {"fail": "never"}}), NOT_READ, "always shuts the gate"),
    (lambda document: document["run"].pop("finished"), SHUT, "did not finish"),
    (lambda document: document["run"].update(merged=[{"finished": "then"}]), SHUT, "differ in merged"),
]


@pytest.mark.parametrize(("change", "code", "words"), CHANGES)
def test_a_matrix_that_was_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Document], Any],
                                   code: int, words: str) -> None:
    """Whatever is done to matrix.json, the run's own journal beside it gives it away."""
    folder = result(tmp_path)
    document = json.loads((folder / "matrix.json").read_bytes())
    change(document)
    (folder / "matrix.json").write_text(json.dumps(document))
    assert cli.main(["gate", str(folder)]) == code
    said = capsys.readouterr()
    assert words in said.out + said.err


def test_nothing_at_all(tmp_path: Path) -> None:
    """A run in which nothing was judged opens nothing, finished or not, also where a lineup was promised."""
    promised: dict[str, Any] = {"require": {"trilingual": []}}
    for facts in ({}, promised):
        with Run.start(tmp_path, facts) as run:
            run.finish()
        assert cli.main(["gate", str(run.folder)]) == 1


def test_fewer_cells_than_were_planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Cells taken out of journal and matrix alike are missed where the plan stands in the run's facts."""
    folder = result(tmp_path, planned=3)
    lines = (folder / "cells.jsonl").read_text().splitlines()
    (folder / "cells.jsonl").write_text("\n".join(lines[:2]) + "\n")
    document = json.loads((folder / "matrix.json").read_bytes())
    document["cells"].pop()
    (folder / "matrix.json").write_text(json.dumps(document))
    assert cli.main(["gate", str(folder)]) == 1
    assert capsys.readouterr().out == "Gate shut: 1 of 3 planned cells missing.\n"


def test_a_stricter_policy_on_an_old_result(tmp_path: Path) -> None:
    """It can be judged more strictly than it was, never more loosely."""
    with Run.start(tmp_path, {"require": {"trilingual": ["startup"]}}) as run:
        run.add(cell("startup.ready"))
        run.add(cell("api.errors", "unavailable"))
        run.finish()
    strict, loose = tmp_path / "strict.toml", tmp_path / "loose.toml"
    strict.write_text('[default]\nunavailable = "any"\ninconclusive = "any"\n')
    loose.write_text('[default]\nunavailable = "never"\n')
    assert cli.main(["gate", str(run.folder)]) == 0
    assert cli.main(["gate", str(run.folder), "--policy", str(strict)]) == 1
    assert cli.main(["gate", str(run.folder), "--policy", str(loose), "--require", "api"]) == 1
    assert cli.main(["gate", str(run.folder), "--policy", str(tmp_path / "none.toml")]) == 4
