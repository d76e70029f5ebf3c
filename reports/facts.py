"""The facts of a run: what reports and the gate read of run.json, beside whatever else a run notes there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reports.timesheet import Timesheet


class FactsError(ValueError):
    """Facts of the wrong shape, in one sentence."""


class Facts(BaseModel):
    """What is known of a run; times are ISO 8601 in UTC. More keys may stand beside these.

    `require` is what each lineup requires (promises or check ids); `finished` is empty until the run came to its end;
    `interrupted` says that it was stopped. `seconds` are what each cell took, by `name@version`. A merged
    matrix holds its runs' facts in `merged` and, in `superseded`, the cells that a newer run judged again.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    id: str = ""
    started: str | None = None
    finished: str | None = None
    interrupted: bool = False
    require: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    timesheet: Timesheet | None = None
    seconds: dict[str, float] = Field(default_factory=dict)
    merged: tuple[Facts, ...] = ()
    superseded: tuple[dict[str, Any], ...] = ()

    @property
    def unfinished(self) -> str:
        """Why the run did not come to its end, as a clause; empty where it did."""
        if self.merged:
            broken = [run for run in self.merged if run.unfinished]
            return f"{len(broken)} of {len(self.merged)} merged runs did not finish" if broken else ""
        if self.interrupted:
            return "the run was interrupted"
        return "" if self.finished else "the run did not finish"


def of(run: Mapping[str, Any]) -> Facts:
    """The facts of `Matrix.run`. Raises FactsError."""
    try:
        return Facts.model_validate(dict(run))
    except ValidationError as fault:
        problem = fault.errors()[0]
        raise FactsError(f"run.{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}") from None
