"""Whether a figure is worse than in the baseline's runs by more than chance: Student's t between runs, Holm's correction.

A run is the unit: its thousands of gaps share one start of one server on one machine, so they are not independent and say
less than their number promises. What they do say, the standard error of the run's figure, is a floor of the noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import fmean
from typing import TypeVar

FEWEST = 5  # runs of a baseline: below, five standard deviations of the sample hide any change
_ROUNDED = math.sqrt(12)  # a value rounded to steps of q has an error of q / sqrt(12)

Key = TypeVar("Key")


@dataclass(frozen=True)
class Runs:
    """One figure of several runs: a value of each, above zero, and the standard error of each value as far as it is known.

    An error is in the figure's own unit and comes from the samples within that run; None where the record has none.
    """

    values: tuple[float, ...]
    errors: tuple[float | None, ...] = field(default=())

    @property
    def logs(self) -> list[float]:
        """Their logarithms: a slow-down is a factor, and so is the noise of times and rates."""
        return [math.log(value) for value in self.values]

    @property
    def mean(self) -> float:
        """Their geometric mean."""
        return math.exp(fmean(self.logs))

    def floor(self, step: float) -> float:
        """The least noise of one value, as a share of it: of its own samples, and of rounding to `step`."""
        known = [error / value for error, value in zip(self.errors, self.values, strict=False) if error is not None]
        return max(fmean(known) if known else 0.0, max(step / value for value in self.values) / _ROUNDED)


@dataclass(frozen=True)
class Change:
    """What became of one figure. `worse` is a share of the baseline, below zero where it is better; `beyond` the same of
    the baseline's worst run, `width` what lies between that and its best; `p` is the chance that noise alone makes it look
    as bad, `noise` that of one run as a share."""

    worse: float
    beyond: float
    width: float
    p: float
    noise: float
    degrees: int
    spread: float

    def detectable(self, level: float) -> float:
        """The least share by which it would have to be worse to be told from noise at this level."""
        return math.expm1(min(quantile(level, self.degrees) * self.noise * self.spread, 50.0))


def noise(before: Runs, now: Runs, step: float = 0.0) -> float:
    """The standard deviation of one run's value, as a share of it, from both sides; at least what rounding and the samples
    within the runs explain. Values must be above zero, and those before at least two. `step` is the least step of the
    measurement, in the figure's unit, where it is coarser than what the values are rounded to."""
    old, new = before.logs, now.logs
    squares = sum((one - fmean(logs)) ** 2 for logs in (old, new) for one in logs)
    step = max(step, resolution((*before.values, *now.values)))
    return max(math.sqrt(squares / (len(old) + len(new) - 2)), before.floor(step), now.floor(step))


def change(before: Runs, now: Runs, spread: float, *, lower_is_better: bool) -> Change:
    """Hold the new runs' values against the baseline's, one-sided, on logarithms, with this much noise of one run.

    A single new run is held against the heavy tail of four degrees of freedom however long the baseline is: run-to-run noise
    is not normal, and one run alone may be the odd one out.
    """
    old, new, sign = before.logs, now.logs, 1.0 if lower_is_better else -1.0
    difference = sign * (fmean(new) - fmean(old))
    degrees = len(old) + len(new) - 2
    degrees = min(degrees, FEWEST - 1) if len(new) == 1 else degrees
    both = math.sqrt(1 / len(old) + 1 / len(new))
    p = tail(difference / (spread * both), degrees) if spread else float(difference <= 0)
    worst = max(sign * one for one in old)
    width = _share(max(old) - min(old))
    return Change(_share(difference), _share(sign * fmean(new) - worst), width, p, spread, degrees, both)


def pooled(spreads: Sequence[float]) -> float:
    """The noise that like figures of several models have together, as a root mean square.

    Five runs that agree by luck make a figure look quieter than it is; its like in other cells tell what is usual.
    """
    return math.sqrt(fmean(spread**2 for spread in spreads))


def _share(difference: float) -> float:
    return math.expm1(min(difference, 50.0))


def resolution(values: Sequence[float]) -> float:
    """The step that values were rounded to, as far as their decimals show: 1 for whole numbers, 0.01 for 3.14."""
    return min(10.0 ** -_decimals(value) for value in values)


def _decimals(value: float) -> int:
    written = repr(float(value))
    if "e" in written or written.endswith(".0"):
        return 0 if "e-" not in written else 15
    return len(written.partition(".")[2])


def holm(chances: Mapping[Key, float], level: float) -> frozenset[Key]:
    """Those that hold at this level for all of them together (Holm 1979).

    Not Benjamini-Hochberg: that bounds the share of false ones among many findings, but one false finding shuts a gate, and
    what must be bounded is the chance of any. Holm's does so however the figures depend on each other, as those of a run do.
    """
    found: list[Key] = []
    for place, (key, chance) in enumerate(sorted(chances.items(), key=lambda pair: pair[1])):
        if chance > level / (len(chances) - place):
            break
        found.append(key)
    return frozenset(found)


def tail(t: float, degrees: int) -> float:
    """The chance that Student's t with so many whole degrees of freedom is above `t` (Abramowitz, Stegun 26.7.3-4)."""
    if t < 0:
        return 1.0 - tail(-t, degrees)
    angle = math.atan2(t, math.sqrt(degrees))
    sine, square = math.sin(angle), math.cos(angle) ** 2
    odd = degrees % 2
    term = total = (math.cos(angle) if odd else 1.0) if degrees > 1 else 0.0
    for number in range(3 if odd else 2, degrees - 1, 2):
        term *= square * (number - 1) / number
        total += term
    inside = (2 / math.pi) * (angle + sine * total) if odd else sine * total
    return max(0.0, (1.0 - inside) / 2)


@lru_cache(maxsize=4096)
def quantile(level: float, degrees: int) -> float:
    """The t above which lies this share, by bisection."""
    low, high = 0.0, 1e6
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(middle, degrees) > level else (low, middle)
    return high
