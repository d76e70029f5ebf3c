"""The compilers at run time: what a binary names, and which one is asked for a card."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.kernels import compilers
from fixtures.kernels.image import Architecture
from fixtures.kernels.rules import Target
from tests.modules import compiler

PTXAS = "triton/backends/nvidia/bin/ptxas"
RTX5090, H200, GB10 = Target((12, 0)), Target((9, 0)), Target((12, 1))


def strings(*names: str, release: str = "12.8, V12.8.93") -> bytes:
    """Parts of a binary with these strings in it."""
    said = f"Cuda compilation tools, release {release}".encode() if release else b""
    return b"\x7fELF" + bytes(60) + b"\0".join([b"", said, *(name.encode() for name in names), b""]) + bytes(100)


@pytest.mark.parametrize(("path", "kind"), [
    (PTXAS, "ptxas"), ("x/ptxas-blackwell", "ptxas"), ("cuda/bin/nvcc", "nvcc"), ("lib/libnvrtc.so.13", "nvrtc"),
    ("torch/lib/libnvrtc-672ee683.so.11.2", "nvrtc"), ("lib/libnvJitLink.so.12", "nvjitlink"),
    ("lib/libnvrtc-builtins.so.13.0", None), ("bin/ptxas.txt.gz/other", None), ("bin/nvcc.profile", None), ("bin/gcc", None),
])
def test_a_compiler_is_known_by_its_name(path: str, kind: str | None) -> None:
    """Files beside them with a similar name are none."""
    assert compilers.kind(path) == kind
    found = compilers.read(strings("sm_90", "compute_90"), path)
    assert (found.name if found else None) == kind


def test_what_a_binary_names() -> None:
    """Architectures that have both names, in order, with their suffix; and the release."""
    named = ("sm_120", "compute_120", "sm_120a", "compute_120a", "sm_90", "compute_90", "sm_20")
    found = compilers.read(strings(*named), PTXAS)
    assert found is not None
    assert found.architectures == (Architecture(90), Architecture(120), Architecture(120, "a"))
    assert (found.version, found.hint, found.path) == ("12.8.93", False, PTXAS)


@pytest.mark.parametrize("name", ["xsm_120", "_sm_120", "sm_120x", "sm_120_", "sm_1200", "sm_012", "sm_120ab"])
def test_parts_of_longer_names_do_not_count(name: str) -> None:
    """Only the whole name is an architecture's."""
    found = compilers.read(strings("sm_90", name), PTXAS)
    assert found is not None
    assert found.architectures == (Architecture(90),)


def test_one_kind_of_name_must_do_where_there_is_no_other() -> None:
    """An older binary may have only the names of machine code."""
    found = compilers.read(strings("sm_80", "sm_90a"), PTXAS)
    assert found is not None
    assert found.architectures == (Architecture(80), Architecture(90, "a"))


@pytest.mark.parametrize("data", [b"", b"sm_", strings(release=""), bytes(1000)])
def test_a_binary_that_names_nothing_is_unknown(data: bytes) -> None:
    """No answer is better than a wrong one."""
    found = compilers.read(data, "lib/libnvrtc.so.13")
    assert found is not None
    assert (found.architectures, found.hint, found.version) == (None, True, "13")
    assert compilers.knows(found, RTX5090) is None


def test_a_file_is_read_as_its_bytes_are(tmp_path: Path) -> None:
    """By way of the file system or from memory: the same compiler; an empty file names nothing."""
    file = tmp_path / "ptxas"
    file.write_bytes(strings("sm_90", "compute_90"))
    assert compilers.read(file, PTXAS) == compilers.read(file.read_bytes(), PTXAS)
    file.write_bytes(b"")
    empty = compilers.read(file, PTXAS)
    assert empty is not None
    assert empty.architectures is None


@given(st.binary(max_size=300), st.lists(st.sampled_from([b"sm_", b"compute_", b"90", b"120a", b"\0", b"V"]), max_size=9))
def test_any_bytes_are_read(head: bytes, parts: list[bytes]) -> None:
    """Whatever stands in it, the answer is a compiler, and the same from each kind of memory."""
    data = head + b"".join(parts)
    found = compilers.read(data, PTXAS)
    assert found is not None
    assert found == compilers.read(memoryview(data), PTXAS)


@pytest.mark.parametrize(("target", "file", "knows"), [
    (RTX5090, "ptxas-blackwell", True), (H200, "ptxas", True), (GB10, "ptxas-blackwell", False),
])
def test_triton_has_a_compiler_for_each_generation(target: Target, file: str, knows: bool) -> None:
    """From capability 10.0 on it calls ptxas-blackwell; the other one's names say nothing about such a card."""
    both = [compiler(PTXAS, "sm_90", "sm_121"), compiler(f"{PTXAS}-blackwell", "sm_100", "sm_120")]
    (found,) = compilers.knowledge(both, target)
    assert (found.compiler.path.rpartition("/")[2], found.knows, found.user) == (file, knows, "Triton")


def test_without_a_second_one_triton_calls_the_first() -> None:
    """Triton 3.2 and older have one ptxas: a card that it does not know cannot be compiled for."""
    (found,) = compilers.knowledge([compiler(PTXAS, "sm_80", "sm_90a", version="12.4.131")], RTX5090)
    assert found.knows is False
    assert "12.4.131" in found.sentence
    assert "sm_80 to sm_90a" in found.sentence


def test_a_hint_is_called_one() -> None:
    """NVRTC 12.6 names compute_100 and cannot compile for it."""
    (found,) = compilers.knowledge([compiler("lib/libnvrtc.so.12", "compute_120", hint=True)], RTX5090)
    assert found.knows is True
    assert "no proof" in found.sentence


def test_the_order_is_that_of_the_paths() -> None:
    """However they were found; the spare copy of NVRTC is never called."""
    some = [compiler("b/libnvrtc.so.13", "sm_90"), compiler("a/libnvrtc.alt.so.13", "sm_90"), compiler("a/ptxas", "sm_90")]
    assert [one.compiler.path for one in compilers.knowledge(some, H200)] == ["a/ptxas", "b/libnvrtc.so.13"]
