"""The kernel bench: it measures what it says, compares lists, and a bar that is not held is exit status 1."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bench.kernels import __main__ as command
from bench.kernels import measured, objdump
from bench.kernels.measured import Measured
from fixtures.kernels.image import Architecture, Kind
from fixtures.setup import cuda
from tests import fatbins

LISTED = """
Fatbin ptx code:
================
arch = sm_120f
code version = [9,5]
host = linux
compile_size = 64bit
compressed
ptxasOptions = -g

Fatbin concatenated entry code:
===============================
code version = [0,1]
host = linux
compressed

\tFatbin elf code:
\t================
\tarch = sm_90a
\tcode version = [1,8]
\thas debug info

Fatbin elf code:
================
arch = sm_80
code version = [1,8]
identifier = debug compressed.cu
"""
SM_80 = objdump.Entry(Kind.CUBIN, Architecture(80), None, False, False)


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """One module for sm_80 in a folder of its own."""
    (tmp_path / "env").mkdir()
    file = tmp_path / "env" / "libtorch_cuda.so"
    file.write_bytes(fatbins.library([[fatbins.code("sm_80")]]))
    return file


def run(library: Path, monkeypatch: pytest.MonkeyPatch, theirs: list[objdump.Entry], ended_s: float, one: Measured) -> int:
    """The command with a cuobjdump that says so after so long, and these measurements of ours."""
    monkeypatch.setattr(cuda, "ensure", lambda *_: library.parent)
    monkeypatch.setattr(objdump, "listed", lambda *_: theirs)
    monkeypatch.setattr(objdump, "run", lambda *_: time.sleep(ended_s))
    monkeypatch.setattr(measured, "measure", lambda *_: one)
    return command.main(["--library", str(library), "--rounds", "1"])


def taking(warm_s: float, peak_mb: float = 20, size: int = 8_000_000_000) -> Measured:
    """What a process told."""
    return Measured(1.0, (warm_s,), warm_s, peak_mb, 1, size, 1, 1)


@pytest.mark.parametrize(("theirs", "one", "status"), [
    ([SM_80], taking(0.0001), 0),
    ([SM_80, SM_80], taking(0.0001), 1),
    ([SM_80], taking(0.01), 1),
    ([SM_80], taking(0.0001, peak_mb=101), 1),
    ([SM_80], taking(0.0001, size=100), 1),
], ids=["held", "another list", "slow", "large", "slow for its size"])
def test_bars(library: Path, monkeypatch: pytest.MonkeyPatch, theirs: list[objdump.Entry], one: Measured,
              status: int) -> None:
    """The lists are the same, ours is 100 times as fast, a second reads 8 GB, and 100 MB are enough."""
    assert run(library, monkeypatch, theirs, 0.05, one) == status


def test_measured_in_a_process_of_its_own(library: Path) -> None:
    """It reads what is there, as often as asked, and its peak is the reader's own."""
    ballast = bytearray(200_000_000)
    told = measured.measure(library.parent, 3)
    assert (told.files, told.libraries, told.images, told.size) == (1, 1, 1, library.stat().st_size)
    assert len(told.warm_s) == 3
    assert told.peak_mb < len(ballast) / 1e6 / 2


def test_nothing_to_measure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without PyTorch for CUDA it says what to name."""
    monkeypatch.setenv("COTENANT_HOME", str(tmp_path))
    assert command.main([]) == 1
    assert "name one with --library" in capsys.readouterr().err


def test_what_cuobjdump_prints() -> None:
    """Kinds, suffixes, PTX versions, debug; members of a group are packed as it is, and names do not mislead."""
    assert list(objdump.parse(LISTED)) == [
        objdump.Entry(Kind.PTX, Architecture(120, "f"), (9, 5), True, False),
        objdump.Entry(Kind.CUBIN, Architecture(90, "a"), None, True, True), SM_80]


@pytest.mark.parametrize("text", [LISTED.replace("elf", "mercury"), LISTED.replace("arch = sm_80\n", ""),
                                  LISTED.replace("Fatbin elf code:\n================\narch", "Fatbin elf code: arch")])
def test_what_it_prints_otherwise_is_refused(text: str) -> None:
    """Output that is not understood is no shorter list."""
    with pytest.raises(objdump.CannotRead):
        list(objdump.parse(text))
