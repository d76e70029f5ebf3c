"""Verdicts on memory: growth, ceiling, capacity and what is left, and the rounds that growth is seen in."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from fixtures.deployment.events import Boot, Stop
from fixtures.engines.failure import Failure
from fixtures.launchers.handle import Leftovers
from fixtures.load.client import Client
from fixtures.memory import growth
from fixtures.memory import judge as memory
from fixtures.memory.growth import GrowthObserved
from fixtures.verdict import Judgement, Verdict
from tests.scripted import MODEL, serving

KIB, MIB, GIB = 2**10, 2**20, 2**30
PER_ROUND = growth.REQUESTS
Shape = Callable[[int], float]


def watched(shape: Shape, base: int = 50 * MIB, noise_mib: float = 0.02, seed: int = 1) -> GrowthObserved:
    """What would have been observed of memory of this shape (bytes above `base` after each round), rounds and all."""
    randomness = random.Random(seed)
    rounds: list[int] = []
    for number in range(max(growth.LOOKS)):
        rounds.append(round(base + shape(number) + randomness.uniform(-noise_mib, noise_mib) * MIB))
        if len(rounds) in growth.LOOKS and growth.has_stopped(rounds):
            break
    return GrowthObserved(tuple(rounds), PER_ROUND)


def leak(bytes_a_request: float) -> Shape:
    """So much more with every request."""
    return lambda number: number * PER_ROUND * bytes_a_request


def settling(rounds: int, mib: float) -> Shape:
    """So much more with every round, until a cache is full."""
    return lambda number: min(number, rounds) * mib * MIB


def outcome(judgement: Judgement) -> tuple[Verdict, tuple[str, ...]]:
    """Verdict and causes; what is no pass has a reason."""
    assert judgement.verdict is Verdict.PASS or judgement.reason
    return judgement.verdict, judgement.causes


@pytest.mark.parametrize(("bytes_a_request", "base", "noise_mib"), [
    (MIB, 50 * MIB, 0.02), (MIB / PER_ROUND, 50 * MIB, 0.02), (MIB, 1600 * MIB, 5), (100_000, 50 * MIB, 0.02),
    (100_000, 1600 * MIB, 1), (100_000, 50 * MIB, 0.5),
])
def test_a_leak_is_found(bytes_a_request: float, base: int, noise_mib: float) -> None:
    """1 MiB a request, 1 MiB a round, 100 kB a request; in a small process and in the noise of a large one."""
    for seed in range(5):
        judgement = memory.judge_growth(watched(leak(bytes_a_request), base, noise_mib, seed))
        assert outcome(judgement) == (Verdict.FAIL, ("memory-grows",))


def test_a_leak_is_found_in_wild_noise() -> None:
    """100 kB a request in a process of 1.6 GB whose readings move by 5 MB either way: in 19 of 20 runs at least."""
    found = [memory.judge_growth(watched(leak(100_000), 1600 * MIB, 5, seed)).verdict for seed in range(40)]
    assert found.count(Verdict.FAIL) >= 38


@pytest.mark.parametrize("noise_mib", [0.0, 0.02, 1, 5])
def test_noise_is_no_leak(noise_mib: float) -> None:
    """A server that keeps its memory passes every time, however much its readings move."""
    judged = [memory.judge_growth(watched(lambda _: 0, 1600 * MIB, noise_mib, seed)) for seed in range(40)]
    assert {judgement.verdict for judgement in judged} == {Verdict.PASS}


def sawtooth(number: int) -> float:
    """A collector that runs every ninth round, as Ollama's does."""
    return (number % 9) * 0.4 * MIB


@pytest.mark.parametrize("shape", [
    lambda number: 300 * MIB if number == 6 else 0,
    lambda number: 20 * MIB if number >= 6 else 0,
    lambda number: (8 * MIB if number >= 7 else 0) + (8 * MIB if number >= 20 else 0),
    lambda number: -number * MIB,
    lambda number: number * PER_ROUND * 10 * KIB,
    settling(5, 30), settling(12, 1.1), settling(20, 40), sawtooth,
], ids=["one spike", "one arena", "two arenas", "shrinking", "a trickle", "a small cache", "a cache of 12 rounds",
        "a KV cache touched page by page", "a garbage collector"])
def test_what_settles_is_no_leak(shape: Shape) -> None:
    """Growth that stops, comes once, or is given back; what real engines do."""
    for seed in range(5):
        assert outcome(memory.judge_growth(watched(shape, seed=seed))) == (Verdict.PASS, ())


@pytest.mark.parametrize("mib", [
    # vLLM 0.32.0, SGLang 0.5.23 and Ollama 0.17.4 on a CPU, cold, by 12 requests a round
    [1560.94, 1565.06, 1566.12, 1567.2, 1568.26, 1569.55, 1569.55, 1569.54, 1569.49, 1569.5, 1569.52, 1569.54, 1569.69,
     1569.65, 1569.58, 1569.58, 1569.61, 1569.62, 1569.63, 1569.63, 1569.65, 1569.67],
    [2320.18, 2320.12, 2320.19, 2320.21, 2320.26, 2320.3, 2320.56, 2320.51, 2320.58, 2320.58, 2320.27],
    [52.4, 53.12, 53.65, 54.45, 52.72, 52.74, 53.02, 53.17, 53.88, 54.06, 54.66],
    [69.96, 70.31, 69.34, 68.51, 68.55, 68.82, 68.81, 69.71, 70.01, 71.16, 68.28],
])
def test_engines_that_do_not_leak_pass(mib: list[float]) -> None:
    """Real readings, and no more rounds than these are asked for."""
    observed = GrowthObserved(tuple(round(value * MIB) for value in mib), PER_ROUND)
    assert outcome(memory.judge_growth(observed)) == (Verdict.PASS, ())
    assert growth.has_stopped(observed.rounds)


