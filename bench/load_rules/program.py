"""The program: built by nvcc for one case, it launches one kernel and prints the runtime's error number."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.load_rules.cases import Case, Setting

LIMIT_S = 100
RIGHT = 42

PART = """
extern "C" __global__ void KERNEL(int *out) { *out = 42; }
void LAUNCH(int *out) { KERNEL<<<1, 1>>>(out); }
"""
MAIN = """
#include <cstdio>
#include <cstdlib>
#include <cuda_runtime.h>
void launch_0(int *), launch_1(int *);
int main(int, char **words) {
    int *out = nullptr, value = 0;
    cudaError_t code = cudaMalloc(&out, sizeof value);
    if (code == cudaSuccess) {
#if PARTS == 2
        atoi(words[1]) ? launch_1(out) : launch_0(out);
#else
        launch_0(out);
#endif
        code = cudaGetLastError();
    }
    if (code == cudaSuccess) code = cudaMemcpy(&value, out, sizeof value, cudaMemcpyDeviceToHost);
    printf("%d %d\\n", static_cast<int>(code), value);
    return 0;
}
"""


class NotBuilt(Exception):
    """The compiler refuses a case; the words are its own."""


@dataclass(frozen=True)
class Compiler:
    """An nvcc and the folder that it works in."""

    nvcc: Path
    folder: Path

    @property
    def version(self) -> str:
        """Its release, 13.0.88. Raises NotBuilt."""
        said = self.run(["--version"], self.folder)
        found = re.search(r"V(\d[\d.]*)", said)
        return found[1] if found else "unknown"

    def run(self, words: Sequence[str | Path], folder: Path) -> str:
        """What it prints. Raises NotBuilt."""
        try:
            ended = subprocess.run([self.nvcc, *words], cwd=folder, capture_output=True, text=True, timeout=LIMIT_S,
                                   check=False)
        except (OSError, subprocess.TimeoutExpired) as fault:
            raise NotBuilt(f"nvcc: {fault}") from None
        if ended.returncode:
            lines = (ended.stderr or ended.stdout).strip().splitlines()
            raise NotBuilt(next((line for line in lines if "fatal" in line or "error" in line), *lines[-1:]))
        return ended.stdout

    def build(self, case: Case, number: int) -> Path:
        """The program of a case; `number` keeps them apart. Raises NotBuilt."""
        folder = self.folder / str(number)
        folder.mkdir()
        (folder / "part.cu").write_text(PART, encoding="utf-8")
        (folder / "main.cpp").write_text(MAIN, encoding="utf-8")
        linking = ["-rdc=true"] * case.relocatable
        for place, labels in enumerate(case.parts):
            self.run([*linking, *code(labels), f"-DKERNEL=kernel_{place}", f"-DLAUNCH=launch_{place}", "-c", "part.cu", "-o",
                      f"{place}.o"], folder)
        objects = [f"{place}.o" for place in range(len(case.parts))]
        linking += [*code(case.parts[-1]), f"-DPARTS={len(case.parts)}"]
        self.run([*linking, "main.cpp", *objects, "-o", "program"], folder)
        return folder / "program"


def code(labels: Sequence[str]) -> Iterator[str]:
    """The options that ask nvcc for these images."""
    for label in labels:
        yield f"-gencode=arch=compute_{label.partition('_')[2]},code={label}"


def find() -> Path | None:
    """The nvcc on PATH, in its usual place, or in a package that this Python has."""
    on_path = shutil.which("nvcc")
    places = [Path(on_path)] if on_path else []
    places += [Path("/usr/local/cuda/bin/nvcc")]
    places += [found for entry in sys.path for found in sorted(Path(entry or ".").glob("nvidia/*/bin/nvcc"))]
    return next((place for place in places if place.is_file()), None)


def launch(program: Path, part: int, setting: Setting) -> int | None:
    """The runtime's error number, 0 where the kernel ran and wrote what it should; None where the program said nothing."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CUDA_FORCE") and
             name not in ("CUDA_DISABLE_PTX_JIT", "CUDA_DISABLE_JIT", "CUDA_CACHE_PATH")}
    try:
        ended = subprocess.run([program, str(part)], capture_output=True, text=True, timeout=LIMIT_S, check=False,
                               env={**clean, **setting.variables})
    except subprocess.TimeoutExpired:
        return None
    said = re.fullmatch(r"(\d+) (\d+)\n", ended.stdout)
    if said is None or (said[1] == "0" and int(said[2]) != RIGHT):
        return None
    return int(said[1])
