"""GPU runs on a fake NVML: engines that hold memory there and answer on the CPU, each with one planted fault."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pynvml
import pytest

from fixtures.setup import Environment
from tests.gpus import Bench
from tests.launching import eventually
from tests.nvml import GIB, RTX5090
from tests.runs import Running

TWO = ("trilingual-2m", "trilingual-4m")


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory, llama_environment: Environment) -> Path:
    """The models, converted once."""
    bench = Bench(tmp_path_factory.mktemp("gguf"), llama_environment)
    bench.models(*TWO)
    return bench.root / "gguf"


@pytest.fixture
def bench(tmp_path: Path, llama_environment: Environment, gguf: Path) -> Iterator[Bench]:
    """A machine with one idle H200, vLLM and SGLang."""
    found = Bench(tmp_path, llama_environment)
    (tmp_path / "gguf").symlink_to(gguf)
    models = "".join(f'[[models]]\nname = "{name}"\nsource = "{gguf.parents[0]}"\ncontext = 512\nshare = 0.1\n'
                     'limits = { memory_gib = 17.0, kv_tokens_min = 4096 }\n' for name in TWO)
    text = f'name = "two"\nprofiles = ["h200", "rtx5090"]\nengines = ["vllm", "sglang"]\n{models}'
    for name in TWO:  # the folder is read for its tokenizer, the planted server has its own file
        text = text.replace(str(gguf.parents[0]), str(Path(__file__).parents[1] / "fixtures" / "models" / name), 1)
    (tmp_path / "two.toml").write_text(text)
    yield found
    left = [file.name for file in (found.nvml.path / "processes").iterdir() if Path("/proc", file.name).exists()]
    assert not left, "a run left processes on the device"


def judged(bench: Bench, marks: str, *arguments: str, fault: str = "", engine: str = "vllm") -> dict[str, tuple[str, ...]]:
    """Verdict and causes by check (and model) of one run."""
    running = Running(bench.root, *bench.arguments, f"--lineup={bench.root}/two.toml", f"--engine={engine}", "-m", marks,
                      *arguments, variables=bench.variables(fault))
    running.end(120)
    cells = [json.loads(line) for line in running.cells()]
    return {"/".join(filter(None, (cell["model"], cell["check"]))): (cell["verdict"], *cell["causes"]) for cell in cells}


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_a_healthy_engine_passes_on_the_device(bench: Bench, engine: str) -> None:
    """Capacity, plan, ceiling and what is given back are judged by what NVML says of the processes, and hold."""
    cells = judged(bench, "h200 and (memory or coexistence)", "-k", "sequential or plan or ceiling or returned or leave",
                   engine=engine)
    assert {name.rpartition("/")[2] for name in cells} == {
        "coexistence.sequential", "coexistence.leave", "memory.plan", "memory.ceiling", "memory.returned"}
    assert set(cells.values()) == {("pass",)}, cells
    file = next((bench.root / "results" / "latest" / "logs").glob("*-device.json"))
    kept = json.loads(file.read_text())
    assert max(size for _, size in kept["mib_by_model"][TWO[0]]) > 13 * 1024
    assert kept["peak_mib_by_phase"][TWO[1]][f"boot {TWO[1]}"] > 13 * 1024


@pytest.mark.parametrize(("fault", "checks", "name", "expected"), [
    ("small-pool", "sequential", "coexistence.sequential", ("fail", "capacity-below-plan")),
    ("over-share", "plan", "trilingual-2m/memory.plan", ("fail", "above-plan")),
    ("over-share", "ceiling", "trilingual-2m/memory.ceiling", ("fail", "above-ceiling")),
    ("on-the-cpu", "plan", "trilingual-2m/memory.plan", ("fail", "not-on-the-device")),
    ("on-the-cpu", "live", "trilingual-2m/kernels.live", ("fail", "not-on-the-device")),
    ("keeps-memory", "returned", "memory.returned", ("fail", "memory-left")),
    ("leaks", "growth", "trilingual-2m/memory.growth", ("fail", "memory-grows")),
])
def test_a_planted_fault_is_found(bench: Bench, fault: str, checks: str, name: str, expected: tuple[str, ...]) -> None:
    """Servers that are healthy to a client, and hold too little, too much, nothing or still something of the device."""
    assert judged(bench, "h200", "-k", checks, fault=fault)[name] == expected


@pytest.mark.parametrize(("trouble", "cause"), [("foreign", "device-occupied"), ("hidden", "device-occupied"),
                                                ("split", "device-split")])
def test_a_device_that_is_not_free_is_an_error(bench: Bench, trouble: str, cause: str) -> None:
    """Nothing is judged of an engine on a card that somebody else uses, or that MIG has split."""
    if trouble == "foreign":
        bench.nvml.process(os.getpid(), 0, 20 * GIB)
    elif trouble == "hidden":
        bench.nvml.gpu(0, extra=20 * GIB)
    else:
        bench.nvml.gpu(0, mig=1)
    try:
        cells = judged(bench, "h200 and startup")
    finally:
        bench.nvml.release(os.getpid())
    assert set(cells.values()) == {("error", cause)}


def test_somebody_who_came_and_went_is_not_forgotten(bench: Bench) -> None:
    """Memory that somebody else held for a while during a boot may have been measured: no later cell is a pass."""
    running = Running(bench.root, *bench.arguments, f"--lineup={bench.root}/two.toml", "--engine=vllm", "-m",
                      "h200 and (startup or api)", variables=bench.variables())
    running.until_cells(2)
    with subprocess.Popen(["/bin/sleep", "60"], start_new_session=True) as stranger:
        bench.nvml.process(stranger.pid, 0, 60 * GIB)
        time.sleep(1.5)
        bench.nvml.release(stranger.pid)
        stranger.kill()
    running.end(120)
    after = [json.loads(line) for line in running.cells()][6:]
    assert after
    assert {(cell["verdict"], *cell["causes"]) for cell in after} == {("error", "device-shared")}


@pytest.mark.parametrize(("visible", "code", "words"), [
    ("1", 4, "must name 1 of profile h200"), ("7", 4, "CUDA_VISIBLE_DEVICES 7: there is no such device"),
    ("0", 0, "1 passed"),
])
def test_the_users_own_choice_of_devices_is_kept(bench: Bench, visible: str, code: int, words: str) -> None:
    """CUDA_VISIBLE_DEVICES is what a scheduler gives a job: another card is not taken in its place."""
    bench.nvml.gpu(1, RTX5090)
    running = Running(bench.root, *bench.arguments, f"--lineup={bench.root}/two.toml", "--engine=vllm", "-m", "h200", "-k",
                      "two/trilingual-2m/startup.ready", variables={**bench.variables(), "CUDA_VISIBLE_DEVICES": visible})
    ended = running.end(60)
    assert words in " ".join(ended.output.split())
    assert (ended.code == 4) == (code == 4)


def test_a_lost_device_is_never_a_pass(bench: Bench) -> None:
    """Once the driver has lost the card every cell is an error, whatever the servers answer."""
    running = Running(bench.root, *bench.arguments, f"--lineup={bench.root}/two.toml", "--engine=vllm", "-m",
                      "h200 and (startup or api)", variables=bench.variables())
    running.until_cells(2)
    bench.nvml.fail("*", pynvml.NVML_ERROR_GPU_IS_LOST)
    ended = running.end(120)
    after = [json.loads(line) for line in running.cells()][4:]
    assert after
    assert {(cell["verdict"], *cell["causes"]) for cell in after} == {("error", "device-lost")}, ended.output


def test_a_killed_run_leaves_nothing_on_the_device(bench: Bench) -> None:
    """`kill -9` of pytest in mid-run: the servers' wardens end them, and the device is empty within seconds."""
    running = Running(bench.root, *bench.arguments, f"--lineup={bench.root}/two.toml", "--engine=vllm", "-m", "h200",
                      variables=bench.variables())
    running.until_cells(6)
    held = [file for file in (bench.nvml.path / "processes").iterdir() if Path("/proc", file.name).exists()]
    assert len(held) == 2
    running.signal(signal.SIGKILL)
    running.end()
    assert eventually(lambda: not [file for file in held if Path("/proc", file.name).exists()], 30)


def test_another_card_than_the_profile_names(bench: Bench) -> None:
    """A run never starts on the wrong card: exit code 4 with what was found, also where --device names it."""
    bench.nvml.gpu(1, RTX5090)
    two = f"--lineup={bench.root}/two.toml"
    for arguments, words in ((["-m", "rtxpro6000"], "found here: NVIDIA H200, NVIDIA GeForce RTX 5090"),
                             (["-m", "h200", "--device=1", two], "must name 1 of profile h200"),
                             (["-m", "h200", "--device=7", two], "there is no such device")):
        ended = Running(bench.root, *arguments, variables=bench.variables()).end(60)
        assert ended.code == 4
        assert words in " ".join(ended.output.split())