def test_quiet_memory_takes_few_rounds_and_growing_memory_all() -> None:
    """Time is spent only where there is doubt."""
    assert len(watched(lambda _: 0).rounds) == min(growth.LOOKS)
    assert len(watched(leak(MIB)).rounds) == max(growth.LOOKS)


@pytest.mark.parametrize("rounds", [(), (50 * MIB,) * 5, (0,) * 33, (50 * MIB,) * 20 + (0,) + (50 * MIB,) * 12])
def test_memory_that_cannot_be_seen_is_no_pass(rounds: tuple[int, ...]) -> None:
    """Too few rounds, or a reading of nothing: an error of ours."""
    assert outcome(memory.judge_growth(GrowthObserved(rounds, PER_ROUND))) == (Verdict.ERROR, ("no-samples",))


def test_requests_that_fail_are_no_load() -> None:
    """A server that answers nothing does not grow."""
    observed = GrowthObserved((50 * MIB,) * 33, PER_ROUND, ("500 no",))
    assert outcome(memory.judge_growth(observed)) == (Verdict.FAIL, ("requests-failed",))


def test_rounds_are_asked_of_a_server_until_it_is_clear() -> None:
    """Every round is the same requests; they end where requests fail, where memory is quiet, and where it runs away."""
    with serving() as server:
        client = Client(server.url, MODEL)
        assert growth.observe(client, lambda: 7 * MIB, looks=(5, 9)) == GrowthObserved((7 * MIB,) * 5, PER_ROUND)
        sizes = iter((MIB, 2 * MIB, 9 * GIB, 10 * GIB))
        ran_away = growth.observe(client, lambda: next(sizes))
        server.fault = "5xx-for-good"
        failed = growth.observe(client, lambda: MIB)
    assert ran_away.rounds == (MIB, 2 * MIB, 9 * GIB)
    assert outcome(memory.judge_growth(ran_away)) == (Verdict.FAIL, ("memory-grows",))
    assert (len(failed.failures), failed.rounds) == (PER_ROUND, ())


@pytest.mark.parametrize(("peak", "expected"), [
    (2 * GIB, (Verdict.PASS, ())), (round(2.4 * GIB), (Verdict.FAIL, ("above-ceiling",))),
    (None, (Verdict.ERROR, ("no-samples",))), (0, (Verdict.ERROR, ("no-samples",))),
])
def test_the_ceiling(peak: int | None, expected: tuple[Verdict, tuple[str, ...]]) -> None:
    """Met passes, a fifth beyond fails, unseen is no pass."""
    assert outcome(memory.judge_ceiling(None if peak is None else (peak, peak), 2.0)) == expected


BOOT = Boot("a", "sequential", 3.0, 60.0, capacity=4096, planned=8192)


@pytest.mark.parametrize(("boot", "expected"), [
    (BOOT, (Verdict.PASS, ())),
    (replace(BOOT, capacity=3413), (Verdict.FAIL, ("capacity-too-small",))),
    (replace(BOOT, capacity=0), (Verdict.FAIL, ("capacity-too-small",))),
    (replace(BOOT, capacity=None), (Verdict.UNAVAILABLE, ("not-reported",))),
    (replace(BOOT, failure=Failure("exit-0", "it ended", "", None, "")), (Verdict.UNAVAILABLE, ("not-started",))),
])
def test_the_capacity(boot: Boot, expected: tuple[Verdict, tuple[str, ...]]) -> None:
    """What the lineup needs, as the engine tells it; not told is not passed."""
    assert outcome(memory.judge_capacity(boot, 4096)) == expected


STOP = Stop("a", "term", 0.4, 30.0, exit_code=0)


@pytest.mark.parametrize(("stop", "cause"), [
    (replace(STOP, leftovers=Leftovers(processes=("77 worker",)), held_bytes=MIB), "process-left"),
    (replace(STOP, leftovers=Leftovers(shared_bytes=8 * MIB, shared_files=("/dev/shm/x",))), "memory-left"),
    (replace(STOP, how="unload", held_bytes=50 * MIB), "memory-left"),
    (replace(STOP, how="unload", seconds=None), "process-left"),
])
def test_what_is_left_is_found_among_healthy_stops(stop: Stop, cause: str) -> None:
    """An orphan, a file in /dev/shm, a model that was not unloaded, one whose end nobody saw."""
    assert outcome(memory.judge_returned([STOP, stop, STOP])) == (Verdict.FAIL, (cause,))


def test_bookkeeping_is_no_memory() -> None:
    """SGLang leaves 16 kB in /dev/shm after every end."""
    small = replace(STOP, leftovers=Leftovers(shared_bytes=16 * KIB, shared_files=("/dev/shm/loads",)))
    assert outcome(memory.judge_returned([STOP, small])) == (Verdict.PASS, ())


def test_without_an_ordinary_stop_nothing_is_judged() -> None:
    """What a SIGKILL leaves is faults.kill's to judge, and no stop at all is no pass."""
    dirty = replace(STOP, how="kill", leftovers=Leftovers(processes=("77 worker",)))
    assert outcome(memory.judge_returned([dirty, STOP])) == (Verdict.PASS, ())
    for stops in ([], [dirty]):
        assert outcome(memory.judge_returned(stops)) == (Verdict.ERROR, ("no-samples",))
