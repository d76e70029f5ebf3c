"""The gate opens only for what was judged and held: no order, no worse cell and no absence opens it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import gate
from reports.facts import FactsError
from reports.gate import Gate
from reports.merge import merge
from reports.policy import Policy, Rules, Shuts
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


# verdicts of startup.ready, api.contract, languages.script; what is required; facts of the run; open?; words of the sentence
THEN: dict[str, Any] = {"finished": "then"}
OLD = {"cells": "cpu/*/vllm/*/api.contract", "causes": ["usage"], "reason": "known", "owner": "Ann", "link": "https://x",
       "expires": "2027-03-31"}
USED = {**OLD, "state": "in force", "waived": ["cpu/process/vllm/trilingual/small/api.contract"]}
WORSE = {"what": "figure", "cell": "cpu/process/vllm/trilingual/small/latency.itl", "deployment": "d", "sentence": "slower"}
GONE = {**WORSE, "what": "vanished", "cell": "cpu/process/vllm/trilingual/small/api.robust"}
HELD = {"name": "main", "sha256": "0", "runs": 5, "compared": 9}
LOOSE = {"policy": {"default": {"inconclusive": "never", "unavailable": "never"}}}
STRICTER = {"policy": {"default": {"inconclusive": "any", "unavailable": "any"}}}
RUNS: list[tuple[list[str], list[str], dict[str, Any], bool, str]] = [
    # how the run ended
    (["pass"], [], {"finished": None}, False, "Gate shut: the run did not finish."),
    (["pass"], [], {"interrupted": True}, False, "Gate shut: the run was interrupted."),
    (["fail"], [], {"finished": None}, False, "the run did not finish; 1 cell failed (vllm startup.ready)"),
    ([], [], {}, False, "Gate shut: no cell was judged: there is none."),
    ([], ["api"], {}, False, "no cell was judged: there is none; lineup trilingual has no cell"),
    (["pass", "pass"], [], {"planned": 2}, True, "Gate open: 2 of 2 cells passed."),
    (["pass", "pass"], [], {"planned": 3}, False, "Gate shut: 1 of 3 planned cells missing."),
    ([], [], {"planned": 1}, False, "1 of 1 planned cell missing"),
    (["pass"], [], {"require": {"other": []}}, False, "Gate shut: lineup other has no cell."),
    (["pass"], [], {"require": {"other": ["api"]}}, False, "Gate shut: lineup other has no cell."),
    # policies: looser, stricter, and what none changes
    (["pass", "inconclusive"], ["api"], LOOSE, True,
     "1 inconclusive; the policy lets 1 inconclusive through although required"),
    (["pass", "unavailable"], ["api"], {"policy": {"default": {"unavailable": "never"}}}, True, "lets 1 unavailable"),
    (["pass", "inconclusive"], ["api"], {"policy": {"default": {"unavailable": "never"}}}, False, "is inconclusive"),
    (["pass", "unavailable"], [], STRICTER, False, "Gate shut: 1 cell is unavailable (vllm api.contract)."),
    (["pass", "inconclusive"], [], {"policy": {"default": {"inconclusive": "any"}}}, False, "1 cell is inconclusive"),
    (["pass", "unavailable"], [], {"policy": {"default": {"inconclusive": "any"}}}, True, "(not required)"),
    (["pass", "inconclusive"], [], {"policy": {"profile": {"cpu": {"inconclusive": "any"}}}}, False, "inconclusive"),
    (["pass", "inconclusive"], [], {"policy": {"profile": {"h200": {"inconclusive": "any"}}}}, True, "Gate open"),
    (["pass", "fail"], [], LOOSE, False, "failed"),
    (["pass", "error"], [], LOOSE, False, "error"),
    (["pass", "unexpected-pass"], [], {"policy": {"default": {"unavailable": "never"}}}, False, "waived cell passed"),
    (["unavailable"], ["startup"], {"policy": {"default": {"unavailable": "never"}}}, False, "no cell was judged"),
    # waivers as the run recorded them
    (["pass", "waived"], [], {"waivers": [USED]}, True, "Gate open: 1 of 2 cells passed, 1 waived."),
    (["pass", "waived"], [], {"waivers": []}, False, "Gate shut: 1 cell waived by no waiver of the run"),
    (["pass", "waived"], [], {"waivers": [{**USED, "causes": ["crash"]}]}, False, "waived by no waiver"),
    (["waived", "pass"], [], {"waivers": [USED]}, False, "1 cell waived by no waiver of the run"),
    (["pass", "pass"], [], {"waivers": [{**OLD, "state": "unused"}]}, False,
     "Gate shut: 1 waiver matches no cell ('cpu/*/vllm/*/api.contract' of Ann, 2027-03-31): remove or renew it."),
    (["pass", "pass"], [], {"waivers": [{**OLD, "state": "expired"}]}, False, "1 waiver has expired"),
    (["pass", "fail"], [], {"waivers": [{**OLD, "state": "expired"}]}, False, "(vllm api.contract); 1 waiver"),
    (["pass"], [], {"waivers": [{**OLD, "state": "expired"}, {**OLD, "owner": "Bo", "state": "expired"}]}, False,
     "2 waivers have expired"),
    (["pass", "unexpected-pass"], [], {"waivers": [{**USED, "waived": []}]}, False, "1 waived cell passed"),
    # held against a baseline
    (["pass"], [], {"baseline": HELD}, True, "Gate open"),
    (["pass"], [], {"baseline": {**HELD, "regressions": [WORSE]}}, False,
     "Gate shut: 1 regression against baseline main: 1 worse by more than tolerance and noise (vllm latency.itl)."),
    (["pass"], [], {"baseline": {**HELD, "regressions": [GONE, WORSE]}}, False, "1 vanished, 1 worse by more than"),
    (["fail"], [], {"baseline": {**HELD, "regressions": [WORSE]}}, False, "1 cell failed (vllm startup.ready); 1 regr"),
    # everything that lets pass together
    (["pass", "waived", "unavailable"], ["startup", "api"], {"planned": 3, "waivers": [USED], "baseline": HELD}, True,
     "Gate open: 1 of 3 cells passed, 1 waived, 1 unavailable (not required)."),
    (["pass", "waived", "unavailable"], ["languages.script"], {"waivers": [USED]}, False, "required cell is unavailable"),
    (["pass", "pass", "inconclusive"], ["languages", "gateway"], {}, False, "required gateway has no cell"),
    (["pass", "pass", "pass"], ["gateway", "faults", "memory", "finding"], {}, False, "1 other required promise"),
]


@pytest.mark.parametrize(("verdicts", "require", "facts", "opens", "words"), RUNS)
def test_runs(verdicts: list[str], require: list[str], facts: dict[str, Any], opens: bool, words: str) -> None:
    """Each recorded run has the outcome, the sentence and the exit code that stand in the table above."""
    checks = ["startup.ready", "api.contract", "languages.script"]
    cells = tuple(cell(check, verdict, causes=("usage",) if verdict == "waived" else ())
                  for check, verdict in zip(checks, verdicts, strict=False))
    run = {**THEN, **facts, "require": {**({"trilingual": require} if require else {}), **facts.get("require", {})}}
    judged = gate.of(Matrix(run=run, cells=cells))
    assert words in judged.reason
    assert judged.open is opens
    assert judged.exit_code == (0 if opens else 1)


BAD_FACTS = [
    {"policy": {"default": {"fail": "never"}}}, {"policy": {"default": {"error": "never"}}}, {"policy": "open"},
    {"policy": {"default": {"unexpected-pass": "never"}}}, {"policy": {"default": {"worse_by": 9}}}, {"policy": {"cpu": {}}},
    {"policy": {"default": {"inconclusive": "never", "unavailable": "any"}}}, {"baseline": []}, {"baseline": {"name": "x"}},
    {"waivers": 3}, {"waivers": [{}]}, {"waivers": [{**OLD, "state": "fine"}]}, {"require": ["api"]}, {"planned": "3"},
]


@pytest.mark.parametrize("facts", BAD_FACTS)
def test_facts_of_the_wrong_shape_open_nothing(facts: dict[str, Any]) -> None:
    """Facts that were damaged, or loosened beyond what any policy may, are refused in one sentence."""
    with pytest.raises(FactsError) as refused:
        gate.of(Matrix(run={**THEN, **facts}, cells=(cell(),)))
    assert "\n" not in str(refused.value)


POLICIES = st.builds(
    lambda inconclusive, unavailable: Policy(default=Rules(
        inconclusive=max(inconclusive, unavailable, key=lambda rule: rule.strictness), unavailable=unavailable)),
    st.sampled_from(Shuts), st.sampled_from(Shuts))


@steady
@given(runs(plain_cells), REQUIRE, POLICIES, st.data())
def test_worse_never_opens_under_any_policy(cells: list[Cell], require: dict[str, list[str]], rules: Policy,
                                            data: st.DataObject) -> None:
    """Whatever a policy lets through, a cell made worse opens no gate."""
    worse = [one.model_copy(update={"verdict": data.draw(st.sampled_from(list(Verdict)[: one.verdict.rank + 1]))})
             for one in cells]
    assert gate.judge(cells, require, rules=rules).open or not gate.judge(worse, require, rules=rules).open


@steady
@given(runs(plain_cells), REQUIRE, POLICIES)
def test_no_policy_opens_for_what_always_shuts(cells: list[Cell], require: dict[str, list[str]], rules: Policy) -> None:
    """fail, error and unexpected-pass shut, nothing judged shuts, and each set of verdicts has one outcome."""
    found = gate.judge(cells, require, rules=rules)
    if any(one.verdict in gate.SHUTS for one in cells) or not any(one.verdict in gate.JUDGED for one in cells):
        assert not found.open
    assert found == gate.judge(cells[::-1], require, rules=rules)
    assert found.reason.startswith(f"Gate {'open' if found.open else 'shut'}: ")


@steady
@given(runs(plain_cells), REQUIRE, POLICIES, st.sampled_from(["2 planned cells are not there", "1 regression"]))
def test_a_clause_shuts_by_itself(cells: list[Cell], require: dict[str, list[str]], rules: Policy, clause: str) -> None:
    """What a gate is told beside the cells shuts it, and stands in its sentence."""
    found = gate.judge(cells, require, rules=rules, also=(clause,))
    assert not found.open
    assert clause in found.reason


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


def test_what_is_required_of_a_lineup_over_two_cards_is_required_once() -> None:
    """Each card's own models have no cell of what is judged of all together (seen on two H200); another card's would."""
    one, two, both = "NVIDIA H200 #0", "NVIDIA H200 #1", "NVIDIA H200 #0 + #1"
    models = [cell("startup.ready", device=one), cell("startup.ready", device=two, model="large")]
    together = cell("coexistence.sequential", device=both, model=None)
    assert gate.judge([*models, together], ["coexistence"]).open
    assert gate.judge(models, ["coexistence"]).missing == 2 * (
        "required coexistence has no cell for cpu/process/vllm 1.0/trilingual",)
    assert gate.judge([*models, together], ["startup", "coexistence"]).open  # nothing stands over both but what is of all
    assert gate.judge([*models, together], ["languages"]).missing == (
        "required languages has no cell for cpu/process/vllm 1.0/trilingual",)
    for other in ("NVIDIA H200 #2", "NVIDIA H100 #0", "NVIDIA H200"):
        assert not gate.judge([*models, together, cell("startup.ready", device=other)], ["coexistence"]).open
    assert not gate.judge([*models, together, cell("startup.ready", device=one, engine="sglang")], ["coexistence"]).open
