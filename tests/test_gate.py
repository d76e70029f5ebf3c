"""The gate opens only for what was judged and held: no order, no worse cell and no absence opens it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import gate
from reports.gate import Gate
from reports.merge import merge
from reports.record import Cell, Matrix, Verdict
from tests.cells import cell, plain_cells, runs, steady

NAMES = st.sampled_from(["startup", "api", "api.errors", "languages.script", "gateway"])
REQUIRE = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.lists(NAMES, max_size=2, unique=True), max_size=2)

# verdicts of startup.ready, api.contract; what is required; open?; words of the sentence
SITUATIONS: list[tuple[list[str], list[str], bool, str]] = [
    (["pass", "pass"], [], True, "Gate open: 2 of 2 cells passed."),
    (["pass", "waived"], [], True, "Gate open: 1 of 2 cells passed, 1 waived."),
    (["waived", "waived"], [], True, "Gate open: 0 of 2 cells passed, 2 waived."),
    (["pass", "fail"], [], False, "Gate shut: 1 cell failed (vllm api.contract)."),
    (["fail", "fail"], [], False, "2 cells failed (vllm startup.ready, vllm api.contract)"),
    (["pass", "error"], [], False, "1 cell is an error of the suite or the machine (vllm api.contract)"),
    (["pass", "unexpected-pass"], [], False, "1 waived cell passed (vllm api.contract)"),
    (["fail", "error"], [], False, "1 cell failed (vllm startup.ready); 1 cell is an error"),
    (["pass", "inconclusive"], [], True, "1 of 2 cells passed, 1 inconclusive (not required)."),
    (["pass", "unavailable"], [], True, "1 of 2 cells passed, 1 unavailable (not required)."),
    (["pass", "inconclusive"], ["startup"], True, "Gate open"),
    (["pass", "inconclusive"], ["api"], False, "1 required cell is inconclusive (vllm api.contract)"),
    (["pass", "inconclusive"], ["api.contract"], False, "1 required cell is inconclusive"),
    (["pass", "unavailable"], ["api"], False, "1 required cell is unavailable (vllm api.contract)"),
    (["pass", "waived"], ["api"], True, "Gate open"),
    (["unavailable", "unavailable"], [], False, "no cell was judged (2 unavailable)"),
    (["inconclusive", "unavailable"], [], False, "no cell was judged (1 unavailable, 1 inconclusive)"),
    (["error", "error"], [], False, "no cell was judged (2 error); 2 cells are errors"),
    (["pass", "pass"], ["languages"], False, "required languages has no cell for cpu/process/vllm 1.0/trilingual"),
    (["pass", "pass"], ["api.errors"], False, "required api.errors has no cell"),
    ([], [], False, "Gate shut: no cell was judged: there is none."),
]


@pytest.mark.parametrize(("verdicts", "require", "opens", "words"), SITUATIONS)
def test_situations(verdicts: list[str], require: list[str], opens: bool, words: str) -> None:
    """Each situation has the outcome, the sentence and the exit code that stand in the table above."""
    checks = ["startup.ready", "api.contract"]
    cells = [cell(check, verdict) for check, verdict in zip(checks, verdicts, strict=False)]
    judged = gate.judge(cells, require)
    assert judged.open is opens
    assert words in judged.reason
    assert judged.exit_code == (0 if opens else 1)


def test_require_is_by_lineup() -> None:
    """What one lineup requires binds no other, and a lineup that was to be judged and has no cell shuts the gate."""
    cells = [cell("api.contract", "unavailable", lineup="a"), cell("api.contract", lineup="b")]
    assert gate.judge(cells, {"b": ["api"]}).open
    assert not gate.judge(cells, {"a": ["api"]}).open
    lacking = gate.judge(cells, {"c": ["api"]})
    assert (lacking.open, lacking.reason) == (False, "Gate shut: lineup c has no cell.")


def test_require_is_of_each_deployment() -> None:
    """A required promise that one engine has and another lacks is missing for the other."""
    cells = [cell("api.contract"), cell("startup.ready", engine="sglang")]
    assert gate.judge(cells, ["api"]).missing == ("required api has no cell for cpu/process/sglang 1.0/trilingual",)


def test_recorded_run_is_judged_by_its_own_facts() -> None:
    """An old result needs nothing but itself: what it required is in it, more can be asked, and it must have ended."""
    cells = (cell("api.contract", "unavailable"), cell("startup.ready"))

    def judged(*more: str, **facts: object) -> Gate:
        return gate.of(Matrix(run={"finished": "2026-11-21T02:00:00+00:00", **facts}, cells=cells), more)

    assert judged().open
    assert judged(require={"trilingual": ["startup"]}).open
    assert not judged(require={"trilingual": ["api"]}).open
    assert not judged("api", require={"trilingual": ["startup"]}).open
    assert judged(finished=None).reason == "Gate shut: the run did not finish."
    assert judged(interrupted=True).reason == "Gate shut: the run was interrupted."


def test_merged_runs_must_all_have_finished() -> None:
    """One killed run among those merged shuts the gate; what any of them required stays required."""
    facts = {"started": "1", "finished": "2", "require": {"trilingual": ["api"]}}
    done = Matrix(run=facts, cells=(cell("api.contract"),))
    killed = Matrix(run={"started": "3"}, cells=(cell("startup.ready"),))
    lacking = Matrix(run={"started": "3", "finished": "4"}, cells=(cell("startup.ready", engine="sglang"),))
    assert "1 of 2 merged runs did not finish" in gate.of(merge([done, killed])).reason
    assert "required api has no cell for cpu/process/sglang" in gate.of(merge([done, lacking])).reason
    assert gate.of(merge([done, lacking.model_copy(update={"cells": ()})])).open


@steady
@given(runs(plain_cells), REQUIRE, st.randoms(use_true_random=False))
def test_order_is_nothing(cells: list[Cell], require: dict[str, list[str]], random: object) -> None:
    """The same cells in another order give the same gate, to the letter."""
    shuffled = list(cells)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert gate.judge(shuffled, require) == gate.judge(cells, require)


@steady
@given(runs(plain_cells), REQUIRE, plain_cells)
def test_more_bad_cells_never_open(cells: list[Cell], require: dict[str, list[str]], more: Cell) -> None:
    """A cell that shuts gates is never what opens one."""
    if more.verdict in gate.SHUTS:
        assert not gate.judge([*cells, more], require).open


@steady
@given(runs(plain_cells), REQUIRE, st.data())
def test_worse_never_opens(cells: list[Cell], require: dict[str, list[str]], data: st.DataObject) -> None:
    """Cells made worse leave a shut gate shut."""
    worse = []
    for one in cells:
        verdict = data.draw(st.sampled_from(list(Verdict)[: one.verdict.rank + 1]))
        worse.append(one.model_copy(update={"verdict": verdict}))
    assert gate.judge(cells, require).open or not gate.judge(worse, require).open


@steady
@given(runs(plain_cells), REQUIRE, NAMES)
def test_requiring_more_never_opens(cells: list[Cell], require: dict[str, list[str]], name: str) -> None:
    """Asking for more leaves a shut gate shut."""
    more = {lineup: [*names, name] for lineup, names in require.items()}
    assert gate.judge(cells, require).open or not gate.judge(cells, more).open


@steady
@given(runs(plain_cells), REQUIRE, st.booleans())
def test_an_open_gate_has_its_reasons(cells: list[Cell], require: dict[str, list[str]], ended: bool) -> None:
    """Open means: ended, something judged, nothing deciding, nothing missing; the sentence begins with the outcome."""
    found = gate.judge(cells, require, unfinished="" if ended else "the run did not finish")
    good = any(one.verdict in (Verdict.PASS, Verdict.WAIVED) for one in cells)
    assert found.open == (ended and good and not found.deciding and not found.missing)
    assert found.reason.startswith(f"Gate {'open' if found.open else 'shut'}: ")
    assert found.reason.endswith(".")
    assert "\n" not in found.reason
