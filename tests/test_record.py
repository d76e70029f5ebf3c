"""A run's files hold what was judged, whenever it ends, whatever characters an engine answered with."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from reports import junit, schema
from reports.facts import FactsError
from reports.record import Cell, Figure, Matrix, Verdict, worst
from reports.store import DuplicateCellError, Run, StoreError, new_id, read
from tests.cells import any_cells, cell, runs, steady

# The folder is only a place to write into: what one example leaves there says nothing of the next.
in_one_folder = settings(steady, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_worst_first() -> None:
    """The order of the contract decides which verdict stands for many, and none stands for nothing."""
    words = ["fail", "error", "unexpected-pass", "inconclusive", "unavailable", "waived", "pass"]
    assert sorted(Verdict, key=lambda verdict: verdict.rank) == [Verdict(word) for word in words]
    assert worst([Verdict.PASS, Verdict.WAIVED, Verdict.ERROR]) is Verdict.ERROR
    assert worst([]) is None


def test_name_leaves_out_what_is_absent() -> None:
    """profile/launcher/engine/lineup[/model]/check[/variant]."""
    assert cell("languages.script", variant="ko").name == "cpu/process/vllm/trilingual/small/languages.script/ko"
    assert cell("memory.returned", model=None).name == "cpu/process/vllm/trilingual/memory.returned"


def test_what_json_cannot_hold_is_kept_readable() -> None:
    """Half a surrogate pair becomes its escape and a figure that is no number has no value: no cell is lost to it."""
    odd = cell(reason="said \ud800", figures={"rate": Figure(value=float("nan"), limit=float("inf"))})
    assert odd.reason == "said \\ud800"
    assert odd.figures["rate"] == Figure(value=None)
    assert Cell.model_validate_json(odd.model_dump_json()) == odd


@in_one_folder
@given(runs(any_cells))
def test_round_trip(tmp_path: Path, cells: list[Cell]) -> None:
    """What is read from cells.jsonl, from matrix.json and from the folder is what was added, in that order."""
    with Run.start(tmp_path) as run:
        for one in cells:
            run.add(one)
        assert read(run.folder / "cells.jsonl").cells == tuple(cells)
        assert read(run.folder).cells == tuple(cells)
        assert run.finish() == read(run.folder) == read(run.folder / "matrix.json")
    schema.validate(json.loads((run.folder / "matrix.json").read_bytes()))
    assert read(run.folder).cells == tuple(cells)


@in_one_folder
@given(runs(any_cells, max_size=4), st.data())
def test_torn_at_any_byte(tmp_path: Path, cells: list[Cell], data: st.DataObject) -> None:
    """A file cut at any byte keeps every cell whose line is whole, says that one was torn, and can be gone on with."""
    with Run.start(tmp_path) as run:
        ends = [0]
        for one in cells:
            run.add(one)
            ends.append((run.folder / "cells.jsonl").stat().st_size)
    cut = data.draw(st.integers(0, ends[-1]))
    os.truncate(run.folder / "cells.jsonl", cut)
    whole = sum(cut >= end - 1 for end in ends[1:])  # the line end itself may be missing
    torn = read(run.folder)
    assert torn.cells == tuple(cells[:whole])
    assert any("torn" in note for note in torn.run.get("notes", [])) == (cut not in {*ends, *(end - 1 for end in ends)})
    with Run.resume(run.folder) as again:
        for one in cells[whole:]:
            again.add(one)
        assert again.finish().cells == tuple(cells)
    assert read(run.folder / "cells.jsonl").cells == tuple(cells)


def test_damage_that_no_kill_explains(tmp_path: Path) -> None:
    """A line that is wrong with others after it is refused by number: dropping it might drop a failure."""
    with Run.start(tmp_path) as run:
        run.add(cell())
        run.add(cell(variant="eager"))
    file = run.folder / "cells.jsonl"
    file.write_bytes(file.read_bytes().replace(b'{"machine"', b'{"machime"', 1))
    with pytest.raises(StoreError, match="line 1 is damaged"):
        read(run.folder)


def test_no_key_twice(tmp_path: Path) -> None:
    """A run refuses to judge a key again, and reading refuses a file that has one twice."""
    with Run.start(tmp_path) as run:
        run.add(cell())
        with pytest.raises(DuplicateCellError, match=r"api.contract was judged twice in run .*: pass, then fail"):
            run.add(cell(verdict="fail", build="other"))
        assert read(run.folder).cells == (cell(),)
        file = run.folder / "cells.jsonl"
        file.write_bytes(file.read_bytes() * 2)
        with pytest.raises(DuplicateCellError, match="is there twice"):
            read(run.folder)


def test_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    """When a line cannot be written whole, the file is as it was and the next cell can be added."""
    with Run.start(tmp_path) as run:
        run.add(cell())
        size = (run.folder / "cells.jsonl").stat().st_size
        earlier = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, limits[1]))
        try:
            with pytest.raises(OSError):
                run.add(cell(variant="long"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, earlier)
        run.add(cell(variant="next"))
    assert read(run.folder).cells == (cell(), cell(variant="next"))


def test_killed_process_keeps_its_cells(tmp_path: Path) -> None:
    """After SIGKILL right behind `add`, the cell is there, `latest` is this run and it counts as unfinished."""
    program = (
        "import os, signal; from pathlib import Path; from reports.store import Run; from tests.cells import cell\n"
        f"run = Run.start(Path({str(tmp_path)!r})); run.add(cell()); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", program], timeout=20, cwd=Path(__file__).parent.parent)
    assert killed.returncode == -signal.SIGKILL
    left = read(tmp_path / "latest")
    assert left.cells == (cell(),)
    assert not left.run.get("finished")


def test_facts_arrive_as_they_are_known(tmp_path: Path) -> None:
    """run.json is whole after every fact, the id is the folder's name, and misshapen facts are refused."""
    with Run.start(tmp_path, {"require": {"trilingual": ["startup"]}}) as run:
        run.note_facts(gpu="none", notes=["한국어"])
        known = json.loads((run.folder / "run.json").read_bytes())
        assert known["id"] == run.folder.name
        assert (known["gpu"], known["notes"], known["require"]) == ("none", ["한국어"], {"trilingual": ["startup"]})
        with pytest.raises(FactsError, match=r"run\.require\.trilingual"):
            run.note_facts(require={"trilingual": "startup"})
        assert json.loads((run.folder / "run.json").read_bytes()) == known
        assert run.finish(interrupted=True).run["interrupted"] is True
    assert not [file.name for file in run.folder.iterdir() if file.name.startswith(".")]


