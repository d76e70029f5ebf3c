"""The cases: what each program is compiled for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """A program of one part or two, each a translation unit with one kernel; `parts` are the images of each."""

    parts: tuple[tuple[str, ...], ...]
    relocatable: bool = False

    @property
    def name(self) -> str:
        """As the table shows it."""
        files = " | ".join(" + ".join(labels) for labels in self.parts)
        return f"{files} (-rdc)" if self.relocatable else files


def _one(*labels: str) -> Case:
    return Case((labels,))


CASES = (
    *(_one(f"sm_{number}") for number in ("75", "80", "86", "89", "90", "90a", "100", "100a", "100f", "120", "120f")),
    *(_one(f"compute_{number}") for number in ("75", "80", "89", "90", "90a", "100", "100f", "120")),
    _one("sm_80", "compute_80"),
    _one("sm_80", "compute_90a"),
    _one("sm_80", "sm_120"),
    Case((("sm_80",), ("sm_90",))),
    Case((("sm_80", "compute_80"),), relocatable=True),
    Case((("sm_80",),), relocatable=True),
)


@dataclass(frozen=True)
class Setting:
    """Variables that change what the driver takes."""

    name: str
    force_ptx_jit: bool = False
    disable_ptx_jit: bool = False

    @property
    def variables(self) -> dict[str, str]:
        """Of the process. Without a cache whatever has to be compiled is compiled."""
        wanted = {"CUDA_FORCE_PTX_JIT": self.force_ptx_jit, "CUDA_DISABLE_PTX_JIT": self.disable_ptx_jit}
        return {"CUDA_CACHE_DISABLE": "1", **{name: "1" for name, on in wanted.items() if on}}


SETTINGS = (Setting("plain"), Setting("CUDA_FORCE_PTX_JIT", force_ptx_jit=True),
            Setting("CUDA_DISABLE_PTX_JIT", disable_ptx_jit=True))
