"""The solver: what it finds fits, what it denies nobody finds, and wanting more never takes less."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.gpu import profile as profiles
from fixtures.planner import change, costs
from fixtures.planner.anatomy import Anatomy, Group
from fixtures.planner.card import Card
from fixtures.planner.plan import RULES, Plan, Server, seated
from fixtures.planner.seat import Ask
from fixtures.planner.solver import closest, solve
from fixtures.planner.span import GIB, Span

SHARED = ("vllm", "sglang")
FEW = settings(max_examples=40, deadline=None, derandomize=True)


@st.composite
def anatomies(draw: st.DrawFn) -> Anatomy:
    """Models of 0.2 to 12 GiB with grouped heads, some with windows."""
    layers, hidden, heads = draw(st.integers(4, 48)), 256 * draw(st.integers(2, 16)), draw(st.sampled_from([2, 4, 8]))
    window = draw(st.sampled_from([None, None, 1024]))
    full = layers if window is None else layers // 2
    groups = (Group(full, 2 * heads * 128, heads=heads), Group(layers - full, 2 * heads * 128, window, heads=heads))
    weights = draw(st.integers(200, 12_000)) * 2**20
    vocabulary = draw(st.sampled_from([32_000, 128_000]))
    return Anatomy("llama", "made-up", weights, min(weights // 4, vocabulary * hidden * 2), False, vocabulary, hidden,
                   3 * hidden, layers, hidden // 128, tuple(group for group in groups if group.layers), 131_072, "made up")


@st.composite
def servers(draw: st.DrawFn, most: int = 3, engines: tuple[str, ...] = SHARED) -> list[Server]:
    """Some models of one engine on one device."""
    engine = draw(st.sampled_from(engines))
    card = Card.of(profiles.committed()[draw(st.sampled_from(["rtx4080", "rtx5090", "h100"]))])
    asks = [Ask(f"model-{number}", engine, "", draw(anatomies()), card, costs.committed().of(engine),
                draw(st.sampled_from([512, 2048, 8192])), 0.1, draw(st.integers(1, 16)))
            for number in range(draw(st.integers(1, most)))]
    return [Server(ask, (0,)) for ask in asks]


def empty(asked: list[Server]) -> Plan:
    """A plan of nobody."""
    first = asked[0].ask
    return Plan("made-up", first.engine, "", first.card, (), ())


@FEW
@given(servers(engines=(*SHARED, "ollama", "llamacpp")))
def test_what_is_found_fits_and_is_never_above_the_card(asked: list[Server]) -> None:
    """Shares sum to at most 1, the most that all take is there, and each model has what was asked for."""
    plan = solve(empty(asked), asked)
    if plan is None:
        return
    assert plan.fit == "fits"
    assert sum(seat.ask.share for seat in plan.seats) <= 1 or plan.engine not in SHARED
    assert plan.peak().high <= plan.card.usable.low
    assert sorted(plan.order) == sorted(server.ask.model for server in asked)
    for seat in plan.seats:
        assert seat.tokens.low >= seat.ask.context * seat.ask.concurrency


@settings(max_examples=12, deadline=None, derandomize=True)
@given(servers(most=2))
def test_it_agrees_with_trying_all_shares(asked: list[Server]) -> None:
    """On a grid of hundredths some shares in some order fit exactly where the solver finds some, and none sum to less."""
    found = solve(empty(asked), asked)
    grid = [number / 100 for number in range(2, 100, 1 if len(asked) == 1 else 3)]
    fitting = [sum(shares) for order in permutations(asked) for shares in product(grid, repeat=len(order))
               if sum(shares) <= 1.0 and _fits(asked, order, shares)]
    if fitting:
        assert found is not None
        assert sum(seat.ask.share for seat in found.seats) <= min(fitting) + 1e-9
    elif found is not None:  # the grid of two is coarser than the solver
        assert len(asked) == 2


def _fits(asked: list[Server], order: tuple[Server, ...], shares: tuple[float, ...]) -> bool:
    with_shares = [replace(server, ask=replace(server.ask, share=share))
                   for server, share in zip(order, shares, strict=True)]
    return seated(empty(asked), with_shares).fit == "fits"


@FEW
@given(servers(most=1, engines=(*SHARED, "llamacpp")), st.sampled_from(["context", "concurrency"]))
def test_wanting_more_never_takes_less(asked: list[Server], what: str) -> None:
    """The smallest share grows with the context and with the concurrency; so does what a server of tokens takes."""
    ask = asked[0].ask
    more = replace(ask, context=ask.context * 2) if what == "context" else replace(ask, concurrency=ask.concurrency + 1)
    rule, free = RULES[ask.engine], ask.card.usable
    assert rule.smallest(ask, free) <= rule.smallest(more, free)
    one, two = (ask.anatomy.sequence_bytes(each.context, "auto").times(each.concurrency) for each in (ask, more))
    assert one.low <= two.low
    assert one.high <= two.high
    if solve(empty(asked), [Server(more, (0,))]) is not None:
        assert solve(empty(asked), asked) is not None


@FEW
@given(servers(most=1), st.floats(0.05, 0.85), st.floats(0.01, 0.1))
def test_a_larger_share_never_gives_fewer_tokens(asked: list[Server], share: float, more: float) -> None:
    """Tokens and memory grow with the share."""
    ask = asked[0].ask
    small, large = (RULES[ask.engine].seat(replace(ask, share=each), ask.card.usable) for each in (share, share + more))
    assert small.tokens.low <= large.tokens.low
    assert small.tokens.high <= large.tokens.high
    assert small.held.high <= large.held.high + 1


@settings(max_examples=15, deadline=None, derandomize=True)
@given(servers())
def test_where_none_is_found_each_change_makes_it_fit(asked: list[Server]) -> None:
    """A change that is offered fits with what it says, and differs from what was asked; the plan without it does not fit."""
    start = empty(asked)
    if solve(start, asked) is not None:
        return
    assert closest(start, asked).fit != "fits"
    for offered in change.find(start, asked):
        assert offered.plan.fit == "fits"
        assert {seat.ask.model for seat in offered.plan.seats} == {server.ask.model for server in asked}
        before = {server.ask.model: replace(server.ask, share=0.0) for server in asked}
        assert any(replace(seat.ask, share=0.0) != before[seat.ask.model] for seat in offered.plan.seats)


def test_the_largest_context_is_offered() -> None:
    """Of contexts that fit the largest one: the next multiple of 64 does not."""
    card = Card.of(profiles.committed()["rtx4080"])
    shape = Anatomy("llama", "made-up", 9 * GIB, GIB // 4, False, 32_000, 4096, 12_288, 32, 32,
                    (Group(32, 2 * 8 * 128, heads=8),), 131_072, "made up")
    asked = [Server(Ask("one", "vllm", "", shape, card, costs.committed().vllm, 65_536, 0.5, 4), (0,))]
    assert solve(empty(asked), asked) is None
    offered = change.find(empty(asked), asked)[0]
    context = offered.plan.seats[0].ask.context
    assert 64 <= context < 65_536
    assert f"{context:,}" in offered.words
    longer = [replace(server, ask=replace(server.ask, context=context + 64)) for server in asked]
    assert solve(empty(asked), longer) is None


@pytest.mark.parametrize("engine", SHARED)
def test_nothing_fits_a_card_without_room(engine: str) -> None:
    """Weights larger than the card: no shares, and no context helps; a larger card does."""
    card = Card.of(profiles.committed()["rtx4080"])
    shape = Anatomy("llama", "made-up", 20 * GIB, GIB, False, 32_000, 4096, 12_288, 32, 32, (Group(32, 2048, heads=8),),
                    4096, "")
    asked = [Server(Ask("one", engine, "", shape, card, costs.committed().of(engine), 1024, 0.5), (0,))]
    assert solve(empty(asked), asked) is None
    words = [offered.words for offered in change.find(empty(asked), asked)]
    assert any(word.startswith("a larger card") for word in words)
    assert not any(word.startswith("a context") for word in words)
    assert closest(empty(asked), asked).fit == "does not fit"


def test_spans_add_by_their_ends() -> None:
    """A difference is as uncertain as both together."""
    assert Span(1, 2) + Span(3, 5) == Span(4, 7)
    assert Span(4, 7) - Span(3, 5) == Span(-1, 4)
