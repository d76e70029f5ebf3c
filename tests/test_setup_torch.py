"""Which build of PyTorch an engine gets, and what stands in for what has no build beside it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fixtures.setup import ensure, environment
from tests.tiny import Registry

TORCH, VISION = environment.TORCH, environment.TORCHVISION
LOCK = ("tiny==1.0", f"torch=={TORCH}", f"torchvision=={VISION}", "nvidia-cublas==13.0", "nvidia-ml-py==13.0", "triton==3.7")


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry with a CPU build of PyTorch."""
    found = Registry(tmp_path)
    for line in LOCK:
        name, _, version = line.partition("==")
        found.wheel(name, version)
    found.wheel("torch", f"{TORCH}+cpu")
    for engine in ("sglang", "vllm"):
        found.lock(engine, "1.0", *LOCK)
    found.use(monkeypatch)
    return found


def modules(made: environment.Environment) -> set[str]:
    return {path.stem for path in made.root.glob("lib/*/site-packages/*.py")}


@pytest.mark.parametrize(("engine", "kept"), [("sglang", {"nvidia_ml_py", "triton"}), ("vllm", {"nvidia_ml_py"})])
def test_only_what_cuda_needs_is_left_out(registry: Registry, engine: str, kept: set[str]) -> None:
    """NVML's bindings are no part of CUDA's libraries, and SGLang imports triton on a CPU too."""
    assert modules(ensure(engine, "1.0", print)) & {"nvidia_ml_py", "triton", "nvidia_cublas"} == kept


@pytest.mark.parametrize("offered", [True, False])
def test_torchvision_fits_pytorch(registry: Registry, offered: bool) -> None:
    """Beside a CPU build goes torchvision's own CPU build; where there is none, a stand-in that the report tells of."""
    if offered:
        registry.wheel("torchvision", f"{VISION}+cpu")
    made = ensure("sglang", "1.0", print)
    found = [path.read_text() for path in made.root.glob("lib/*/site-packages/torchvision.py")]
    assert found == ([f"VERSION = '{VISION}+cpu'\n"] if offered else [])
    assert [path.name for path in made.pythonpath] == ["kernels", *([] if offered else ["vision"])]
    assert any("torchvision" in note for note in made.notes) is not offered
    assert ensure("sglang", "1.0", print) == made


def test_the_cuda_build_has_the_real_torchvision(registry: Registry) -> None:
    """Without a CPU build nothing stands in for torchvision."""
    (registry.wheels / f"torch-{TORCH}+cpu-py3-none-any.whl").unlink()
    made = ensure("sglang", "1.0", print)
    assert {"torchvision", "nvidia_cublas"} <= modules(made)
    assert [path.name for path in made.pythonpath] == ["kernels"]


def test_the_interpreter_is_the_one_that_runs(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not whichever comes first on PATH."""
    monkeypatch.setenv("PATH", "/nowhere")
    made = ensure("vllm", "1.0", print)
    assert made.python is not None
    said = subprocess.run([made.python, "-c", "import sys; print(sys.version)"], capture_output=True, text=True)
    assert said.stdout.strip() == sys.version


@pytest.mark.parametrize(("folder", "program"), [
    ("vision", "from torchvision.transforms import InterpolationMode as I; I.BICUBIC; import torchvision.io as x; x.read()"),
    ("kernels", "import sgl_kernel; sgl_kernel.copy_all_layer_kv_cache_cpu()"),
])
def test_stand_ins_fail_loudly(folder: str, program: str) -> None:
    """They can be imported; whoever calls one is told."""
    path = environment.STANDINS / folder
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env={"PYTHONPATH": str(path)})
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1].startswith("NotImplementedError: ")
