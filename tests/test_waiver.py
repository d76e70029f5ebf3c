"""A waiver excuses the causes that it names, on the cells that it names, until its day, and nothing else."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures import waiver
from fixtures.configuration import ConfigurationError
from fixtures.waiver import Narrowed, Waiver
from reports import gate, waived
from reports.record import Cell, Matrix, Verdict
from tests.cells import cell, plain_cells, steady

DAY = date(2027, 3, 31)
WHOLE = """
[[waiver]]
cells = "cpu/*/sglang/*/api.robust"
causes = ["out-of-vocabulary-token"]
reason = "upstream does not check the range"
owner = "Ann"
link = "https://example.org/issues/1"
expires = 2027-03-31
"""


def a_waiver(cells: str = "cpu/*/vllm/*/api.contract", *causes: str, expires: date = DAY) -> Waiver:
    facts = {"reason": "known upstream", "owner": "Ann", "link": "https://example.org/1", "expires": expires}
    return Waiver(cells=cells, causes=causes or ("usage",), **facts)  # type: ignore[arg-type]


def failing(*causes: str) -> Cell:
    return cell("api.contract", "fail", causes=causes, reason="usage says 3 tokens of 8", cure="upgrade")


MATCHES = [
    # pattern, model, check, variant, matches?
    ("cpu/*/vllm/*/api.robust", None, "api.robust", "", True),
    ("cpu/*/vllm/*/api.robust", "small", "api.robust", "", True),
    ("cpu/*/vllm/*/api.robust", "small", "api.robust", "eager", True),
    ("cpu/*/vllm/*/api.*", "small", "api.errors", "", True),
    ("cpu/*/vllm/*/api.*", "small", "languages.script", "ko", False),
    ("cpu/*/vllm/*/small/api.robust", "small", "api.robust", "", True),
    ("cpu/*/vllm/*/small/api.robust", "small", "api.robust", "eager", True),
    ("cpu/*/vllm/*/small/api.robust", "large", "api.robust", "", False),
    ("cpu/*/vllm/*/*/api.robust", "large", "api.robust", "", True),
    ("cpu/*/vllm/*/*/api.robust", None, "api.robust", "", False),
    ("cpu/*/vllm/*/languages.script/ko", "small", "languages.script", "ko", True),
    ("cpu/*/vllm/*/languages.script/ko", "small", "languages.script", "zh", False),
    ("cpu/*/vllm/*/languages.script/ko", "small", "languages.script", "", False),
    ("cpu/*/vllm/*/s????/languages.script/[kz]*", "small", "languages.script", "ko", True),
    ("cpu/*/sglang/*/api.robust", "small", "api.robust", "", False),
    ("rtx5090/*/vllm/*/api.robust", "small", "api.robust", "", False),
    ("CPU/*/vllm/*/api.robust", "small", "api.robust", "", False),
    ("**/api.robust", "small", "api.robust", "", True),
    ("**/vllm/**", "small", "latency.itl", "p95", True),
    ("**/small/**", None, "latency.itl", "p95", False),
    ("cpu/**/api.robust", "small", "api.robust", "", True),
    ("**/ko", "small", "languages.script", "ko", True),
]


@pytest.mark.parametrize(("pattern", "model", "check", "variant", "matches"), MATCHES)
def test_patterns(pattern: str, model: str | None, check: str, variant: str, matches: bool) -> None:
    """The table above: `*` stays within a part, `**` does not, and what a pattern leaves out it does not restrict."""
    assert a_waiver(pattern).matches(cell(check, model=model, variant=variant)) is matches


@steady
@given(plain_cells)
def test_a_cell_is_matched_by_its_own_name(one: Cell) -> None:
    """The name that a report prints works as a pattern."""
    assert a_waiver(one.name).matches(one)


def test_every_cause_waived() -> None:
    """The failure becomes `waived`, and its reason, the terms and the link all stay readable."""
    waived = waiver.apply(failing("usage"), [a_waiver()], DAY)
    assert waived.verdict is Verdict.WAIVED
    assert waived.reason == "waived until 2027-03-31 by Ann (known upstream): usage says 3 tokens of 8"
    assert waived.cure == "upgrade; see https://example.org/1"
    assert waived.causes == ("usage",)


def test_another_cause_is_a_fail() -> None:
    """One cause that no waiver names keeps the whole cell a fail and is named."""
    found = waiver.apply(failing("usage", "crash"), [a_waiver()], DAY)
    assert found.verdict is Verdict.FAIL
    assert found.reason == "usage says 3 tokens of 8; not waived: crash"


def test_two_waivers_may_share_a_cell() -> None:
    """Causes may be waived by several waivers; both are named."""
    both = [a_waiver(), a_waiver("**/api.contract", "crash", expires=date(2027, 1, 1))]
    found = waiver.apply(failing("usage", "crash"), both, date(2026, 12, 1))
    assert found.verdict is Verdict.WAIVED
    assert "until 2027-03-31" in found.reason
    assert "until 2027-01-01" in found.reason
    assert waiver.apply(failing("usage", "crash"), both, date(2027, 1, 2)).verdict is Verdict.FAIL


def test_a_failure_without_a_cause_is_never_waived() -> None:
    """No cause is not the cause that was waived."""
    found = waiver.apply(failing(), [a_waiver()], DAY)
    assert found.verdict is Verdict.FAIL
    assert "names no cause" in found.reason


def test_expiry_is_the_last_day() -> None:
    """In force on the day it expires, over the day after: a fail says so, a pass is a pass again."""
    assert waiver.apply(failing("usage"), [a_waiver()], DAY).verdict is Verdict.WAIVED
    late = waiver.apply(failing("usage"), [a_waiver()], date(2027, 4, 1))
    assert late.verdict is Verdict.FAIL
    assert late.reason == "usage says 3 tokens of 8; its waiver expired on 2027-03-31"
    assert waiver.apply(cell(), [a_waiver()], date(2027, 4, 1)) == cell()


def test_an_expired_waiver_of_another_cause_is_not_mentioned() -> None:
    """What expired is named only where it would have helped."""
    assert waiver.apply(failing("crash"), [a_waiver()], date(2027, 4, 1)) == failing("crash")


def test_a_waived_cell_that_passes() -> None:
    """It is an unexpected pass, with the way to cure that."""
    found = waiver.apply(cell(), [a_waiver()], DAY)
    assert found.verdict is Verdict.UNEXPECTED_PASS
    assert "passes although waived until 2027-03-31 by Ann" in found.reason
    assert "cpu/*/vllm/*/api.contract" in found.cure


@steady
@given(plain_cells, st.dates())
def test_only_fail_and_pass_are_touched(one: Cell, today: date) -> None:
    """No waiver covers error, inconclusive or unavailable, and none changes anything but verdict, reason and cure."""
    found = waiver.apply(one, [a_waiver(f"**/{one.check}", "usage")], today)
    assert found.key == one.key
    if one.verdict not in (Verdict.FAIL, Verdict.PASS):
        assert found == one


@steady
@given(plain_cells, st.dates())
def test_a_cell_that_is_not_matched_stays(one: Cell, today: date) -> None:
    """A waiver for another profile leaves a cell as it is."""
    assert waiver.apply(one, [a_waiver("rtx5090/**/vllm/**")], today) == one


def stale(one: Waiver, *narrowed: Narrowed, today: date = DAY) -> list[str]:
    """The clauses that shut a gate for this waiver after a run of vLLM's api.contract and api.errors, which pass."""
    cells = [cell("api.contract"), cell("api.errors")]
    return list(waived.clauses(waiver.record([one], cells, today, frozenset(narrowed)), cells))


