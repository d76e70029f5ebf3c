"""Documented claims: every row has a file, no file or code holds an outcome, and the outcome follows the figures."""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fixtures.configuration import ConfigurationError
from fixtures.findings import claim as claims
from fixtures.findings import decision, procedures
from fixtures.findings.claim import Claim, Printed, Way
from fixtures.findings.decision import OUTCOMES
from fixtures.findings.rule import evaluate, names_in, words
from fixtures.verdict import Verdict
from tests.findings import OTHERWISE, SEEN, measured

CLAIMS = claims.committed()
WAYS = [pytest.param(claim, way, id=f"{claim.id}/{way.procedure}") for claim in CLAIMS.values() for way in claim.way]
# The rows of the study's findings; a claim that is added stands here, too.
ROWS = [
    "coexist-vllm-3", "coexist-sglang-1", "coexist-ollama-3", "mem-vllm-5090", "mem-vllm-27", "mem-single-0.9",
    "mem-formula", "mem-formula-yi", "mem-sglang-whole", "mem-ollama-8.5", "mem-real-2.5x", "mem-reserve", "start-order",
    "isolation", "preset-conservative", "preset-balanced", "preset-aggressive", "eager-required", "sglang-5090-broken",
    "sglang-5090-flags", "vllm-5090-works", "vllm-5090-fails", "tput-vllm-332", "tput-vllm-177", "tput-vllm-112",
    "tput-sglang-69", "tput-sglang-77", "tput-sglang-373", "tput-ollama-120", "tput-ollama-428", "ratio-vllm-sglang",
    "ratio-ollama-vllm", "tput-guide", "ttft-vllm", "ttft-sglang", "load-ab", "concurrency-limits", "cold-ollama",
    "unload-ollama", "lang-latency", "lang-korean-fastest", "lang-chinese-10x", "latency-consistency", "prefix-cache",
    "dtype-fp16", "v2-block-manager", "gateway", "monitoring", "trouble-401", "trouble-kv", "trouble-port",
    "trouble-restart", "driver-545", "sglang-waits-torch25", "qwen-remote-code", "kv-formula", "ollama-mean-152-817",
    "latency-ratios", "ollama-cpu-gpu-mix", "log-requests", "points-4984", "vllm-0.6-fails",
]


def test_every_row_has_a_file() -> None:
    """None is left out, and none is there that nobody knows of."""
    assert set(CLAIMS) == set(ROWS)


def test_contradictions_are_linked_from_both_sides_or_one() -> None:
    """Whoever contradicts is a claim of its own, and no claim contradicts itself."""
    assert all(other in CLAIMS and other != claim.id for claim in CLAIMS.values() for other in claim.contradicts)


@pytest.mark.parametrize(("claim", "way"), WAYS)
def test_a_file_leaves_its_outcome_open(claim: Claim, way: Way) -> None:
    """Two outcomes at least can be reached, each under a condition that figures decide."""
    assert len({rule.outcome for rule in way.rule}) > 1
    assert all(_inputs(claim, way, rule.when) for rule in way.rule), "a rule without a figure holds its outcome itself"


@pytest.mark.parametrize(("claim", "way"), WAYS)
def test_a_file_asks_only_for_what_is_measured(claim: Claim, way: Way) -> None:
    """Its procedure is known and gives each figure that rules and sentences name."""
    assert way.procedure in procedures.known()
    assert claim.asked(way) <= SEEN[way.procedure].keys()


def test_what_was_seen_of_each_procedure_is_told_here() -> None:
    """So that no procedure escapes the tests of this file."""
    assert SEEN.keys() == procedures.known()


@pytest.mark.parametrize(("claim", "way"), WAYS)
def test_each_figure_can_turn_the_outcome(claim: Claim, way: Way) -> None:
    """Whatever a rule looks at, printed or measured: another value of it can come to another outcome."""
    figures = {**{name: figure.value for name, figure in {**claim.printed, **claim.known}.items()}, **SEEN[way.procedure]}
    inputs = sorted(set().union(*(_inputs(claim, way, rule.when) for rule in way.rule)) - claim.tolerance.keys())
    assert _outcome(claim, way, figures) in OUTCOMES
    known = {**OTHERWISE.get(way.procedure, {}), **OTHERWISE.get(claim.id, {})}
    others = {name: [*known.get(name, ()), *_others(figures[name], way)] for name in inputs}
    for name in inputs:
        assert any(_turns(claim, way, around, name, others[name]) for around in _around(figures, name, others, known)), (
            f"{name} = {figures[name]} decides nothing, whatever the others are")


def _turns(claim: Claim, way: Way, figures: dict[str, Any], name: str, others: list[Any]) -> bool:
    """Whether one figure alone comes to another outcome."""
    first = _outcome(claim, way, figures)
    return any(_outcome(claim, way, {**figures, name: other}) != first for other in others)


