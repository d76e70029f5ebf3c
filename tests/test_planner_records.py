"""The planner against what was measured: predictions of records that its ranges were not set from hold."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from fixtures import lineup as lineups
from fixtures.configuration import ConfigurationError
from fixtures.planner import card as cards
from fixtures.planner import costs
from fixtures.planner.ollama import own_count, slots_of
from fixtures.planner.plan import Plan, Server, asks, make
from fixtures.planner.solver import solve
from fixtures.planner.span import GIB, Span, gib
from tests import planned
from tests.planned import LOGS, RUNS, Row, rows, sequential, share_of

ALL = rows()
TESTED = [row for row in ALL if not row.calibrated]
# The bar: device memory within 3 % or 0.3 GiB, tokens within 2 %.
PART, GIBS, TOKENS = 0.03, 0.3, 0.02
PRINTED = 0.01  # GiB: logs of weights have two digits


def identity(row: Row) -> str:
    """For the test's id."""
    return f"{row.engine}-{row.name}"


def near(span: Span, measured: float, part: float, least: float) -> bool:
    """Whether the middle of a range is as near to the figure as the bar asks for."""
    return abs(span.mid - measured) <= max(part * measured, least)


@pytest.mark.parametrize("row", TESTED, ids=identity)
def test_memory_by_process_is_as_predicted(row: Row) -> None:
    """What NVML said of a server is inside the range, and near its middle."""
    for measured, span in ((row.held_gib, row.seat.held), (row.peak_gib, row.seat.peak)):
        if measured is not None:
            said = span.over(GIB)
            assert said.holds(measured), f"{measured} GiB, predicted {said}"
            assert near(said, measured, PART, GIBS), f"{measured} GiB, predicted {said}"


@pytest.mark.parametrize("row", TESTED, ids=identity)
def test_the_cache_holds_the_tokens_predicted(row: Row) -> None:
    """The tokens that the engine itself names are inside the range, and near its middle."""
    assert row.tokens is not None
    assert row.seat.tokens.holds(row.tokens), f"{row.tokens} tokens, predicted {row.seat.tokens}"
    assert near(row.seat.tokens, row.tokens, TOKENS, 0), f"{row.tokens} tokens, predicted {row.seat.tokens}"


@pytest.mark.parametrize("row", [row for row in TESTED if row.pool], ids=identity)
def test_weights_are_as_predicted(row: Row) -> None:
    """What the engine's log says of the weights, to its two digits."""
    assert row.pool is not None
    measured, said = row.pool.weights_bytes / GIB, row.seat.weights.over(GIB)
    assert said.low - PRINTED <= measured <= said.high + PRINTED


def test_calibration_never_sees_what_it_is_tested_on() -> None:
    """Each record is one or the other, every name in costs.toml is a record that exists, and enough are left to test."""
    names = {row.name for row in ALL}
    for engine in ("vllm", "sglang", "ollama"):
        known = costs.committed().of(engine)
        assert set(known.calibrated_on) <= names
        assert sum(row.engine == engine for row in TESTED) >= len(known.calibrated_on)
    assert len(TESTED) + sum(row.calibrated for row in ALL) == len(ALL)


def test_a_wrong_prediction_is_seen() -> None:
    """The bar is no formality: 0.9 GiB more, or a twentieth of the tokens, breaks it."""
    row = next(row for row in TESTED if row.held_gib and row.peak_gib and row.engine == "vllm")
    worse = replace(row, held_gib=row.held_gib + 0.9 if row.held_gib else None)
    with pytest.raises(AssertionError):
        test_memory_by_process_is_as_predicted(worse)
    with pytest.raises(AssertionError):
        test_the_cache_holds_the_tokens_predicted(replace(row, tokens=row.tokens * 0.95 if row.tokens else None))


@pytest.mark.parametrize(("run", "tolerance"), [("ollama-shapes", 0.01), ("ollama-trilingual", 0.01)])
def test_ollamas_own_count_is_predicted(run: str, tolerance: float) -> None:
    """What /api/ps named (the plan of memory.plan) is what the planner counts by Ollama's rule."""
    cells = [json.loads(line) for line in (RUNS[run] / "cells.jsonl").read_text(encoding="utf-8").splitlines()]
    counted = {cell["model"]: cell["figures"]["planned_gib"]["value"] for cell in cells if cell["check"] == "memory.plan"}
    for row in (row for row in ALL if row.source == run):
        own = own_count(row.seat.ask, slots_of(row.seat.ask))
        assert own is not None
        assert own / GIB == pytest.approx(counted[row.model], abs=tolerance)


