"""A finished run has every file that is promised, each as its schema says, and loses none for the fault of another."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from reports import artefacts, certificate, cli, gate, junit, metrics, schema
from reports.record import Matrix
from reports.store import DERIVED, Run
from tests.cells import cell
from tests.pages import a_page_run

PROMISED = {"run.json", "cells.jsonl", "matrix.json", "matrix.md", "matrix.html", "junit.xml", "metrics.prom",
            "certificate.md"}


def a_run(results: Path) -> tuple[Path, Matrix]:
    with Run.start(results, {"planned": 2}) as run:
        run.add(cell("api.contract"))
        run.add(cell("api.errors", "fail", reason="3 tokens of 8"))
        matrix = run.finish()
    return run.folder, matrix


def test_all_is_there(tmp_path: Path) -> None:
    """And the certificate, written last, names every other file."""
    folder, matrix = a_run(tmp_path)
    (folder / "logs").mkdir()
    (folder / "logs" / "a.log").write_text("api_key=abcdef1234567890\n")
    assert artefacts.write(folder, matrix, gate.of(matrix)) == []
    assert {path.name for path in folder.iterdir() if path.is_file()} == PROMISED
    found = certificate.verify(folder)
    assert (found.altered, found.added) == ((), ())
    assert "abcdef1234567890" not in (folder / "logs" / "a.log").read_text()


def test_one_that_cannot_be_written_costs_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said in a sentence, an older one of that name does not stay, and the certificate is whole."""
    folder, matrix = a_run(tmp_path)
    (folder / junit.NAME).write_text("of an earlier part")

    def broken(*_: object) -> Path:
        raise RuntimeError("no font")

    monkeypatch.setattr(junit, "write", broken)
    assert artefacts.write(folder, matrix, gate.of(matrix)) == ["junit.xml was not written: RuntimeError: no font"]
    assert not (folder / junit.NAME).exists()
    assert (folder / metrics.NAME).exists()
    assert certificate.verify(folder).altered == ()


def test_what_was_made_of_a_part_goes(tmp_path: Path) -> None:
    """A run that is gone on with has nothing that says how it ended before."""
    folder, matrix = a_run(tmp_path)
    artefacts.write(folder, matrix, gate.of(matrix))
    Run.resume(folder).close()
    assert {path.name for path in folder.iterdir()} == {"run.json", "cells.jsonl"}
    assert set(DERIVED) | {"run.json", "cells.jsonl"} == PROMISED


def test_every_gate_is_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Page, Markdown, JUnit, metrics, certificate and ./cotenant gate say what the run's own gate says."""
    folder, matrix = a_run(tmp_path)
    judged = gate.of(matrix)
    artefacts.write(folder, matrix, judged)
    assert cli.main(["gate", str(folder)]) == judged.exit_code == 1
    assert capsys.readouterr().out.splitlines()[-1] == judged.reason
    for name in ("matrix.html", "matrix.md", "junit.xml", "certificate.md"):
        assert "1 cell failed (vllm api.errors)" in (folder / name).read_text(), name
    assert "\ncotenant_gate_open 0.0\n" in (folder / "metrics.prom").read_text()


@pytest.mark.parametrize("kind", list(schema.KINDS))
def test_schemas_in_step(kind: str) -> None:
    """Each committed schema is the one that the models make; `schema.write()` writes them anew."""
    assert schema.file(kind).read_text(encoding="utf-8") == schema.text(kind)
    jsonschema.Draft202012Validator.check_schema(schema.generate(kind))


def test_files_are_as_their_schemas_say(tmp_path: Path) -> None:
    """A run of every kind of cell, read from the disk."""
    matrix = a_page_run(tmp_path)
    schema.validate(json.loads(matrix.model_dump_json(by_alias=True)))
    for one in matrix.cells:
        schema.validate(json.loads(one.model_dump_json()), "cell")


@pytest.mark.parametrize(("kind", "damage"), [
    ("run", {"planned": "many"}), ("run", {"policy": {"default": {"fail": "never"}}}), ("run", {"id": None}),
    ("run", {"waivers": [{"cells": "x"}]}), ("evidence", {"verdict": "fine"}),
    ("evidence", {"figures": {"x": {"value": []}}}), ("device", {"mib_by_model": {"a": [[1]]}}),
    ("device", {"phases": [["boot", 1]]}),
])
def test_schemas_refuse(kind: str, damage: dict[str, object]) -> None:
    """What a reader could not rely on is refused."""
    sound: dict[str, dict[str, object]] = {
        "run": {"id": "r", "started": "now", "anything": 1},
        "evidence": {"cell": "a", "verdict": "pass", "causes": [], "reason": "", "figures": {}, "samples": {}, "command": [],
                     "how_to_repeat": "", "environment": None},
        "device": {"devices": [], "attribution": "pss", "cost_share_of_a_core": 0.0, "readings": 1,
                   "phases": [[0.5, "boot"]], "peak_mib_by_phase": {}, "mib_by_model": {"a": [[0.5, 12.5]]}}}
    schema.validate(sound[kind], kind)
    with pytest.raises(jsonschema.ValidationError):
        schema.validate({**sound[kind], **damage}, kind)