def test_a_waiver_that_matches_nothing_shuts_the_gate() -> None:
    """Unless it speaks of a deployment that was not run, or the run was narrowed so that its cells may be left out."""
    (clause,) = stale(a_waiver("cpu/*/vllm/*/api.gone"))
    assert clause.startswith("1 waiver matches no cell ('cpu/*/vllm/*/api.gone' of Ann, 2027-03-31)")
    assert stale(a_waiver("rtx5090/*/vllm/*/api.gone")) == []
    assert stale(a_waiver("cpu/*/sglang/*/api.gone")) == []
    assert stale(a_waiver("cpu/*/vllm/*/api.gone"), Narrowed.CHECKS) == []
    assert stale(a_waiver("cpu/*/vllm/*/api.gone"), Narrowed.ENGINES)
    assert stale(a_waiver("cpu/*/*/*/api.gone"), Narrowed.ENGINES) == []
    assert stale(a_waiver("cpu/*/vllm/*/api.gone"), Narrowed.LINEUPS) == []
    assert stale(a_waiver("cpu/*/vllm/trilingual/api.gone"), Narrowed.LINEUPS)


def test_an_expired_waiver_shuts_the_gate() -> None:
    """Also over a cell that passes, where it excuses nothing any more; the day itself is still its own."""
    late = date(2027, 4, 1)
    assert "1 waiver has expired ('cpu/*/vllm/*/api.contract' of Ann, 2027-03-31)" in stale(a_waiver(), today=late)[0]
    assert stale(a_waiver(), today=DAY) == []
    assert stale(a_waiver("cpu/*/sglang/*/api.contract"), today=late) == []


