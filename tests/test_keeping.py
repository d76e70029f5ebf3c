"""A run that is kept elsewhere: the same record, without the machine's folders and without what tells nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reports import store
from reports.keeping import LINE_CHARACTERS, excerpt, main
from tests.cells import cell

LOG = """\
(EngineCore pid=7) INFO 11-21 19:32:59 Available KV cache memory: 35.7 GiB
Capturing CUDA graphs (FULL):  50%|#####     | 3/6 [00:29<00:23,  7.70s/it]
INFO:     127.0.0.1:47630 - "POST /v1/chat/completions HTTP/1.1" 500 Internal Server Error
INFO:     127.0.0.1:47630 - nothing of note
RuntimeError: The memory capacity is unbalanced.
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of one cell, of a machine with a home of its own."""
    folder = tmp_path / "20261121T000000Z-aaaa"
    (folder / "logs" / "cells").mkdir(parents=True)
    (folder / "logs" / "01-vllm.log").write_text(LOG, encoding="utf-8")
    (folder / "logs" / "02-of-no-cell.log").write_text("nothing\n", encoding="utf-8")
    (folder / "logs" / "x-device.json").write_text('{"models": ["/home/me/a"]}', encoding="utf-8")
    document = {"cell": "c", "samples": {"itl": [1.5] * 50}, "command": ["/home/me/bin/vllm"]}
    (folder / "logs" / "cells" / "c.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    judged = cell(evidence=("logs/cells/c.json", "logs/01-vllm.log"), reason="seen in /home/me/x")
    (folder / store.CELLS).write_text(judged.model_dump_json() + "\n", encoding="utf-8")
    (folder / store.FACTS).write_text(json.dumps({"id": folder.name, "invocation": ["/home/me/bin"]}), encoding="utf-8")
    return folder


def test_the_record_is_the_same_but_for_the_machines_folders(run: Path, tmp_path: Path) -> None:
    """Cells, facts and evidence are read as before; the longest path is shortened first."""
    kept = tmp_path / "kept"
    assert main([str(run), str(kept), "--word", "/home/me=home", "--word", "/home/me/bin=programs"]) == 0
    before, after = store.read(run), store.read(kept)
    assert after.cells == (before.cells[0].model_copy(update={"reason": "seen in home/x"}),)
    assert after.run["invocation"] == ["programs"]
    found = json.loads((kept / "logs" / "cells" / "c.json").read_text(encoding="utf-8"))
    assert found == {"cell": "c", "samples": {"itl": [1.5] * 50}, "command": ["programs/vllm"]}
    assert len((kept / "logs" / "cells" / "c.json").read_text(encoding="utf-8").splitlines()) == len(found) + 2
    assert json.loads((kept / "logs" / "x-device.json").read_text(encoding="utf-8")) == {"models": ["home/a"]}
    assert (kept / "logs" / "02-of-no-cell.log").is_file()
    assert not [file for file in kept.rglob("*") if file.is_file() and "/home/" in file.read_text(encoding="utf-8")]


def test_of_a_log_what_tells_something_is_left() -> None:
    """Memory and failures stay, progress and requests go, long lines are cut, and the count says how much it was."""
    lines = excerpt(LOG + "Error " + "x" * 1000 + "\n").splitlines()
    assert lines[0].startswith("# 3 of 7 lines")
    assert [line[:12] for line in lines[1:]] == ["(EngineCore ", "RuntimeError", "Error xxxxxx"]
    assert len(lines[3]) == LINE_CHARACTERS + 1


def test_evidence_outside_of_the_run_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A record of others names whatever it likes: nothing is read, and nothing is written."""
    (tmp_path / "secret.log").write_text("Error\n")
    judged = cell(evidence=("../secret.log",))
    (run / store.CELLS).write_text(judged.model_dump_json() + "\n", encoding="utf-8")
    assert main([str(run), str(tmp_path / "kept")]) == 1
    assert "secret.log" in capsys.readouterr().err
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize("word", ["foo", "=x", '/home/me="', "/home/me=a b"])
def test_a_word_that_would_break_the_record_is_refused(word: str, run: Path, tmp_path: Path) -> None:
    """Before anything is written."""
    assert main([str(run), str(tmp_path / "kept"), "--word", word]) == 1
    assert not (tmp_path / "kept").exists()


def test_what_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In words, and nothing is made."""
    assert main([str(tmp_path / "nowhere"), str(tmp_path / "kept")]) == 1
    assert "nowhere" in capsys.readouterr().err
    assert not (tmp_path / "kept").exists()
