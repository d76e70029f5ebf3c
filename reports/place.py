"""The place of a run: machine, devices, driver, engines and lineups, as far as they decide what can be compared."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from reports.record import Cell, Matrix
from reports.redact import redact
from reports.text import visible

_PATH = re.compile(r"(?<![\w.:/])~?(?:/[^\s/:;,'\"]+)+/([^\s/:;,'\"]+)")


class Place(BaseModel):
    """Where and with what a run was made: `devices` by profile, versions and builds of `engines`, digests of `lineups`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    machines: tuple[str, ...] = ()
    cpu: str = ""
    memory_gib: float | None = None
    devices: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    gpus: tuple[str, ...] = ()
    driver: str = ""
    cuda: str = ""
    kernel: str = ""
    engines: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    lineups: dict[str, str] = Field(default_factory=dict)


HARDWARE = ("machines", "cpu", "memory_gib", "gpus")
_WORDS = {"machines": "machine", "memory_gib": "memory in GiB", "gpus": "GPUs", "cpu": "processor"}


def of(matrix: Matrix) -> Place:
    """The place of one run, or of all that a merged matrix was made of."""
    runs = matrix.run.get("merged") or [matrix.run]
    known = {name: value for run in runs for name, value in run.items() if value is not None}
    circumstances = known.get("circumstances") or {}
    return Place(
        machines=_each(cell.machine for cell in matrix.cells), cpu=str(known.get("cpu", "")),
        memory_gib=known.get("memory_gib"), devices=_by("profile", "device", matrix.cells),
        gpus=tuple(sorted({uuid for run in runs for uuid in uuids(run)})),
        **{name: str(known.get(name, "")) for name in ("driver", "cuda", "kernel")},
        engines=_engines(matrix.cells),
        lineups={name.removeprefix("lineup "): str(digest) for name, digest in sorted(circumstances.items())
                 if name.startswith("lineup ")})


def differences(before: Place, now: Place) -> list[str]:
    """What is not the same, a clause each; what one of the two does not say is no difference."""
    found = []
    for name in Place.model_fields:
        old, new = getattr(before, name), getattr(now, name)
        if isinstance(old, dict):
            found += [f"{name.removesuffix('s')} {key} was {_said(old[key])}, is {_said(new[key])}"
                      for key in sorted(old.keys() & new.keys()) if old[key] != new[key]]
        elif old and new and old != new:
            found.append(f"{_WORDS.get(name, name)} was {_said(old)}, is {_said(new)}")
    return found


def same_machine(before: Place, now: Place, cell: Cell) -> bool:
    """Whether times of this cell can be held against the baseline's: the same machine, hardware and device."""
    hardware = all(not getattr(before, name) or not getattr(now, name) or getattr(before, name) == getattr(now, name)
                   for name in HARDWARE[1:])
    return hardware and cell.machine in before.machines and same_device(before, cell)


def same_device(before: Place, cell: Cell) -> bool:
    """Whether the cell was judged on the type of device that the baseline names for its profile."""
    return cell.device in before.devices.get(cell.profile, ())


def without_paths(words: str) -> str:
    """Words without secrets and with only the last part of each path: a repository tells nobody's folders."""
    return _PATH.sub(r"…/\1", redact(words))


def _engines(cells: tuple[Cell, ...]) -> dict[str, tuple[str, ...]]:
    found = {name: _each(f"{cell.version} ({without_paths(cell.build)})" if cell.build else cell.version
                         for cell in cells if cell.engine == name and cell.version not in ("", "unknown"))
             for name in _each(cell.engine for cell in cells)}
    return {name: versions for name, versions in found.items() if versions}


def _by(key: str, value: str, cells: tuple[Cell, ...]) -> dict[str, tuple[str, ...]]:
    return {name: _each(str(getattr(cell, value)) for cell in cells if getattr(cell, key) == name)
            for name in _each(str(getattr(cell, key)) for cell in cells)}


def _each(words: Any) -> tuple[str, ...]:
    return tuple(sorted(set(words)))


def uuids(run: Mapping[str, Any]) -> Iterator[str]:
    gpus = run.get("gpus")
    for gpu in gpus if isinstance(gpus, list) else []:
        if isinstance(gpu, dict) and gpu.get("uuid"):
            yield str(gpu["uuid"])


def _said(value: Any) -> str:
    return visible(", ".join(map(str, value)) if isinstance(value, tuple) else str(value), 160)
