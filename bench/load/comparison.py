"""The comparison: every client on the same schedules, and the bars that ours has to hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median

from bench.load import measure
from bench.load.clients import Client, Load
from bench.load.errors import Errors, errors
from bench.load.peers import Unavailable
from bench.load.server import Schedule
from fixtures.setup.environment import Say

TOKENS = 128
SHORTEST_CPU_S = 0.05  # five of the ticks that the kernel counts in
ENOUGH = 320  # answers a level: p99 of fewer than 300 is the worst but a few
TEN = Load(10, 10, 16)
FLOOD = Load(64, 1280, 500)


@dataclass(frozen=True)
class Level:
    """One client at one number of streams.

    `busy_cpu_s` is its processor time while the streams ran, `whole_cpu_s` that of the whole process less the start-up:
    what it puts off until afterwards is only in the second.
    """

    streams: int
    errors: Errors
    tokens: int
    busy_cpu_s: float
    whole_cpu_s: float
    slips: int
    jitter_ms: float
    remarks: str

    @property
    def tokens_per_core(self) -> tuple[float | None, float | None]:
        """Tokens a second of processor time, while the streams ran and all told; None for what is too short to tell."""
        busy, whole = (self.tokens / cpu_s if cpu_s > SHORTEST_CPU_S else None
                       for cpu_s in (self.busy_cpu_s, self.whole_cpu_s))
        return busy, whole


@dataclass(frozen=True)
class Flood:
    """One flood: tokens a second that were read, and that were read and parsed.

    `server_share` and `client_share` are the cores that the two took while it ran.
    """

    tokens_per_s: float
    parsed_per_s: float
    server_share: float
    client_share: float


@dataclass
class Outcome:
    """What became of one client. `refusals` say why a part is missing, by part."""

    client: Client
    levels: list[Level] = field(default_factory=list)
    ten_s: list[float] = field(default_factory=list)
    ten_cpu_s: list[float] = field(default_factory=list)
    floods: dict[int, list[Flood]] = field(default_factory=dict)  # by events a send
    refusals: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    streams: Sequence[int]
    ten_runs: int = 3
    flood_runs: int = 5
    flood_batches: Sequence[int] = (1, 16)


def compare(clients: Sequence[Client], plan: Plan, say: Say) -> list[Outcome]:
    """Measure part by part, in each part one client after the other: a machine that slows down hits all of them."""
    outcomes = [Outcome(client) for client in clients]
    for outcome in outcomes:
        _try(outcome, "set-up", say, lambda outcome: outcome.client.ready(say))
    there = [outcome for outcome in outcomes if "set-up" not in outcome.refusals]
    for number in range(plan.ten_runs):
        _each(there, number, f"ten requests ({number + 1} of {plan.ten_runs})", "ten requests", say, _ten)
    for streams in plan.streams:
        _each(there, 0, f"{streams} streams", f"{streams} streams", say, partial(_level, streams))
    for number in range(plan.flood_runs):
        for batch in plan.flood_batches:
            words = f"flood, {batch} a send ({number + 1} of {plan.flood_runs})"
            _each(there, number, words, f"flood {batch}", say, partial(_flood, batch))
    return outcomes


def _each(outcomes: Sequence[Outcome], number: int, words: str, part: str, say: Say,
          step: Callable[[Outcome], None]) -> None:
    for outcome in outcomes if number % 2 == 0 else outcomes[::-1]:
        if part not in outcome.refusals:
            say(f"{words}: {outcome.client.name}")
            _try(outcome, part, say, step)


def _try(outcome: Outcome, part: str, say: Say, step: Callable[[Outcome], None]) -> None:
    try:
        step(outcome)
    except Unavailable as refusal:
        outcome.refusals[part] = str(refusal)
        say(f"{outcome.client.name}, {part}: unavailable: {refusal}")


def _ten(outcome: Outcome) -> None:
    run = measure.run(outcome.client, TEN, Schedule())
    outcome.ten_s.append(run.cost.wall_s)
    outcome.ten_cpu_s.append(run.cost.cpu_s)


def _level(streams: int, outcome: Outcome) -> None:
    rounds = max(2, -(-ENOUGH // streams))  # the first round alone would be of fresh connections only
    run = measure.run(outcome.client, Load(streams, rounds * streams, TOKENS), Schedule())
    start_up = median(outcome.ten_cpu_s) if outcome.ten_cpu_s else 0.0
    outcome.levels.append(Level(streams, errors(run), run.truth.tokens, run.busy_cpu_s, run.cost.cpu_s - start_up,
                                run.truth.slips, 1000 * run.truth.jitter_p99_s, run.told.remarks))


def _flood(batch: int, outcome: Outcome) -> None:
    run = measure.run(outcome.client, FLOOD, Schedule(0, 0, batch))
    found = errors(run)
    if found.unmatched or found.merged:
        raise Unavailable(f"{found.unmatched} of its answers are not the server's, {found.merged} lack tokens")
    shares = run.truth.cpu_s / run.truth.busy_s, run.busy_cpu_s / run.truth.busy_s
    outcome.floods.setdefault(batch, []).append(Flood(run.tokens_per_s, run.parsed_per_s, *shares))
