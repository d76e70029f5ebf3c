"""Workflow commands show in a pull request what shuts the gate, at the line of the promise, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hypothesis import given

from reports import gate, workflow
from reports.record import Cell, Matrix
from tests.cells import any_cells, cell, runs, steady
from tests.test_matrix import HOSTILE

COMMAND = re.compile(r"::error (?:file=([^,:]+),line=(\d+),)?title=([^,:]*)::(.*)")


def commands(*cells: Cell, workspace: str = "", **run: object) -> list[re.Match[str]]:
    matrix = Matrix(run={"id": "r", "finished": "now", **run}, cells=cells)
    found = [COMMAND.fullmatch(line) for line in workflow.lines(matrix, gate.of(matrix), workspace)]
    assert all(found), "each is one command on one line"
    return [match for match in found if match]


def test_only_in_a_job() -> None:
    """A terminal is not written full of commands."""
    assert workflow.asked({"GITHUB_ACTIONS": "true"})
    assert not workflow.asked({"GITHUB_ACTIONS": "false"})
    assert not workflow.asked({})


def test_an_open_gate_says_nothing() -> None:
    """What is unavailable and not required is no annotation."""
    assert commands(cell(), cell("api.errors", "unavailable")) == []


def test_a_failure_at_its_promise() -> None:
    """Cells that fail for one reason are one annotation; the gate's sentence is the last."""
    why: dict[str, Any] = {"reason": "3 tokens of 8", "causes": ("usage",), "cure": "update"}
    cells = [cell(verdict="fail", model=name, **why) for name in ("a", "b")]
    failed, shut = commands(*cells)
    file, line, title, message = failed.groups()
    assert file == "suites/test_api.py"
    assert '"api.contract"' in (workflow.CHECKOUT / file).read_text().splitlines()[int(line) - 1]
    assert title == "fail%3A vllm 1.0 api.contract"
    assert message == "a, b%0A3 tokens of 8%0Acauses: usage%0Acure: update%0Acpu/process/trilingual"
    assert shut[4] == "Gate shut: 2 cells failed (vllm api.contract)."


def test_files_of_another_workspace_are_not_named(tmp_path: Path) -> None:
    """GitHub would show the annotation at some other file of that name, or nowhere."""
    failed, _ = commands(cell(verdict="fail"), workspace=str(tmp_path))
    assert failed[1] is None
    failed, _ = commands(cell(verdict="fail"), workspace=str(workflow.CHECKOUT.parent))
    assert failed[1] == f"{workflow.CHECKOUT.name}/suites/test_api.py"


def test_no_more_than_is_shown() -> None:
    """GitHub shows ten of a step: the rest are named in one, and the gate's sentence is not lost."""
    found = commands(*(cell(verdict="fail", model=f"m{number}", reason=str(number)) for number in range(40)))
    assert len(found) == workflow.MOST + 1
    assert found[-2][3] == "more that shuts the gate"
    assert found[-1][4].startswith("Gate shut: 40 cells failed")


@steady
@given(runs(any_cells))
def test_words_of_others_are_no_commands(cells: list[Cell]) -> None:
    """Whatever cells say, each line is one whole command."""
    commands(*cells)


def test_hostile_words() -> None:
    """A reason with a command of its own in it stays one message."""
    found = commands(cell(verdict="fail", reason=f"::stop-commands::x\n::set-output name=a::b\r{HOSTILE} %0A::error::"))
    assert len(found) == 2