def test_the_record_and_not_the_file_decides() -> None:
    """An old result is judged by the waivers in it: without them, or for causes that they do not name, it is shut."""
    one = a_waiver()
    cells = (waiver.apply(failing("usage"), [one], DAY), cell("api.errors"))
    facts = [found.model_dump(mode="json") for found in waiver.record([one], cells, DAY)]

    def judged(recorded: list[dict[str, object]], *held: Cell) -> str:
        return gate.of(Matrix(run={"finished": "then", "waivers": recorded}, cells=held or cells)).reason

    assert judged(facts) == "Gate open: 1 of 2 cells passed, 1 waived."
    assert "1 cell waived by no waiver of the run" in judged([])
    assert "waived by no waiver" in judged(facts, cells[0].model_copy(update={"causes": ("usage", "crash")}), cells[1])
    assert "waived by no waiver" in judged(facts, cells[0].model_copy(update={"model": "large"}), cells[1])


def test_causes_that_nobody_saw_are_told() -> None:
    """A cause that no cell had could be taken out of the waiver; of a cell that could not be judged nobody knows."""
    one = a_waiver("cpu/*/vllm/*/api.contract", "usage", "crash")
    seen = waiver.record([one], [waiver.apply(failing("usage"), [one], DAY)], DAY)
    assert waiver.notes(seen) == ["waiver 'cpu/*/vllm/*/api.contract' of Ann: no cell had the cause crash; take it out"]
    both = [waiver.apply(failing("usage"), [one], DAY), cell(verdict="unavailable", model="large")]
    assert waiver.notes(waiver.record([one], both, DAY)) == []


def test_the_example_of_the_contract(tmp_path: Path) -> None:
    """The documented form is read, and it covers SGLang's robustness with any model and any launcher."""
    (tmp_path / "sglang.toml").write_text(WHOLE)
    (only,) = waiver.load(tmp_path)
    assert (only.owner, only.expires, only.causes) == ("Ann", DAY, ("out-of-vocabulary-token",))
    assert only.matches(cell("api.robust", engine="sglang", model=None))
    assert only.matches(cell("api.robust", engine="sglang", launcher="container"))


def test_committed_waivers_are_sound() -> None:
    """Every waiver of the suite can be read."""
    for committed in waiver.load():
        assert committed.causes


def test_no_folder_no_waivers(tmp_path: Path) -> None:
    """A checkout without waivers has none."""
    assert waiver.load(tmp_path / "none") == ()


@pytest.mark.parametrize("key", ["cells", "causes", "reason", "owner", "link", "expires"])
def test_nothing_may_be_left_out(tmp_path: Path, key: str) -> None:
    """A waiver without one of its six keys is refused by name."""
    kept = "\n".join(line for line in WHOLE.splitlines() if not line.startswith(key))
    (tmp_path / "one.toml").write_text(kept)
    with pytest.raises(ConfigurationError, match=rf"one\.toml: key 'waiver\.0\.{key}' is missing"):
        waiver.load(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('["out-of-vocabulary-token"]', "[]", "causes"),
        ('["out-of-vocabulary-token"]', '["*"]', "causes"),
        ('["out-of-vocabulary-token"]', '[""]', "causes"),
        ('"Ann"', '"  "', "owner"),
        ('"upstream does not check the range"', '""', "reason"),
        ('"https://example.org/issues/1"', '"see the chat"', "link"),
        ("2027-03-31", '"soon"', "expires"),
        ("cpu/*/sglang/*/api.robust", "", "empty part"),
        ("cpu/*/sglang/*/api.robust", "cpu//sglang/*/api.robust", "empty part"),
        ("cpu/*/sglang/*/api.robust", "sglang/api.robust", "can match no cell"),
        ("cpu/*/sglang/*/api.robust", "a/b/c/d/e/f/g/h", "can match no cell"),
        ("cpu/*/sglang/*/api.robust", "cpu/**sglang/api.robust", "stands alone"),
        ("cpu/*/sglang/*/api.robust", "**", "excuses everything"),
        ("cpu/*/sglang/*/api.robust", "cpu/**", "excuses everything"),
        ("cpu/*/sglang/*/api.robust", "cpu/process/**", "excuses everything"),
        ("cpu/*/sglang/*/api.robust", "cpu/process/*/*/*", "excuses everything"),
        ("cpu/*/sglang/*/api.robust", "cpu/process/*/*/?pi.*", "excuses everything"),
        ("cpu/*/sglang/*/api.robust", "*/*/[a-z]*/**/*", "excuses everything"),
        ("owner", "ownr", "unknown key 'waiver.0.ownr'; did you mean 'owner'"),
        ("[[waiver]]", "[[waivers]]", "unknown key 'waivers'; did you mean 'waiver'"),
    ],
)
def test_mistakes(tmp_path: Path, old: str, new: str, message: str) -> None:
    """A waiver that excuses everything, nothing, for ever or for nobody is refused in words."""
    assert old in WHOLE
    (tmp_path / "one.toml").write_text(WHOLE.replace(old, new, 1))
    with pytest.raises(ConfigurationError) as refused:
        waiver.load(tmp_path)
    assert message in str(refused.value)
