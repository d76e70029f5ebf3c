"""The load rules, on freshly built images: what they say of an H200 is what one was seen to do."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from bench.load_rules import __main__ as command
from bench.load_rules import device, program
from bench.load_rules.cases import CASES, SETTINGS, Case
from bench.load_rules.device import Device
from bench.load_rules.program import Compiler
from fixtures.kernels.rules import Fate, Target
from tests.cuda_toolkit import toolkit

H200 = Target((9, 0))
RUNS = {"sm_90", "sm_90a"}
BY_JIT = {"compute_75", "compute_80", "compute_89", "compute_90", "compute_90a", "sm_80 + compute_80", "sm_80 + compute_90a",
          "sm_80 + compute_80 (-rdc)"}
SYMBOL_NOT_FOUND = {"sm_80 (-rdc)"}
TWO = "sm_80 | sm_90"


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Compiler:
    """nvcc with an empty folder."""
    return Compiler(toolkit().bin / "nvcc", tmp_path_factory.mktemp("load-rules"))


@pytest.fixture(scope="module")
def programs(compiler: Compiler) -> dict[str, Path]:
    """Every case, built."""
    with ThreadPoolExecutor(2) as pool:
        works = {case.name: pool.submit(compiler.build, case, number) for number, case in enumerate(CASES)}
        return {name: work.result() for name, work in works.items()}


def seen(name: str, part: int) -> tuple[Fate | None, int | None]:
    """What an H200 (driver 580, CUDA 13.0) did with it: how it ran, or the error number."""
    if name in RUNS or (name == TWO and part == 1):
        return Fate.RUNS, None
    if name in BY_JIT:
        return Fate.JIT, None
    return None, 500 if name in SYMBOL_NOT_FOUND else 209


@pytest.mark.parametrize(("name", "part"), [(case.name, part) for case in CASES for part in range(len(case.parts))])
def test_the_rules_say_what_an_h200_did(programs: dict[str, Path], name: str, part: int) -> None:
    """26 kernels, each ruled from what is read of its program."""
    ruling = command.ruled(programs[name], f"kernel_{part}", H200)
    assert (ruling.fate if ruling.fate.runs else None, ruling.error) == seen(name, part)


def test_forced_jit_passes_machine_code_over(programs: dict[str, Path]) -> None:
    """An H200 gave 209 for sm_90 alone with CUDA_FORCE_PTX_JIT=1."""
    assert command.ruled(programs["sm_90"], "kernel_0", replace(H200, force_ptx_jit=True)).error == 209


def _on_a_gpu(monkeypatch: pytest.MonkeyPatch, code: int | None) -> None:
    """A machine whose GPU gives `code` for every kernel."""
    monkeypatch.setattr(device, "first", lambda: Device("NVIDIA H200", (9, 0), "999.1", "99.0"))
    monkeypatch.setattr(program, "launch", lambda *_: code)
    monkeypatch.setattr(command, "CASES", (Case((("sm_90",),)),))


@pytest.mark.parametrize(("code", "status", "words"), [
    (0, 1, "1 differ"),  # with JIT forced it must not run
    (209, 1, "2 differ"),
    (None, 1, "3 differ"),
])
def test_differences_are_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], compiler: Compiler,
                              code: int | None, status: int, words: str) -> None:
    """A load that goes otherwise than the rule says, or gives no answer, is a difference and exit status 1."""
    _on_a_gpu(monkeypatch, code)
    assert command.main(["--nvcc", str(compiler.nvcc)]) == status
    said = capsys.readouterr().out
    assert words in said
    assert "DIFFERS" in said


def test_agreement_is_exit_0(monkeypatch: pytest.MonkeyPatch, compiler: Compiler, tmp_path: Path) -> None:
    """Where every load goes as the rules say the status is 0, and the file holds every row."""
    _on_a_gpu(monkeypatch, 0)
    monkeypatch.setattr(program, "launch", lambda _file, _part, setting: 209 if setting.force_ptx_jit else 0)
    assert command.main(["--nvcc", str(compiler.nvcc), "--out", str(tmp_path / "rows.json")]) == 0
    facts = json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))
    assert [(row["setting"], row["here"], row["agrees"]) for row in facts["rows"]] == [
        (setting.name, 209 if setting.force_ptx_jit else 0, True) for setting in SETTINGS]
    assert facts["device"]["name"] == "NVIDIA H200"


def test_an_image_that_is_not_built_is_no_success(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
                                                  compiler: Compiler) -> None:
    """A compiler that does not know an architecture leaves a gap, which is told."""
    _on_a_gpu(monkeypatch, 209)
    monkeypatch.setattr(command, "CASES", (Case((("sm_75",),)), Case((("sm_20",),))))
    assert command.main(["--nvcc", str(compiler.nvcc)]) == 1
    assert "not built: sm_20: nvcc fatal" in capsys.readouterr().out


def test_without_a_gpu_nothing_is_compared(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
                                           compiler: Compiler) -> None:
    """The rules are shown, and the status is 1."""
    def refuse() -> Device:
        raise device.NoDevice("there is no libcuda.so.1")

    monkeypatch.setattr(device, "first", refuse)
    monkeypatch.setattr(command, "CASES", (Case((("sm_90",),)),))
    assert command.main(["--nvcc", str(compiler.nvcc)]) == 1
    said = capsys.readouterr().out
    assert "nothing was compared" in said
    assert "DIFFERS" not in said
