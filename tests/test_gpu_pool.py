"""KV caches against the share of a model, from the logs of real servers on one H200."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from fixtures.coexistence import neighbours
from fixtures.deployment.events import Boot, Stop
from fixtures.engines.base import Engine, Served
from fixtures.engines.registry import engine
from fixtures.lineup import ModelEntry
from fixtures.memory import judge as memory
from fixtures.verdict import Verdict

LOGS = Path(__file__).with_name("engine_logs")
GIB = 2**30
TOTAL = int(139.8 * GIB)  # of that card, as vLLM counts it


def booted(log: str, share: float, budget: int | None = None) -> Boot:
    """The start that a log tells of, as the server would be judged."""
    text, known = (LOGS / log).read_text(encoding="utf-8"), engine(log.partition("-")[0])
    served = Served(ModelEntry(name="m", share=share), None, "", {}, budget=budget or int(share * TOTAL))
    fewest, most = known.planned(served, text)
    return Boot("m", "sequential", 60, 300, capacity=_tokens(known, text), planned=fewest, planned_most=most)


def _tokens(known: Engine, text: str) -> int:
    told = known.pool(text)
    assert told is not None
    return told.tokens


@pytest.mark.parametrize(("log", "share"), [
    ("vllm-0.26.0-sequential-tinyllama.log", 0.05), ("vllm-0.26.0-sequential-qwen.log", 0.08),
    ("vllm-0.26.0-sequential-yi.log", 0.15), ("vllm-0.26.0-mixed-qwen.log", 0.10), ("vllm-0.26.0-alone-healthy.log", 0.05),
])
def test_servers_started_one_after_another_have_what_their_share_leaves(log: str, share: float) -> None:
    """Healthy caches of vLLM, eager and with graphs, lie in the range of the plan."""
    assert neighbours.judge_starts([booted(log, share)], 1).verdict is Verdict.PASS


@pytest.mark.parametrize("log", ["vllm-0.26.0-concurrent-tinyllama.log", "vllm-0.26.0-concurrent-qwen.log"])
def test_servers_started_together_are_healthy_and_too_small(log: str) -> None:
    """The fault that no health check sees: 2.58 and 30.89 GiB of cache where 0.3 of the card leaves 38 and 34."""
    assert neighbours.judge_starts([booted(log, 0.3)], 1).causes == ("capacity-below-plan",)


@pytest.mark.parametrize("log", [file.name for file in sorted(LOGS.glob("sglang-0.5.15-sequential-*.log"))])
def test_sglang_gives_what_its_fraction_of_the_free_memory_leaves(log: str) -> None:
    """Its fraction is of what was free when it started: that times the fraction is the budget, weights included."""
    text = (LOGS / log).read_text(encoding="utf-8")
    free = float(re.findall(r"Load weight begin\. avail mem=([\d.]+) GB", text)[-1])
    fraction = float(re.findall(r"mem_fraction_static=([\d.]+)", text)[-1])
    assert neighbours.judge_starts([booted(log, 0.1, int(free * fraction * GIB))], 1).verdict is Verdict.PASS


@pytest.mark.parametrize(("held", "expected"), [
    (16.0, (Verdict.PASS, ())), (14.0, (Verdict.PASS, ())), (16.6, (Verdict.FAIL, ("above-plan",))),
    (11.4, (Verdict.FAIL, ("below-plan",))), (0, (Verdict.ERROR, ("no-samples",))),
])
def test_the_plan_of_a_share(held: float, expected: tuple[Verdict, tuple[str, ...]]) -> None:
    """vLLM with graphs held 16.01 GiB where 13.98 were its share: that passes, half a GiB more does not."""
    boot = Boot("m", "sequential", 60, 300, held_bytes=int(held * GIB), planned_bytes=int(13.98 * GIB))
    judgement = memory.judge_plan(boot)
    assert (judgement.verdict, judgement.causes) == expected


def test_a_peak_that_is_known_only_as_a_range_is_judged_by_both_ends() -> None:
    """Where the driver tells a device's total alone, a limit inside the range leaves the question open."""
    assert memory.judge_ceiling((5 * GIB, 9 * GIB), 10).verdict is Verdict.PASS
    assert memory.judge_ceiling((5 * GIB, 9 * GIB), 7).causes == ("device-total",)
    assert memory.judge_ceiling((5 * GIB, 9 * GIB), 4).causes == ("above-ceiling",)


def test_the_plan_of_each_device() -> None:
    """A model on two cards has its share on each of them; one that took another card than it was given is found."""
    boot = Boot("m", "sequential", 60, 300, held_bytes=28 * GIB, planned_bytes=14 * GIB, by_device=(14 * GIB, 14 * GIB))
    assert memory.judge_plan(boot).verdict is Verdict.PASS
    assert memory.judge_plan(replace(boot, held_bytes=14 * GIB, by_device=(14 * GIB, 0))).causes == ("not-on-the-device",)
    assert memory.judge_plan(replace(boot, by_device=(14 * GIB, 0))).causes == ("on-another-device",)
    assert memory.judge_plan(replace(boot, held_bytes=0, by_device=(0, 0))).causes == ("not-on-the-device",)


def test_the_plan_of_a_model_over_two_devices() -> None:
    """vLLM held 45.46 GiB where 42.12 were its share on each of two H200: NCCL's buffers and its graphs."""
    share, held = int(42.12 * GIB), int(45.46 * GIB)
    boot = Boot("m", "sequential", 60, 300, held_bytes=2 * held, planned_bytes=share, by_device=(held, held))
    assert memory.judge_plan(boot).verdict is Verdict.PASS
    assert memory.judge_plan(replace(boot, held_bytes=held, by_device=(held,))).causes == ("above-plan",)
    more, less = held + GIB, share - 3 * GIB
    assert memory.judge_plan(replace(boot, held_bytes=held + more, by_device=(held, more))).causes == ("above-plan",)
    assert memory.judge_plan(replace(boot, held_bytes=held + less, by_device=(held, less))).causes == ("below-plan",)


def test_two_devices_of_which_the_driver_tells_totals_alone() -> None:
    """What is held is of both together, its share is of each."""
    boot = Boot("m", "sequential", 60, 300, held_bytes=84 * GIB, planned_bytes=42 * GIB, least_bytes=42 * GIB, devices=2)
    assert memory.judge_plan(boot).verdict is Verdict.PASS
    assert memory.judge_plan(replace(boot, held_bytes=94 * GIB)).causes == ("above-plan",)
    assert memory.judge_plan(replace(boot, held_bytes=70 * GIB)).causes == ("below-plan",)


def test_a_model_that_may_hold_nothing_is_no_pass() -> None:
    """Beside a neighbour, and told only the device's total, a model on the CPU looks like one whose share is used."""
    boot = Boot("m", "sequential", 60, 300, held_bytes=14 * GIB, planned_bytes=14 * GIB, least_bytes=0)
    assert memory.judge_plan(boot).verdict is Verdict.INCONCLUSIVE
    assert memory.judge_plan(replace(boot, least_bytes=13 * GIB)).verdict is Verdict.PASS
    assert memory.judge_plan(replace(boot, held_bytes=11 * GIB)).causes == ("below-plan",)


def test_memory_left_on_the_device_is_found() -> None:
    """After the last stop the device must be where it was; what a driver keeps for itself is let pass."""
    assert memory.judge_returned([], 0).verdict is Verdict.ERROR
    stop = Stop("m", "term", 1.0, 30.0)
    assert memory.judge_returned([stop], 100 << 20).verdict is Verdict.PASS
    assert memory.judge_returned([stop], 300 << 20).causes == ("memory-left",)
