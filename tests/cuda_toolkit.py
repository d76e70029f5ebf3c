"""NVIDIA's compiler for the tests: got once from PyPI. Without a network what needs it is skipped, on CI it is a failure."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from fixtures.setup import SetupFailed, cuda

LIMIT_S = 120
T = TypeVar("T")


@dataclass(frozen=True)
class Toolkit:
    """Programs of one release: nvcc and what it calls, cuobjdump. `objdump` lists images, `bin` holds the others."""

    bin: Path

    @property
    def objdump(self) -> Path:
        """NVIDIA's reader."""
        return self.bin / "cuobjdump"

    @property
    def libraries(self) -> Path:
        """What executables are linked with."""
        return self.bin.parent / "lib"

    def run(self, program: str, words: Sequence[str | Path], folder: Path) -> str:
        """Run one of them there and return what it printed; what it says of a refusal is the test's failure."""
        ended = subprocess.run([self.bin / program, *words], cwd=folder, capture_output=True, text=True, timeout=LIMIT_S,
                               check=False)
        assert ended.returncode == 0, f"{program} {' '.join(map(str, words))}: {ended.stderr or ended.stdout}"
        return ended.stdout

    def architectures(self) -> list[int]:
        """Every sm that nvcc's -arch=all compiles for, oldest first."""
        said = self.run("nvcc", ["--list-gpu-code"], self.bin).split()
        return sorted(int(word.removeprefix("sm_")) for word in said)


def toolkit() -> Toolkit:
    """The compiler, or the reason why the test is skipped."""
    return Toolkit(had(lambda: cuda.ensure(cuda.COMPILER, print)))


def had(get: Callable[[], T]) -> T:
    """What `get` gives. Where it cannot be had the test is skipped with the reason, on CI (the variable CI) it fails."""
    try:
        return get()
    except SetupFailed as refusal:
        if os.environ.get("CI"):
            pytest.fail(f"{refusal.reason}; {refusal.cure}")
        pytest.skip(f"{refusal.reason}; {refusal.cure}")
