"""The record: what one run judged, cell by cell, in the form that every report is made from."""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

SCHEMA_VERSION: Literal[1] = 1


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


def _writable(value: object) -> object:
    # JSON from an engine may hold half a surrogate pair, which no UTF-8 file can; its escape says what was there.
    return value.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(value, str) else value


def _finite(value: object) -> object:
    # JSON has neither NaN nor infinity: such a figure has no value, and its reason says why.
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return _writable(value)


Text = Annotated[str, BeforeValidator(_writable)]


class _Strict(BaseModel):
    # What is written holds every field, so the schema of the written form may ask for them all.
    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_serialization_defaults_required=True)


class Figure(_Strict):
    """One measured value with its unit, and the limit it was judged against where there is one.

    NaN and infinity, which JSON cannot hold, are kept as None.
    """

    value: Annotated[float | int | str | bool | None, BeforeValidator(_finite)]
    unit: Text = ""
    limit: Annotated[float | int | str | None, BeforeValidator(_finite)] = None


class Cell(_Strict):
    """One verdict with its key (the first eleven fields but `build`) and the evidence behind it.

    `model` is None where the check is about the whole deployment; `evidence` are paths relative to the run's folder.
    """

    machine: Text
    device: Text
    profile: Text
    engine: Text
    version: Text
    build: Text
    launcher: Text
    lineup: Text
    model: Text | None
    check: Text
    variant: Text
    verdict: Verdict
    causes: tuple[Text, ...] = ()
    reason: Text = ""
    cure: Text = ""
    figures: dict[Text, Figure] = Field(default_factory=dict)
    evidence: tuple[Text, ...] = ()

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

    schema_: Literal[1] = Field(default=SCHEMA_VERSION, alias="schema")
    run: dict[str, Any]
    cells: tuple[Cell, ...]

    model_config = ConfigDict(populate_by_name=True)
