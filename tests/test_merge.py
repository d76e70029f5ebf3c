"""Merging loses nothing: of each cell the newest stands, every older one is kept, and no machine is taken for another."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from reports import gate
from reports.merge import MergeError, merge, relocate
from reports.record import Cell, Matrix
from tests.cells import cell

HERE: dict[str, Any] = {"machine": "desk", "cpu": "a processor", "memory_gib": 31.2}


def a_run(day: int, *cells: Cell, **facts: Any) -> Matrix:
    run = {"id": f"run-{day}", "started": f"2026-11-{day:02d}T00:00:00+00:00", "finished": "then", **HERE, **facts}
    return Matrix(run=run, cells=cells)


def stands(matrix: Matrix) -> dict[str, str]:
    return {one.name: one.verdict.value for one in matrix.cells}


def kept(matrix: Matrix) -> list[tuple[str, str]]:
    return sorted((held["run"], held["cell"]["verdict"]) for held in matrix.run["superseded"])


def test_the_newest_stands_however_they_are_given() -> None:
    """In any order, and by way of any merge between, the result is the same and nothing is there twice."""
    runs = [a_run(1, cell(verdict="fail")), a_run(2, cell(verdict="waived")), a_run(3, cell())]
    for one, two, three in permutations(runs):
        for whole in (merge([one, two, three]), merge([merge([one, two]), three]), merge([one, merge([two, three])]),
                      merge([merge([one, two]), merge([two, three])])):
            assert list(stands(whole).values()) == ["pass"]
            assert kept(whole) == [("run-1", "fail"), ("run-2", "waived")]
            assert [run["id"] for run in whole.run["merged"]] == ["run-1", "run-2", "run-3"]


def test_a_merge_of_old_and_new_is_not_old() -> None:
    """A cell keeps the age of its own run in a merge that began with an older one."""
    first = merge([a_run(1, cell("api.errors")), a_run(9, cell())])
    assert stands(merge([first, a_run(5, cell(verdict="fail"))]))["cpu/process/vllm/trilingual/small/api.contract"] == "pass"


def test_time_zones() -> None:
    """Newer is newer on the clock, not in the alphabet."""
    early = a_run(2, cell(verdict="fail"), started="2026-11-02T01:00:00+09:00")
    late = a_run(3, cell(), started="2026-11-01T20:00:00+00:00")
    assert set(stands(merge([early, late])).values()) == {"pass"}


def test_a_run_twice_counts_once() -> None:
    """The same result given twice supersedes nothing; one that differs under the same id is refused."""
    one = a_run(1, cell())
    assert kept(merge([one, one])) == []
    with pytest.raises(MergeError, match=r"run-1 says two things of .*: pass and fail"):
        merge([one, one.model_copy(update={"cells": (cell(verdict="fail"),)})])
    with pytest.raises(MergeError, match="run-1 is given twice and differs"):
        merge([one, a_run(1, cell(), finished=None)])


def test_two_machines_of_one_name() -> None:
    """A pass on one does not take the place of a failure on another that is called the same; the name says which it is."""
    bad, good = a_run(1, cell(verdict="fail")), a_run(2, cell(), cpu="another processor")
    whole = merge([good, bad])
    assert {(one.machine, one.verdict.value) for one in whole.cells} == {("desk", "fail"), ("desk (2)", "pass")}
    assert not gate.of(whole).open
    assert any("another machine of the same name: it is called desk (2)" in note for note in whole.run["notes"])
    assert {one.machine for one in merge([whole, a_run(3, cell("api.errors"), cpu="another processor")]).cells} == {
        "desk", "desk (2)"}
    cards = [a_run(day, cell(), gpus=[{"uuid": f"GPU-{day}"}]) for day in (1, 2)]
    assert len(merge(cards).cells) == 2


def test_a_failure_that_was_repeated_until_it_passed_is_said() -> None:
    """The newest stands, and that an older one was worse stands beside it."""
    whole = merge([a_run(1, cell(verdict="fail")), a_run(2, cell())])
    assert gate.of(whole).open
    (note,) = whole.run["notes"]
    assert note.startswith("1 older cell worse than the newer one that stands: ")
    assert note.endswith(" was fail")


@pytest.mark.parametrize("facts", [
    {"origins": [7, 0]}, {"origins": [0]}, {"origins": ["x", 0]}, {"superseded": [{"run": "run-1"}]},
    {"superseded": [{"run": "run-1", "cell": {}}]},
])
def test_a_damaged_merge(facts: dict[str, Any]) -> None:
    """A merged result whose own books are wrong is refused in words."""
    whole = merge([a_run(1, cell()), a_run(2, cell("api.errors"))])
    broken = whole.model_copy(update={"run": {**whole.run, "origins": [0, 1], **facts}})
    with pytest.raises(MergeError, match="merge the runs themselves"):
        merge([broken, a_run(3, cell())])


def test_evidence_is_named_from_the_target() -> None:
    """As short as it can be."""
    moved = relocate(a_run(1, cell(evidence=("../logs/a", "b"))), Path("runs/one"), Path("merged"))
    assert moved.cells[0].evidence == ("../runs/logs/a", "../runs/one/b")


def test_runs_without_a_start() -> None:
    """They are the oldest, and that is said."""
    whole = merge([a_run(1, cell()), a_run(2, cell(verdict="fail"), started=None)])
    assert set(stands(whole).values()) == {"pass"}
    assert any("without a start" in note for note in whole.run["notes"])
