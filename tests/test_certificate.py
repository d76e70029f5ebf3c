"""A certificate names what a release was judged by, and tells every later change of it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reports import certificate, cli, gate
from reports.record import Cell
from reports.store import Run, StoreError
from tests.cells import cell

FACTS: dict[str, Any] = {
    "machine": "desk", "cpu": "a processor, 8 cores", "memory_gib": 31.2, "kernel": "6.1", "python": "3.11.7",
    "driver": "580.10", "cuda": "13.0", "gpus": [{"uuid": "GPU-186b6a6e", "name": "NVIDIA H200"}],
    "arguments": ["-m", "h200", "--engine-env=vllm=/home/ann/venv", "--hf-token", "hf_abcdefghijklmnop"],
    "circumstances": {"lineup trilingual": "sha256:0a39", "machine": "desk"},
    "waivers": [{"cells": "cpu/*/vllm/*/api.errors", "causes": ["usage"], "reason": "known <b>", "owner": "Ann",
                 "link": "https://x", "expires": "2027-03-31", "state": "in force",
                 "waived": ["cpu/process/vllm/trilingual/small/api.errors"]}],
}
CELLS = (cell(build="sha256:feed"), cell("api.errors", "waived", causes=("usage",)),
         cell("api.robust", "unavailable", reason="no time\n# gate open"))


def certified(tmp_path: Path, *cells: Cell, **facts: Any) -> Path:
    """The folder of a finished run with its certificate."""
    with Run.start(tmp_path / "results", {**FACTS, **facts}) as run:
        for one in cells or CELLS:
            run.add(one)
        (run.folder / "logs").mkdir()
        (run.folder / "logs" / "01-vllm.log").write_text("ready\n")
        matrix = run.finish()
    certificate.write(run.folder, matrix, gate.of(matrix))
    return run.folder


def test_what_stands_in_it(tmp_path: Path) -> None:
    """Verdict, versions, digests, driver, GPU, command, waivers with owner and day, and what was not judged."""
    page = (certified(tmp_path) / "certificate.md").read_text()
    plain = page.replace("\\", "")
    told = ("# cotenant: certificate, gate open",
            "**Gate open: 1 of 3 cells passed, 1 waived, 1 unavailable (not required).**",
            "GPU UUIDs: GPU-186b6a6e", "driver: 580.10", "vllm: 1.0; 1.0 (sha256:feed)", "lineup trilingual: sha256:0a39",
            "in force, until 2027-03-31, owner Ann: known &lt;b&gt;",
            "cpu/process/vllm/trilingual/small/api.robust: unavailable, no time", "command: ./cotenant run -m h200")
    for words in told:
        assert words in plain, words
    assert "hf_abcdefghijklmnop" not in page
    assert "/home/ann" not in page
    assert "\n# gate open" not in page


def test_nothing_altered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Verified where it lies or elsewhere as a whole, by its own path or the folder's; sha256sum agrees."""
    folder = certified(tmp_path)
    shutil.copytree(folder, tmp_path / "copy")
    for path in (folder, folder / "certificate.md", tmp_path / "copy"):
        assert cli.main(["gate", "--verify", str(path)]) == 0
        (line,) = capsys.readouterr().out.splitlines()
        assert "files as when it was written. Gate open: 1 of 3 cells passed, 1 waived, 1 unavailable" in line
    page = (folder / "certificate.md").read_text()
    sums = "".join(f"{line}\n" for line in page.splitlines() if re.match(r"[0-9a-f]{64}  ", line))
    done = subprocess.run(["sha256sum", "--check", "--status"], cwd=folder, input=sums.encode(), timeout=20)
    assert done.returncode == 0


def _append(folder: Path) -> None:
    with (folder / "logs" / "01-vllm.log").open("a") as log:
        log.write("more\n")


def _replaced(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return change


ALTERED: list[tuple[Callable[[Path], None], str]] = [
    (_append, "logs/01-vllm.log was altered"),
    (lambda folder: (folder / "logs" / "01-vllm.log").unlink(), "logs/01-vllm.log is gone"),
    (_replaced("matrix.json", '"unavailable"', '"pass"'), "matrix.json was altered"),
    (_replaced("cells.jsonl", '"unavailable"', '"pass"'), "cells.jsonl was altered"),
    (_replaced("run.json", '"desk"', '"rack"'), "run.json was altered"),
    (_replaced("certificate.md", "gate open", "gate 0pen"), "the certificate itself was altered"),
    (_replaced("certificate.md", "Seal: ", "Sea1: "), "the certificate has no seal"),
    (_replaced("matrix.json", '"schema": 1', '"schema": 2'), "matrix.json was altered"),
]


@pytest.mark.parametrize(("change", "words"), ALTERED)
def test_every_change_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Path], None],
                              words: str) -> None:
    """A file that was changed or taken away, the certificate's own words among them, is exit 1 and named."""
    folder = certified(tmp_path)
    change(folder)
    assert cli.main(["gate", "--verify", str(folder)]) == 1
    said = capsys.readouterr().out
    assert words in said
    assert "altered since it was written" in said.splitlines()[-1]


def test_a_file_that_came_later_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """More files alter nothing that was certified, and are not taken for certified."""
    folder = certified(tmp_path)
    (folder / "more.txt").write_text("x")
    assert cli.main(["gate", "--verify", str(folder)]) == 0
    assert "not named by the certificate: more.txt" in capsys.readouterr().out


def test_a_shut_gate_stays_shut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A true certificate of a bad release is exit 1: it says so itself."""
    folder = certified(tmp_path, cell(verdict="fail", reason="3 of 8"))
    assert "gate shut" in (folder / "certificate.md").read_text()
    assert cli.main(["gate", "--verify", str(folder)]) == 1
    assert "as when it was written. Gate shut: 1 cell failed" in capsys.readouterr().out


def test_no_certificate(tmp_path: Path) -> None:
    """Another file is no certificate that nothing contradicts."""
    (tmp_path / "page.md").write_text("# all good\n")
    with pytest.raises(StoreError, match="not a certificate"):
        certificate.verify(tmp_path / "page.md")
    with pytest.raises(StoreError, match="no certificate that can be read"):
        certificate.verify(tmp_path)