@pytest.mark.parametrize(("engine", "name"), [("vllm", "concurrent"), ("sglang", "concurrent")])
def test_three_equal_shares_started_together_are_no_fault_of_the_plan(engine: str, name: str) -> None:
    """0.3 (vLLM) and 0.45 (SGLang) for each of three: one after another the planner says which fit.

    The same logs, of starts together, show caches far from these: the plan speaks of one after another only.
    """
    files = {model: next(LOGS.glob(f"{engine}-*-{name}-{model}.log")) for model in ("tinyllama", "qwen", "yi")}
    share = share_of(files["yi"])
    plan = make(_small(engine, share), engine, "", cards.find("h200", _small(engine, share)), reorder=False)
    if engine == "vllm":
        assert plan.fit == "fits", plan.problems
        assert [seat.ask.share for seat in plan.seats] == [0.3, 0.3, 0.3]
        assert min(seat.cache.low for seat in plan.seats) > 28 * GIB  # started together: 2.58, 30.89 and -11.95 GiB
    else:
        assert plan.fit == "fits"  # 0.45 of what is free is less each time


def _small(engine: str, share: float) -> lineups.Lineup:
    files = {model: next(LOGS.glob(f"{engine}-*-concurrent-{model}.log")) for model in ("tinyllama", "qwen", "yi")}
    assert {share_of(file) for file in files.values()} == {share}
    return sequential(engine, files)


@pytest.mark.parametrize(("preset", "fit"), [("study-conservative", "does not fit"), ("study-balanced", "fits"),
                                             ("study-aggressive", "may fit")])
def test_the_published_presets_on_their_card(preset: str, fit: str) -> None:
    """0.10/0.20/0.40 leaves Qwen no cache, 0.15/0.25/0.45 fits, 0.18/0.28/0.50 leaves nothing to be sure of."""
    found = lineups.load(preset)
    plan = make(found, "vllm", "", cards.find("rtx5090", found))
    assert plan.fit == fit, (plan.problems, plan.doubts)
    if fit == "does not fit":
        assert plan.problems[0].startswith("qwen: its cache")


def test_one_model_per_gpu_is_refuted_for_sglang() -> None:
    """Three models of one engine sit on the card at once, each with its own fraction of what is free."""
    shown = [row for row in ALL if row.source == "sglang-shapes"]
    assert len(shown) == 3
    assert all(row.seat.fit == "fits" and row.held_gib for row in shown)


def test_cards_of_which_one_is_fuller_are_foreseen() -> None:
    """On two H200 SGLang refused a model over both beside one on each: the plan says so, and an order that goes."""
    found = lineups.load("two-devices")
    seen = make(found, "sglang", "", cards.find("h200", found), reorder=False)
    assert seen.fit == "does not fit"
    [words] = seen.problems
    assert words.startswith("yi-6b: SGLang spreads no model over cards of which one has 102.")
    better = make(found, "sglang", "", cards.find("h200", found))
    assert (better.fit, better.order[0]) == ("fits", "yi-6b")
    assert make(found, "vllm", "", cards.find("h200", found), reorder=False).fit == "fits"
    alone = lineups.load("trilingual")  # every model on one card, whatever is left of it
    plan = make(alone, "sglang", "", cards.find("rtx4090", alone), reorder=False)
    assert not [words for words in (*plan.problems, *plan.doubts) if "another" in words]


def test_other_engines_are_refused() -> None:
    """An engine whose memory is not known is named, with those that are."""
    found = lineups.load("shapes")
    with pytest.raises(ConfigurationError, match="'openai'"):
        make(found, "openai", "", cards.find("h200", found))


def test_the_documents_tables_are_the_records() -> None:
    """docs/planner.md shows what the records and the planner of today say; `python -m tests.planned` prints it anew."""
    text = (LOGS.parents[1] / "docs" / "planner.md").read_text(encoding="utf-8")
    for made in (planned.table(), planned.others()):
        assert made in text
    presets = {name: make(lineups.load(f"study-{name}"), "vllm", "", cards.find("rtx5090", lineups.load("study-balanced")))
               for name in ("balanced", "aggressive")}
    assert f"{gib(presets['balanced'].left())} GiB are left" in text
    assert all(figure in text for figure in re.findall(r"[\d.]+ to [\d.]+", presets["aggressive"].doubts[0]))
    least = solve(*_asked("shapes", "rtx5090", 4))
    assert least is not None
    assert all(gib(seat.held) in text for seat in least.seats)


def _asked(name: str, card: str, concurrency: int) -> tuple[Plan, list[Server]]:
    found = lineups.load(name)
    servers, _ = asks(found, "vllm", "", cards.find(card, found), concurrency)
    return Plan(name, "vllm", "", servers[0].ask.card, (), ()), servers


def test_a_third_of_a_small_card_is_too_little_for_a_large_model() -> None:
    """0.3 for each of three on an RTX 5090: the weights of Yi-6B alone are more."""
    found = _small("vllm", 0.3)
    plan = make(found, "vllm", "", cards.find("rtx5090", found))
    assert [seat.ask.model for seat in plan.seats if seat.fit == "does not fit"] == ["yi"]