def _around(figures: dict[str, Any], name: str, others: dict[str, list[Any]],
            known: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """The figures as they were seen; then with others of them changed: of two reasons each must do where it is alone."""
    yield figures
    rest = [other for other in others if other != name]
    rng = random.Random(name)
    for _ in range(400):
        changed = [other for other in rest if rng.random() < 0.4]
        yield {**figures, **{other: rng.choice(known[other] if other in known and rng.random() < 0.7 else others[other])
                             for other in changed}}


def _inputs(claim: Claim, way: Way, expression: str) -> set[str]:
    """The figures behind an expression, through what is derived from them."""
    found = names_in(expression)
    while behind := {name for name in found if name in way.derived}:
        found = (found - behind).union(*(names_in(way.derived[name]) for name in behind))
    return found


def _outcome(claim: Claim, way: Way, figures: dict[str, Any]) -> str:
    """What other figures, printed ones among them, come to."""
    def altered(table: dict[str, Printed]) -> dict[str, Printed]:
        return {name: Printed(value=figures[name]) for name in table}

    other = claim.model_copy(update={"printed": altered(claim.printed), "known": altered(claim.known)})
    seen = {name: figures[name] for name in SEEN[way.procedure]}
    return decision.decide(other, way, measured(seen)).outcome


def _others(value: Any, way: Way) -> Iterator[Any]:
    """Other values of a figure: far and near, more and less; of a list every entry, and one of them."""
    if isinstance(value, list):
        for place in range(len(value)):
            yield from ([*value[:place], other, *value[place + 1:]] for other in _others(value[place], way))
        yield from (list(others) for others in zip(*(_others(part, way) for part in value), strict=False))
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, str):
        parts = (node for rule in way.rule for node in ast.walk(ast.parse(rule.when)) if isinstance(node, ast.Constant))
        texts = {"other", "vllm", "tokens", *(part.value for part in parts if isinstance(part.value, str))}
        yield from sorted(texts - {value})
    else:
        times = (0, 0.001, 0.1, 0.125, 0.3, 0.5, 0.7, 0.9, 0.97, 1.03, 1.1, 1.3, 1.5, 2, 3, 5, 10, 100, 1000)
        yield from (value * time for time in times)
        yield from (value + more for more in (-1, 1, 10, 1000))


def test_an_outcome_passes_whichever_it_is() -> None:
    """What is judged is whether one was reached; between all bounds it is inconclusive."""
    claim = CLAIMS["log-requests"]
    way = claim.way[0]
    verdicts = {}
    for low, high in ((0.0, 0.01), (0.2, 0.3), (0.0, 0.3)):
        told = decision.judgement(claim, way, measured({**SEEN["log-requests"], "gain_low": low, "gain_high": high}))
        verdicts[str(told.figures["outcome"].value)] = told.verdict
    assert verdicts == {"refuted": Verdict.PASS, "reproduced": Verdict.PASS, "open": Verdict.INCONCLUSIVE}


def test_another_outcome_than_the_record_has_is_a_failure() -> None:
    """Said with both outcomes; the same one, or none on record, is none."""
    claim = CLAIMS["v2-block-manager"]
    seen = measured(SEEN["flag"])
    assert decision.judgement(claim, claim.way[0], seen, "refuted").verdict is Verdict.PASS
    assert decision.judgement(claim, claim.way[0], seen).verdict is Verdict.PASS
    other = decision.judgement(claim, claim.way[0], seen, "reproduced")
    assert (other.verdict, other.causes) == (Verdict.FAIL, ("finding-changed",))
    assert "refuted" in other.reason
    assert "reproduced" in other.reason


# --- rules ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("expression", "value"), [
    ("1 + 2 * 3", 7), ("sum([1, 2]) / 4", 0.75), ("a / 0", float("inf")), ("all(b * 2 > 1)", True),
    ("any(b > [5, 1])", True), ("b[1] - b[0]", 1), ("not a == 3 or 1 > 2", False), ("nearest(4, [1, 3, 9])", 3),
    ("advantages([100, 75])", [25]), ("0 < a < 2", False), ("max(abs(-1 * b))", 2), ("text == 'x' and a >= 3", True),
])
def test_rules_are_arithmetic(expression: str, value: Any) -> None:
    """Numbers, lists figure by figure, comparisons, texts."""
    assert evaluate(expression, {"a": 3, "b": [1, 2], "text": "x"}) == value


@pytest.mark.parametrize("expression", [
    "__import__('os')", "a.real", "(lambda: 1)()", "[x for x in b]", "open('f')", "missing + 1", "b + [1, 2, 3]", "1 +",
    "a[0]",
])
def test_a_rule_is_nothing_but_arithmetic(expression: str) -> None:
    """Anything else, an unknown figure and lists of two lengths are named, and nothing is run."""
    with pytest.raises(ConfigurationError):
        evaluate(expression, {"a": 3, "b": [1, 2]})


def test_sentences_take_lists() -> None:
    """Each figure in the same form; an unknown name is an error of the file."""
    assert words("{b:.1f} of {a}", {"a": 3, "b": [1, 2]}) == "1.0, 2.0 of 3"
    with pytest.raises(ConfigurationError, match="missing"):
        words("{missing}", {})


# --- files ---------------------------------------------------------------------------------------------------------------


def _one(folder: Path, change: tuple[str, str]) -> Path:
    """A folder of one claim's file, changed."""
    text = (claims.FOLDER / "trouble-kv.toml").read_text(encoding="utf-8")
    assert change[0] in text
    (folder / "trouble-kv.toml").write_text(text.replace(*change), encoding="utf-8")
    return folder


@pytest.mark.parametrize(("change", "named"), [
    (("sentence =", "sentense ="), "sentense"),
    (('id = "trouble-kv"', 'id = "trouble"'), "is not the file's name"),
    (('outcome = "refuted"', 'outcome = "wrong"'), "outcome"),
    (('where = ["002"]', 'where = ["002"]\ncontradicts = ["trouble-kw"]'), "trouble-kw"),
    (('engines = ["vllm", "sglang"]', 'engines = ["vllm", "vllm"]'), "two ways"),
])
def test_a_mistake_in_a_file_is_named(tmp_path: Path, change: tuple[str, str], named: str) -> None:
    """With the file and the key."""
    with pytest.raises(ConfigurationError, match=named):
        claims.committed(_one(tmp_path, change))
