"""The measure: what kind a figure is and which way is better, from its unit, its name and the side of its limit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from reports.record import Figure


class Kind(StrEnum):
    """Decides where two values can be compared: memory on the same type of device, the rest on the same device."""

    TIME = "time"
    RATE = "rate"
    ENERGY = "energy"
    MEMORY = "memory"
    SHARE = "share"
    OTHER = "other"


class Measure(NamedTuple):
    """A kind and whether lower is better."""

    kind: Kind
    lower_is_better: bool


_UNITS = {
    **dict.fromkeys(("ms", "s", "ms a token"), Measure(Kind.TIME, True)),
    **dict.fromkeys(("tok/s", "tok/s, one stream", "requests/s"), Measure(Kind.RATE, False)),
    **dict.fromkeys(("GiB", "MiB", "KiB", "KiB a request"), Measure(Kind.MEMORY, True)),
    "J per token": Measure(Kind.ENERGY, True),
    "of requests": Measure(Kind.SHARE, False),
}
_CAPACITY = re.compile(r"(^| )kv_tokens$")
# What tells of the client, the machine, the plan or the length of a test, but not of the engine.
_OF_OTHERS = re.compile(r"(client_lag|late|wake)_p\d+_ms|planned_gib|weights_mib|size_vram_mib|seconds")
_BOUND = re.compile(r"(.+)_(?:low|high)(_ms)?")
_ENDING = re.compile(r"(.+?)(_ms)?")


def of(name: str, unit: str, limit: float | None, values: Sequence[float]) -> Measure | None:
    """The measure of a figure whose values all kept its limit; None where the better way is not known.

    Where a limit that is a least amount meets a unit of which less is better, more of it is neither: it is not compared.
    """
    by_unit = Measure(Kind.MEMORY, False) if _CAPACITY.search(name) and unit == "tokens" else _UNITS.get(unit)
    if limit is None:
        return None if _OF_OTHERS.fullmatch(name) else by_unit
    side = _side(limit, values)
    if by_unit is None:
        return None if side is None else Measure(Kind.OTHER, side)
    return None if side not in (None, by_unit.lower_is_better) else by_unit


def _side(limit: float, values: Sequence[float]) -> bool | None:
    """Whether the limit is a most (True) or a least, None where the values lie on it or on both sides."""
    below, above = any(value < limit for value in values), any(value > limit for value in values)
    return None if below == above else below


def numbers(figures: Mapping[str, Figure]) -> Iterator[tuple[str, Figure, float]]:
    """The figures that are numbers, without those that are the ends of another one's interval."""
    for name, figure in figures.items():
        bound = _BOUND.fullmatch(name)
        if bound and f"{bound[1]}{bound[2] or ''}" in figures:
            continue
        if (value := number(figure.value)) is not None:
            yield name, figure, value


def number(value: object) -> float | None:
    """As a float; None of what is no number (a truth value is none)."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def error(name: str, figures: Mapping[str, Figure]) -> float | None:
    """The standard error of a figure, in its own unit, from the 95 % interval that is recorded beside it; else None."""
    parts = _ENDING.fullmatch(name)
    stem, ending = (parts[1], parts[2] or "") if parts else (name, "")
    ends = [figures.get(f"{stem}_{end}{ending}") for end in ("low", "high")]
    low, high = (number(end.value) if end else None for end in ends)
    return None if low is None or high is None else max(0.0, high - low) / (2 * 1.96)


def is_judged(name: str, limit: float | None) -> bool:
    """Whether a figure is among those that say most: what was promised, and medians, which vary least."""
    return limit is not None or "_p50_" in name
