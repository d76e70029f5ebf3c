"""The files beside a matrix as models: what run.json, a cell's evidence and a deployment's memory hold at least."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from reports.comparison import Comparison
from reports.facts import Facts
from reports.policy import Policy
from reports.record import Figure, Verdict
from reports.waived import Waived


class _Open(BaseModel):
    # More may stand beside what is named here: a reader must not be broken by what a later version adds.
    model_config = ConfigDict(extra="allow")


class RunFile(Facts):
    """run.json, and `run` of a matrix.json. What a killed run had no time for is not there.

    `arguments` are those of the command, `planned` how many cells it was to judge, `selection` and `circumstances` what a
    run must have in common with one that goes on with it, `continued` the parts that did. Sizes are in GiB.
    """

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    id: str
    started: str
    arguments: list[str] = Field(default_factory=list)
    engine_arguments: dict[str, list[str]] = Field(default_factory=dict)
    machine: str = ""
    cpu: str = ""
    memory_gib: float | None = None
    kernel: str = ""
    python: str = ""
    gpus: list[dict[str, Any]] = Field(default_factory=list)
    driver: str = ""
    cuda: str = ""
    selection: dict[str, Any] = Field(default_factory=dict)
    circumstances: dict[str, str] = Field(default_factory=dict)
    planned: int | None = None
    policy: Policy | None = None
    baseline: Comparison | None = None
    waivers: tuple[Waived, ...] | None = None
    spent: list[dict[str, Any]] = Field(default_factory=list)
    continued: list[dict[str, Any]] = Field(default_factory=list)


class Evidence(_Open):
    """logs/cells/*.json: the figures of one cell with the samples that they were made from, and how to judge it again.

    `command` are the command lines of the servers that ran then, `how_to_repeat` the one that judges this cell alone.
    """

    cell: str
    verdict: Verdict
    causes: list[str]
    reason: str
    figures: dict[str, Figure]
    samples: dict[str, Any]
    command: list[str]
    how_to_repeat: str
    environment: str | None


class Device(_Open):
    """logs/*-device.json: what each model held over time as [seconds since the start, MiB], and when each phase began.

    `attribution` says how: by process or by device as NVML told it, `pss` of processes without a device.
    """

    devices: list[dict[str, Any]]
    attribution: str
    cost_share_of_a_core: float
    readings: int
    phases: list[tuple[float, str]]
    peak_mib_by_phase: dict[str, dict[str, float]]
    mib_by_model: dict[str, list[tuple[float, float]]]
    baseline_mib: float = 0.0
    foreign_peak_mib: float = 0.0
    uncertainty_mib: float = 0.0
    fault: str = ""
    xids: list[str] | None = None
