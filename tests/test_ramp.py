"""The ramp: the highest rate that holds, found in spite of noise and not found where there is none."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.load.ramp import Outcome, highest

CAPACITIES = st.floats(0.011, 990)
PRECISIONS = st.floats(0.001, 1)


def up_to(capacity: float) -> Callable[[float], bool]:
    """A server that holds every rate up to `capacity`."""
    return lambda rate: rate <= capacity


@given(capacity=CAPACITIES, precision=PRECISIONS)
@settings(derandomize=True, deadline=None)
def test_the_highest_rate_is_found_to_the_precision(capacity: float, precision: float) -> None:
    """The truth lies between what holds and what fails, and those are no further apart than asked for."""
    ramp = highest(up_to(capacity), 0.01, 1000, precision=precision)
    assert ramp.outcome is Outcome.FOUND
    assert ramp.highest is not None
    assert ramp.failing is not None
    assert ramp.highest <= capacity < ramp.failing <= ramp.highest * (1 + precision) * (1 + 1e-12)
    assert not ramp.wavering


@given(capacity=CAPACITIES, lies=st.lists(st.integers(0, 2), min_size=200, max_size=200))
@settings(derandomize=True, deadline=None)
def test_one_wrong_measurement_at_each_rate_changes_nothing(capacity: float, lies: list[int]) -> None:
    """Be it the first try, the second or the third that lies, a failure that is none or a success that is none."""
    tried: Counter[float] = Counter()
    lie_of: dict[float, int] = {}

    def noisy(rate: float) -> bool:
        lie_of.setdefault(rate, lies[len(lie_of)])
        tried[rate] += 1
        return (rate <= capacity) != (tried[rate] - 1 == lie_of[rate])

    ramp = highest(noisy, 0.01, 1000, most_tries=600)
    assert ramp.outcome in (Outcome.FOUND, Outcome.HIGHEST_HOLDS)
    assert ramp.highest is not None
    assert ramp.highest <= capacity
    assert ramp.failing is not None
    assert capacity < ramp.failing <= ramp.highest * 1.1 * (1 + 1e-12)
    assert max(tried.values()) <= 3


@given(answers=st.lists(st.sampled_from([True, False, None]), min_size=50, max_size=50), most=st.integers(1, 50))
@settings(derandomize=True, deadline=None)
def test_any_server_ends_the_ramp_within_its_tries(answers: list[bool | None], most: int) -> None:
    """Pure noise too; and what is said follows from the tries that are shown."""
    rest = iter(answers)
    ramp = highest(lambda _: next(rest), 1, 64, most_tries=most)
    assert [one.held for one in ramp.tries] == answers[: len(ramp.tries)]
    assert 1 <= len(ramp.tries) <= most
    votes = {one.rate: [other.held for other in ramp.tries if other.rate == one.rate] for one in ramp.tries}
    if ramp.outcome is Outcome.FOUND:
        assert votes[ramp.highest or 0].count(True) >= 2
        assert votes[ramp.failing or 0].count(False) >= 2
    assert ramp.wavering == tuple(sorted(rate for rate, held in votes.items() if True in held and False in held))
    assert (ramp.outcome is Outcome.NOT_MONOTONE) <= bool(ramp.above)


def test_the_lowest_fails_and_the_highest_holds_are_told_apart() -> None:
    """Neither is a highest rate that was found; one has none, the other may have a higher one."""
    none, every = highest(up_to(0.5), 1, 100), highest(up_to(200), 1, 100)
    assert (none.outcome, none.highest, none.failing) == (Outcome.LOWEST_FAILS, None, 1)
    assert none.reason == "even 1, the lowest rate allowed, fails"
    assert (every.outcome, every.highest, every.failing) == (Outcome.HIGHEST_HOLDS, 100, None)
    assert every.reason == "even 100, the highest rate allowed, holds"


@pytest.mark.parametrize("bad", [1, 8, 16])
def test_a_rate_that_fails_below_one_that_holds_is_reported(bad: float) -> None:
    """Such a server has no highest rate; what is given is the highest below the failure."""
    ramp = highest(lambda rate: rate != bad and rate <= 40, 1, 100)
    assert (ramp.outcome, ramp.failing, ramp.above) == (Outcome.NOT_MONOTONE, bad, (2 * bad,))
    assert ramp.highest is None if bad == 1 else bad / 1.1 <= (ramp.highest or 0) < bad
    assert ramp.reason == f"{bad} fails although {2 * bad}, which is more, holds"


def test_luck_is_not_believed() -> None:
    """A highest rate that held once and then never again gives way to the next."""
    lucky = iter([True, True, True, True])
    ramp = highest(lambda rate: rate <= 5 or next(lucky, False), 4, 64)
    assert ramp.outcome is Outcome.FOUND
    assert 5 / 1.1 <= (ramp.highest or 0) <= 5
    assert ramp.wavering


def test_a_measurement_that_cannot_tell_is_not_a_failure() -> None:
    """Noise is asked again, and where it stays the ramp says that it is unsettled, with what is known."""
    seen: Counter[float] = Counter()

    def once_unclear(rate: float) -> bool | None:
        seen[rate] += 1
        return None if seen[rate] == 1 else rate <= 10

    assert highest(once_unclear, 1, 64).outcome is Outcome.FOUND
    ramp = highest(lambda rate: None if rate == 8 else True, 1, 64)
    assert (ramp.outcome, ramp.highest, ramp.failing) == (Outcome.UNSETTLED, 4, None)
    assert ramp.reason == "after 3 tries it is undecided whether 8 holds"


def test_tries_are_bounded_and_few() -> None:
    """A try is a whole load: a thousandfold range costs at most two tries an octave and three a halving."""
    assert len(highest(up_to(700), 1, 1000).tries) <= 10 + 3 + 4 * 2 + 2
    ramp = highest(up_to(700), 1, 1000, most_tries=5)
    assert (ramp.outcome, ramp.highest, len(ramp.tries)) == (Outcome.UNSETTLED, 16, 5)
    assert ramp.reason == "5 tries were not enough"


@given(capacity=st.integers(1, 299), high=st.integers(300, 1000))
@settings(derandomize=True, deadline=None)
def test_a_concurrency_is_a_whole_number(capacity: int, high: int) -> None:
    """And found exactly where the precision is finer than one."""
    ramp = highest(up_to(capacity), 1, high, precision=1e-6, whole=True)
    assert (ramp.outcome, ramp.highest, ramp.failing) == (Outcome.FOUND, capacity, capacity + 1)
    assert all(float(one.rate).is_integer() for one in ramp.tries)


def test_a_precision_beyond_that_of_floats_ends() -> None:
    """Where there is no number between what holds and what fails."""
    ramp = highest(up_to(3), 1, 10, precision=1e-300, most_tries=400)
    assert (ramp.outcome, ramp.highest) == (Outcome.FOUND, 3)


@pytest.mark.parametrize(("low", "high", "options"), [
    (0, 1, {}), (-1, 1, {}), (2, 1, {}), (1, math.inf, {}), (math.nan, 1, {}), (1, 2, {"precision": 0}),
    (1, 2, {"precision": math.nan}), (1, 2, {"most_tries": 0}), (1.5, 2, {"whole": True}),
])
def test_bounds_that_are_none_are_refused(low: float, high: float, options: dict[str, float]) -> None:
    """Before a load is sent."""
    with pytest.raises(ValueError, match=r"must|whole"):
        highest(lambda _: pytest.fail("tried"), low, high, **options)  # type: ignore[arg-type]


def test_a_fault_of_the_load_is_passed_on() -> None:
    """It is no failure of the server."""
    def broken(_: float) -> bool:
        raise OSError("no descriptors left")

    with pytest.raises(OSError, match="descriptors"):
        highest(broken, 1, 2)
