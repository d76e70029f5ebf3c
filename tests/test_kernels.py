"""Verdicts on the kernels of a CPU: instruction sets read from files."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import pytest

from fixtures.engines.registry import ENGINES
from fixtures.kernels import cpu
from fixtures.kernels.cpu import Library
from fixtures.verdict import Verdict

HAVE = frozenset({"sse2", "sse4_2", "avx2", "fma"})
FOUND = {"lib/*.so": [Library("lib/a.so", ("avx2",), 10), Library("lib/b.so", ("avx2", "fma"), 10)]}


@pytest.mark.parametrize(("found", "have", "causes"), [
    (FOUND, HAVE, ()),
    (FOUND, HAVE - {"fma"}, ("instruction-set-missing",)),
    (FOUND | {"bin/server": []}, HAVE, ("library-missing",)),
    ({"lib/*.so": []}, HAVE, ("library-missing",)),
    (FOUND | {"bin/server": []}, HAVE - {"avx2"}, ("instruction-set-missing", "library-missing")),
])
def test_libraries_and_what_they_need(found: dict[str, list[Library]], have: frozenset[str],
                                      causes: tuple[str, ...]) -> None:
    """One missing library, or one that needs what the CPU lacks, is a fail that names it."""
    judgement = cpu.judge(found, have)
    assert judgement.verdict is (Verdict.FAIL if causes else Verdict.PASS)
    assert judgement.causes == causes
    assert bool(judgement.cure) == bool(causes)


def test_the_missing_instruction_set_is_named() -> None:
    """The reader learns which library and which set."""
    assert cpu.judge(FOUND, HAVE - {"fma"}).reason == "lib/b.so needs fma, which this CPU lacks"


def test_nothing_to_look_at_is_no_pass() -> None:
    """An engine without a claim makes no cell; asked all the same, it is an error of ours."""
    assert cpu.judge({}, HAVE).verdict is Verdict.ERROR


@pytest.mark.parametrize("have", [frozenset(), frozenset({"fp", "asimd", "aes"})])
def test_another_processor_is_not_blamed(have: frozenset[str]) -> None:
    """On ARM, or where the kernel shows no flags, the wheels are others: unavailable, neither pass nor fail."""
    assert cpu.judge(FOUND, have).verdict is Verdict.UNAVAILABLE


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the names are x86-64's")
def test_the_instruction_sets_of_this_machine() -> None:
    """Those that every core has, by the kernel's names, as another reader of /proc/cpuinfo counts them."""
    have = cpu.instruction_sets()
    assert cpu.BASE in have
    lines = subprocess.run(["grep", "-c", "-w", "^flags.*avx2", "/proc/cpuinfo"], capture_output=True, text=True,
                           check=False).stdout
    cores = subprocess.run(["grep", "-c", "^processor", "/proc/cpuinfo"], capture_output=True, text=True, check=False).stdout
    assert ("avx2" in have) == (lines == cores)


def test_what_the_engines_claim_are_names_that_a_kernel_uses() -> None:
    """A misspelt set would fail every machine: avx512-vnni is avx512_vnni in /proc/cpuinfo."""
    known = {"sse2", "sse4_2", "avx", "avx2", "fma", "f16c", "bmi1", "bmi2", "avx512f", "avx512bw", "avx512dq", "avx512vl",
             "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "amx_tile"}
    for engine in ENGINES.values():
        for pattern, sets in engine.instruction_sets.items():
            assert set(sets) <= known, pattern


def test_libraries_are_found_below_the_environment(tmp_path: Path) -> None:
    """At any depth, files only, a missing one with an empty list."""
    folder = tmp_path / "site-packages" / "lib"
    (folder / "folder.so").mkdir(parents=True)
    (folder / "a.so").write_bytes(b"four")
    found = cpu.libraries(tmp_path, {"lib/*.so": ("avx2",), "bin/server": ("avx2",)})
    assert found == {"lib/*.so": [Library("site-packages/lib/a.so", ("avx2",), 4)], "bin/server": []}
