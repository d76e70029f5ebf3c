"""The timesheet: where a run's time went, as its facts hold it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from reports.text import seconds


class _Part(BaseModel):
    # Facts outlive the version that wrote them: what is not known is left out, not refused.
    model_config = ConfigDict(frozen=True, extra="ignore")


class Boot(_Part):
    """One start of one engine, in seconds."""

    engine: str
    seconds: float


class Boots(_Part):
    """Every start of an engine: how many, how long together, and each where it was noted."""

    count: int = 0
    seconds: float = 0.0
    each: tuple[Boot, ...] = ()


class Wait(_Part):
    """A wait for a named condition, in seconds."""

    condition: str
    seconds: float


class Own(_Part):
    """The run's own share of the time."""

    seconds: float = 0.0
    percent: float = 0.0


class Timesheet(_Part):
    """Where the time went, all in seconds."""

    total: float | None = None
    setup: float = 0.0
    boots: Boots = Field(default_factory=Boots)
    generation: float = 0.0
    waits: tuple[Wait, ...] = ()
    own: Own = Field(default_factory=Own)


LONG_WAIT_S = 5.0


def lines(sheet: Timesheet) -> list[tuple[str, float, str]]:
    """What, seconds, and a remark for each part that took time; a wait above 5 s by its condition."""
    short = [wait for wait in sheet.waits if wait.seconds <= LONG_WAIT_S]
    rows = [
        ("set-up", sheet.setup, ""),
        ("boots", sheet.boots.seconds, _boots(sheet.boots)),
        ("generation", sheet.generation, ""),
        *(("waiting", wait.seconds, wait.condition) for wait in sheet.waits if wait.seconds > LONG_WAIT_S),
        ("short waits", sum(wait.seconds for wait in short), f"{len(short)} of at most {LONG_WAIT_S:.0f} s"),
        ("own work", sheet.own.seconds, f"{sheet.own.percent:.1f} %"),
    ]
    rows = [row for row in rows if row[1] > 0]
    return rows if sheet.total is None else [*rows, ("total", sheet.total, "")]


def _boots(boots: Boots) -> str:
    """`9: sglang 24 s, 23 s, 25 s; vllm 71 s, 70 s`."""
    by_engine: dict[str, list[str]] = {}
    for boot in boots.each:
        by_engine.setdefault(boot.engine, []).append(seconds(boot.seconds))
    each = "; ".join(f"{engine} {', '.join(times)}" for engine, times in by_engine.items())
    return f"{boots.count}: {each}" if each else f"{boots.count}"
