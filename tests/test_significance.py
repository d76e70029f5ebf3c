"""Noise is told from change as Student's tables and Holm's correction have it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.significance import Runs, change, holm, noise, pooled, quantile, resolution, tail
from tests.cells import steady

# one-sided, from the tables of Student's t: degrees of freedom, level, t
TABLE = [(1, 0.05, 6.3138), (2, 0.05, 2.9200), (3, 0.01, 4.5407), (4, 0.05, 2.1318), (4, 0.001, 7.1732), (5, 0.005, 4.0321),
         (9, 0.01, 2.8214), (10, 0.0005, 4.5869), (30, 0.025, 2.0423)]


@pytest.mark.parametrize(("degrees", "level", "t"), TABLE)
def test_students_t(degrees: int, level: float, t: float) -> None:
    """The tail and its inverse agree with the printed tables."""
    assert tail(t, degrees) == pytest.approx(level, rel=1e-3)
    assert quantile(level, degrees) == pytest.approx(t, rel=1e-4)
    assert tail(-t, degrees) == pytest.approx(1 - level, abs=1e-4)


def test_holm() -> None:
    """The smallest chance is held against level / m, the next against level / (m - 1), up to the first that fails."""
    assert holm({"a": 0.01, "b": 0.013, "c": 0.03, "d": 0.005}, 0.05) == {"a", "b", "c", "d"}
    assert holm({"a": 0.02, "b": 0.013, "c": 0.03}, 0.05) == {"b", "a", "c"}
    assert holm({"a": 0.03, "b": 0.02, "c": 0.03}, 0.05) == frozenset()
    assert holm({}, 0.05) == frozenset()


def test_resolution() -> None:
    """The step of rounding is read from the decimals."""
    assert resolution((3.14, 3.1)) == pytest.approx(0.01)
    assert resolution((8192.0, 4096.0)) == 1


def test_rounding_is_noise() -> None:
    """Five values that are equal only because they are rounded do not make the next step a change."""
    before, now = Runs((0.01,) * 5), Runs((0.02,))
    found = change(before, now, noise(before, now), lower_is_better=True)
    assert found.worse == pytest.approx(1.0)
    assert found.p > 0.01
    whole = Runs((8192.0,) * 5)
    assert change(whole, Runs((4096.0,)), noise(whole, Runs((4096.0,))), lower_is_better=False).p < 1e-9


def test_samples_within_a_run_are_a_floor() -> None:
    """Runs that agree by luck are no quieter than the samples of each say."""
    values, error = (100.0, 100.1, 99.9, 100.2, 100.0), 8.0
    lucky, honest = Runs(values), Runs(values, (error,) * 5)
    now = Runs((120.0,))
    assert noise(lucky, now) < 0.002
    assert noise(honest, now) == pytest.approx(0.08, rel=0.01)


@steady
@given(st.lists(st.floats(0.5, 2.0), min_size=5, max_size=8), st.floats(0.5, 2.0), st.floats(1.0, 3.0), st.booleans())
def test_worse_is_never_less_likely(values: list[float], now: float, factor: float, lower: bool) -> None:
    """A worse value has no larger chance to be noise, in either direction of better."""
    before, worse = Runs(tuple(values)), now * factor if lower else now / factor
    one, other = (change(before, Runs((value,)), 0.05, lower_is_better=lower) for value in (now, worse))
    assert other.p <= one.p + 1e-12
    assert other.worse >= one.worse - 1e-9


def test_detectable_is_where_it_shows() -> None:
    """A change of just the named share is told at that level, one a little smaller is not."""
    before = Runs((100.0, 101.0, 99.0, 102.0, 98.0))
    spread = noise(before, Runs((100.0,)))
    least = change(before, Runs((100.0,)), spread, lower_is_better=True).detectable(0.001)
    for share, told in ((least * 1.02, True), (least * 0.98, False)):
        now = Runs((before.mean * (1 + share),))
        assert (change(before, now, spread, lower_is_better=True).p <= 0.001) is told
    assert math.isfinite(least)


def test_pooled() -> None:
    """The root mean square."""
    assert pooled([0.03, 0.04]) == pytest.approx(math.sqrt(0.00125))
