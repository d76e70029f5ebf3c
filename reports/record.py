"""The record: what one run judged, cell by cell, in the form that every report is made from."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1


class Verdict(StrEnum):
    """What a check says of one cell. Declared worst first: the order decides which one stands for many."""

    FAIL = "fail"
    ERROR = "error"
    UNEXPECTED_PASS = "unexpected-pass"
    INCONCLUSIVE = "inconclusive"
    UNAVAILABLE = "unavailable"
    WAIVED = "waived"
    PASS = "pass"

    @property
    def rank(self) -> int:
        """0 for the worst."""
        return list(Verdict).index(self)


def worst(verdicts: Iterable[Verdict]) -> Verdict | None:
    """The worst of the verdicts, or None where there is none: nothing judged is not a pass."""
    return min(verdicts, key=lambda verdict: verdict.rank, default=None)


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(_Strict):
    """One measured value with its unit, and the limit it was judged against where there is one."""

    value: float | int | str | bool | None
    unit: str = ""
    limit: float | int | str | None = None


class Cell(_Strict):
    """One verdict with its key (the first ten fields) and the evidence behind it.

    `model` is None where the check is about the whole deployment; `evidence` are paths relative to the run's folder.
    """

    machine: str
    device: str
    profile: str
    engine: str
    version: str
    build: str
    launcher: str
    lineup: str
    model: str | None
    check: str
    variant: str
    verdict: Verdict
    causes: tuple[str, ...] = ()
    reason: str = ""
    cure: str = ""
    figures: dict[str, Figure] = Field(default_factory=dict)
    evidence: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str | None, ...]:
        """What no two cells of one run share (`build` is a description, not part of it)."""
        return (
            self.machine,
            self.device,
            self.profile,
            self.engine,
            self.version,
            self.launcher,
            self.lineup,
            self.model,
            self.check,
            self.variant,
        )

    @property
    def name(self) -> str:
        """profile/launcher/engine/lineup[/model]/check[/variant], as waivers and test ids write it."""
        parts = (self.profile, self.launcher, self.engine, self.lineup, self.model, self.check, self.variant)
        return "/".join(part for part in parts if part)

    @property
    def promise(self) -> str:
        """The family of the check: `api` of `api.contract`."""
        return self.check.partition(".")[0]


class Matrix(_Strict):
    """A whole run as matrix.json holds it."""

    schema_: int = Field(default=SCHEMA_VERSION, alias="schema")
    run: dict[str, Any]
    cells: tuple[Cell, ...]

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
