"""Bounds from a device's total alone: the truth lies within them, and one group alone is known exactly."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.gpu.attribution import Step, bounds

NOBODY: frozenset[str] = frozenset()
A, B, AB = frozenset("a"), frozenset("b"), frozenset("ab")
Held = dict[str, int]


def last(*steps: tuple[float, int, frozenset[str]]) -> dict[str, tuple[int, int]]:
    """The bounds after the last of these."""
    return dict(bounds(Step(*step) for step in steps)[-1].held)


def test_one_group_alone_is_known_exactly() -> None:
    """Whatever it takes and gives back is its own."""
    assert last((0, 0, NOBODY), (1, 0, A), (2, 9, A), (3, 4, A)) == {"a": (4, 4)}


def test_what_was_taken_while_two_lived_may_be_either_ones() -> None:
    """The first keeps what it had alone; only what came since is open."""
    assert last((0, 0, NOBODY), (1, 5, A), (2, 5, AB), (3, 8, AB)) == {"a": (5, 8), "b": (0, 3)}


def test_the_end_of_one_tells_what_the_other_holds() -> None:
    """What is left is the survivor's."""
    assert last((0, 0, NOBODY), (1, 5, A), (2, 9, AB), (3, 6, A)) == {"a": (5, 6), "b": (0, 1)}
    assert last((0, 0, NOBODY), (1, 5, A), (2, 9, AB), (3, 5, A)) == {"a": (5, 5), "b": (0, 0)}


def test_memory_given_back_by_a_process_that_is_still_seen_dying_is_its_own() -> None:
    """The driver is faster than the process table."""
    assert last((0, 0, NOBODY), (1, 5, A), (2, 9, AB), (3.0, 5, AB), (3.5, 5, A), (9, 6, A)) == {"a": (6, 6), "b": (0, 0)}


def test_what_a_dead_group_did_not_give_back_is_still_its_own() -> None:
    """Alone, a leak past its end is certain."""
    assert last((0, 0, NOBODY), (1, 5, A), (2, 2, NOBODY)) == {"a": (2, 2)}


def test_what_came_before_the_process_was_known_is_counted_at_most() -> None:
    """It may have been its boot, or somebody else."""
    assert last((0, 0, NOBODY), (1, 5, NOBODY), (2, 5, A), (3, 6, A))["a"] == (1, 6)


EVENTS = st.lists(st.tuples(st.sampled_from(["start", "grow", "shrink", "end", "linger"]), st.sampled_from("abc"),
                            st.integers(1, 9)), max_size=14)


def played(events: list[tuple[str, str, int]]) -> list[tuple[Step, Held]]:
    """What is seen of these events, one a time, and what is true."""
    holding: Held = {}
    alive: set[str] = set()
    seen: list[tuple[Step, Held]] = [(Step(0, 0, NOBODY), {})]

    def look() -> None:
        at = 10.0 * len(seen)
        seen.append((Step(at, sum(holding.values()), frozenset(alive)), dict(holding)))

    for what, name, size in events:
        if what == "start":
            alive.add(name)
        elif name in alive and what in ("end", "linger"):
            holding[name] = 0
            if what == "linger":
                look()
                step, truth = seen.pop()
                seen.append((Step(10.0 * len(seen) + 9, step.total, step.alive), truth))
            alive.discard(name)
        elif name in alive:
            holding[name] = max(0, holding.get(name, 0) + (size if what == "grow" else -size))
        look()
    return seen


@settings(max_examples=300, derandomize=True, deadline=None)
@given(EVENTS)
def test_the_truth_lies_within_the_bounds(events: list[tuple[str, str, int]]) -> None:
    """At every step, for every group, however they start, grow, shrink and end."""
    seen = played(events)
    for (_, truth), found in zip(seen, bounds(step for step, _ in seen), strict=True):
        for name, (low, high) in found.held.items():
            assert low <= truth.get(name, 0) <= high, (name, found)
