"""The comparison: what came of holding a run against a baseline, as it stands in the run's facts for every report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from reports.facts import FactsError
from reports.text import count, some, visible

FACT = "baseline"  # the key of a run's facts under which it stands
NAMES_SHOWN = 3

What = Literal["verdict", "vanished", "figure", "figure-vanished"]


class _Recorded(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Regression(_Recorded):
    """One cell that is worse than it was, in a sentence."""

    what: What
    cell: str
    deployment: str
    sentence: str


class Comparison(_Recorded):
    """A run held against a baseline: as it stands in the facts of the run, so that every report says the same later.

    `compared` figures were, `untold` ones could not be: of another machine, a busy one, or without a value.
    """

    name: str
    sha256: str
    runs: int
    compared: int = 0
    untold: int = 0
    regressions: tuple[Regression, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def clause(self) -> str:
        """What the gate's sentence says of regressions; empty where there is none."""
        if not self.regressions:
            return ""
        counts = Counter(regression.what for regression in self.regressions)
        words: dict[What, str] = {
            "vanished": "vanished", "verdict": "not pass any more", "figure": "worse by more than tolerance and noise",
            "figure-vanished": "without a figure that was there"}
        kinds = ", ".join(f"{counts[what]} {said}" for what, said in words.items() if what in counts)
        named = list(dict.fromkeys(_short(regression) for regression in self.regressions))
        return (f"{count(len(self.regressions), 'regression')} against baseline {visible(self.name, 80)}: {kinds} "
                f"({some(named, NAMES_SHOWN)})")

    def facts(self) -> dict[str, Any]:
        """For `Run.finish(baseline=…)`."""
        return self.model_dump(mode="json")


def recorded(run: Mapping[str, Any]) -> tuple[Comparison, ...]:
    """The comparisons that a run's facts hold: none, its own, or of merged runs each one's as far as it still holds.

    What a run said of a cell holds no more when a newer one judged that cell again. Raises FactsError.
    """
    merged = run.get("merged")
    own = run.get(FACT)
    if own is not None or not isinstance(merged, list | tuple):
        return () if own is None else (_of(own),)
    superseded = {(older.get("run"), _name(older)) for older in run.get("superseded") or () if isinstance(older, dict)}
    found = []
    for one in merged:
        for comparison in recorded(one):
            kept = tuple(bad for bad in comparison.regressions if (one.get("id"), bad.cell) not in superseded)
            found.append(comparison.model_copy(update={"regressions": kept}))
    return tuple(found)


def _of(fact: Any) -> Comparison:
    try:
        return Comparison.model_validate(fact)
    except ValidationError as fault:
        problem = fault.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise FactsError(f"run.{FACT}.{where}: {problem['msg']}") from None


def _name(older: Mapping[str, Any]) -> str:
    cell = older.get("cell")
    keys = ("profile", "launcher", "engine", "lineup", "model", "check", "variant")
    return "/".join(str(cell[key]) for key in keys if cell.get(key)) if isinstance(cell, dict) else ""


def _short(regression: Regression) -> str:
    """Engine and check."""
    _, _, engine, *rest = (*regression.cell.split("/"), "", "", "")
    check = next((part for part in reversed(rest) if "." in part), "")
    return visible(f"{engine} {check}".strip(), 80)
