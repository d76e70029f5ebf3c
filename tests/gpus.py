"""GPU runs without a GPU: a fake NVML, and environments whose engines hold memory on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from fixtures.models.convert import to_gguf
from fixtures.setup import Environment
from tests.nvml import FakeNvml

PROGRAM = Path(__file__).with_name("planted") / "gpu_server.py"
MODELS = Path(__file__).resolve().parents[1] / "fixtures" / "models"
VERSIONS = {"vllm": "0.26.0", "sglang": "0.5.15"}


@dataclass
class Bench:
    """A folder with environments of planted engines, models converted for them, and one fake H200."""

    root: Path
    llama: Environment
    nvml: FakeNvml = field(init=False)

    def __post_init__(self) -> None:
        self.nvml = FakeNvml(self.root / "nvml")
        self.nvml.gpu(0, utilisation=40)  # as one whose kernels run
        for engine, version in VERSIONS.items():
            self._environment(engine, version)

    def _environment(self, engine: str, version: str) -> None:
        (self.root / engine / "bin").mkdir(parents=True)
        (self.root / engine / "lib" / "python3" / "site-packages" / f"{engine}-{version}.dist-info").mkdir(parents=True)
        python = self.root / engine / "bin" / "python"
        python.write_text(f'#!/bin/sh\nexec {self.llama.python} {PROGRAM} "$@"\n')
        python.chmod(0o755)

    def models(self, *names: str) -> None:
        """Convert these models for the planted servers."""
        for name in names:
            to_gguf(MODELS / name, self.root / "gguf" / f"{name}.gguf")

    @property
    def arguments(self) -> list[str]:
        """What pytest must be told to use them."""
        return [f"--engine-env={engine}={self.root / engine}" for engine in VERSIONS]

    def variables(self, fault: str = "") -> dict[str, str]:
        """The environment of a run."""
        return {**self.nvml.env, "COTENANT_PLANTED_GGUF": str(self.root / "gguf"), "COTENANT_PLANTED_FAULT": fault}
