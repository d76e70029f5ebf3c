"""The catalogue: tests/faults*.toml, read into strict models."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from fixtures.configuration import Strict

FILES = sorted(Path(__file__).resolve().parent.parent.glob("faults*.toml"))
PROGRAMS = Path(__file__).resolve().parent / "programs"
MODELS = ("trilingual-2m", "trilingual-4m", "trilingual-8m")


class PlantedFault(Strict):
    """One fault with what it must do; faults.toml says what the fields mean."""

    id: str = Field(pattern=r"^[a-z0-9-]+$")
    where: Literal["wire", "program"]
    breaks: str
    model: str
    only: str = ""
    parameters: dict[str, float] = Field(default_factory=dict)
    beyond: dict[str, str] = Field(default_factory=dict)
    thief: bool = False
    long: bool = False
    fails: dict[str, tuple[str, ...]] = Field(min_length=1)
    becomes: dict[str, str] = Field(default_factory=dict)
    may_change: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _sound(self) -> PlantedFault:
        if self.model not in MODELS:
            raise ValueError(f"no model {self.model}")
        if not all(self.fails.values()):
            raise ValueError("a cell that must fail must name its causes")
        return self

    @property
    def folder(self) -> Path:
        """Where the program of this fault lies."""
        return PROGRAMS / self.id.replace("-", "_")

    def names(self, pattern: str, model: str | None, rest: str) -> bool:
        """Whether a pattern of this fault means the cell of this model (None: the deployment), `rest` check[/variant]."""
        if fnmatchcase(f"{model}/{rest}", pattern):
            return True
        return model in (None, self.model) and fnmatchcase(rest, pattern)

    def values(self, limits: Mapping[str, float]) -> dict[str, float]:
        """The parameters, those `beyond` a limit a fifth beyond it."""
        return {**self.parameters, **{name: _beyond(limit, limits[limit]) for name, limit in self.beyond.items()}}


class _File(Strict):
    fault: tuple[PlantedFault, ...] = Field(min_length=1)


@cache
def faults() -> tuple[PlantedFault, ...]:
    """Every fault of the files, in their order. Raises pydantic's ValidationError."""
    read = (_File.model_validate(tomllib.loads(file.read_text(encoding="utf-8"))) for file in FILES)
    return tuple(fault for file in read for fault in file.fault)


def _beyond(name: str, limit: float) -> float:
    """A fifth worse than the limit; for a throughput the milliseconds between tokens of one of four streams."""
    return 4 * 1000 / (limit / 1.2) if name == "throughput_min_tok_s" else 1.2 * limit