def test_latest_is_the_newest_run(tmp_path: Path) -> None:
    """`latest` moves when a run starts, so a killed run never leaves an older one to be judged in its place."""
    with Run.start(tmp_path) as first:
        first.finish()
    with Run.start(tmp_path) as second:
        assert (tmp_path / "latest").resolve() == second.folder.resolve()
    assert str((tmp_path / "latest").readlink()) == second.folder.name


def test_a_folder_named_latest_is_left_alone(tmp_path: Path) -> None:
    """What stands in the way of the link is kept and the run says so."""
    (tmp_path / "latest" / "mine").mkdir(parents=True)
    with Run.start(tmp_path) as run:
        matrix = run.finish(notes=["another"])
    assert (tmp_path / "latest" / "mine").is_dir()
    assert "another" in matrix.run["notes"]
    assert any("latest was not set" in note for note in matrix.run["notes"])


def test_ids_sort_by_time() -> None:
    """A run id begins with the UTC second of its start."""
    early, late = (new_id(datetime(2026, 11, day, 9, 5, 7, tzinfo=UTC)) for day in (9, 21))
    assert early.startswith("20261109T090507Z-")
    assert early < late


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"schema": 2, "run": {}, "cells": []}', '{"run": {"notes": 3}, "cells": []}']
)
def test_unreadable_matrix(tmp_path: Path, content: str) -> None:
    """A matrix.json of another shape or version is refused in a sentence that names the file."""
    (tmp_path / "matrix.json").write_text(content)
    with pytest.raises(StoreError, match=r"matrix\.json: "):
        read(tmp_path)


def test_nothing_to_read(tmp_path: Path) -> None:
    """A folder without a run and a file that is not there are refused."""
    with pytest.raises(StoreError, match="no run"):
        read(tmp_path)
    with pytest.raises(StoreError, match="no such file"):
        read(tmp_path / "matrix.json")


def test_schema_in_step() -> None:
    """The committed schema is the one that the models make; `schema.write()` writes it anew."""
    assert schema.FILE.read_text(encoding="utf-8") == schema.text()
    jsonschema.Draft202012Validator.check_schema(schema.generate())


def _document() -> dict[str, object]:
    whole = Matrix(run={}, cells=(cell(figures={"ttft": Figure(value=1.5, unit="ms", limit=2)}),))
    document: dict[str, object] = json.loads(whole.model_dump_json(by_alias=True))
    return document


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("colour", "red"), ("verdict", "skipped"), ("model", 3), ("reason", None)),
        ("figures", {"x": {"value": 1, "bound": 2}}),
    ],
)
def test_schema_is_strict(field: str, value: object) -> None:
    """An unknown field, verdict or type in a cell is refused by the schema and by the reader alike."""
    document = _document()
    schema.validate(document)
    document["cells"][0][field] = value  # type: ignore[index]
    with pytest.raises(jsonschema.ValidationError):
        schema.validate(document)
    with pytest.raises(ValidationError):
        Matrix.model_validate(document)


def test_schema_wants_every_field() -> None:
    """A cell without one of its fields is no written cell."""
    for name in Cell.model_fields:
        document = _document()
        del document["cells"][0][name]  # type: ignore[index]
        with pytest.raises(jsonschema.ValidationError):
            schema.validate(document)


def test_junit_facts() -> None:
    """A test case carries the key and the evidence; empty fields and control characters stay out."""
    figures = {"ttft_p95": Figure(value=312, unit="ms", limit=150)}
    more: dict[str, Any] = {"causes": ("slow", "noise"), "reason": "a\x1b[0m", "evidence": ("logs/x",)}
    slow = cell("latency.ttft", "fail", figures=figures, **more)
    facts = junit.facts(slow)
    assert [value for name, value in facts if name == "cause"] == ["slow", "noise"]
    assert {("verdict", "fail"), ("figure.ttft_p95", "312 ms (limit 150)"), ("evidence", "logs/x")} <= set(facts)
    assert dict(facts)["reason"] == "a\\x1b[0m"
    assert "variant" not in dict(facts)
