"""Host files of every kind give their sections, and damaged ones say what is missing."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.kernels import binary
from fixtures.kernels.binary import elf as reader
from fixtures.kernels.binary.window import CHUNK, File, Memory, find
from tests.cells import steady
from tests.fatbins import Section, archive, code, cubin, elf, fatbin, library
from tests.read_back import read, targets

TWO = [[code("sm_90"), code("compute_90")], [code("sm_120")]]


sections = st.lists(st.tuples(st.text("abc.", min_size=1, max_size=9), st.binary(max_size=40)), max_size=8,
                    unique_by=lambda pair: pair[0])


@given(sections)
@steady
def test_sections_come_back(built: list[tuple[str, bytes]]) -> None:
    """Every section of a file has its name and its bytes, in order."""
    data = elf([Section(name, held) for name, held in built])
    read_back = reader.read(Memory(data))
    assert not read_back.fault
    assert [(one.name.decode(), data[one.offset:one.offset + one.size]) for one in read_back.sections[2:]] == built


def test_many_sections_are_counted_in_the_first() -> None:
    """An object of 70,000 sections is read: their number does not fit into the header."""
    data = elf({".nv_fatbin": fatbin(TWO), **{f".t{place}": b"" for place in range(70_000)}})
    assert int.from_bytes(data[60:62], "little") == 0
    assert targets(binary.read(data, "x.o")) == [["90", "90"], ["120"]]


def test_code_is_found_without_section_headers() -> None:
    """What sstrip takes off is not needed: the same modules at the same places."""
    with_headers, without = read(library(TWO)), read(elf({".text": b"\xc3" * 64, ".nv_fatbin": fatbin(TWO)}, headers=False))
    assert [module.images for module in without.modules] == [module.images for module in with_headers.modules]
    assert "no section headers" in without.left_out[0]


def test_a_file_without_headers_or_code_holds_none() -> None:
    """Nothing is said of it: it was searched as a whole."""
    assert binary.read(elf({".text": bytes(3 * CHUNK)}, headers=False), "x") is None


@pytest.mark.parametrize("at", [CHUNK - 8, CHUNK, 2 * CHUNK - 16, 2 * CHUNK - 8])
def test_the_search_sees_across_its_chunks(at: int) -> None:
    """A container is found wherever it lies against the pieces that are searched at once."""
    data = bytearray(elf({".text": bytes(3 * CHUNK)}, headers=False))
    data[at:at + len(fatbin(TWO))] = fatbin(TWO)
    assert read(bytes(data)).modules[0].offset == at


def test_bytes_that_are_looked_for_are_no_container() -> None:
    """A program that reads fat binaries has their first bytes in it, and no GPU code."""
    data = elf({".rodata": bytes.fromhex("50ed55ba01001000") * 3 + b"code" * 40}, headers=False)
    assert binary.read(data, "cuobjdump") is None


@pytest.mark.parametrize(("bits", "order", "said"), [(1, 1, "32-bit little-endian"), (2, 2, "64-bit big-endian"),
                                                     (7, 1, "class 7")])
def test_other_classes_are_named(bits: int, order: int, said: str) -> None:
    """Section headers of another form are not read; the code is found none the less."""
    data = bytearray(library(TWO))
    data[4:6] = bytes([bits, order])
    found = read(bytes(data))
    assert targets(found) == [["90", "90"], ["120"]]
    assert said in found.left_out[0]


@pytest.mark.parametrize(("at", "value", "said"), [
    (40, struct.pack("<Q", 2**63), "section headers at byte"), (58, struct.pack("<H", 40), "40 bytes each"),
    (60, struct.pack("<H", 0xFFF0), "not all there"), (62, struct.pack("<H", 99), "names"),
])
def test_damaged_headers_are_named(at: int, value: bytes, said: str) -> None:
    """Where the section headers cannot be read, the file is searched, and it says so."""
    data = bytearray(library(TWO))
    data[at:at + len(value)] = value
    found = read(bytes(data))
    assert targets(found) == [["90", "90"], ["120"]]
    assert said in found.left_out[0]


def test_a_damaged_file_without_code_says_so() -> None:
    """Half a library is not one without GPU code: nobody knows what the other half held."""
    data = elf({".text": bytes(4000)})
    found = read(data[:3000])
    assert not found.modules
    assert "section headers" in found.left_out[0]


def test_shared_names_take_no_memory() -> None:
    """Section headers that all point to one long name are given up."""
    named = [Section("n" * 400_000, b"")] * 100
    found = reader.read(Memory(elf([Section(".nv_fatbin", fatbin(TWO)), *named])))
    assert "longer than" in found.fault


def test_a_section_without_bytes_is_not_read() -> None:
    """Files with debug information only keep the headers of sections whose bytes lie elsewhere."""
    assert binary.read(elf([Section(".nv_fatbin", fatbin(TWO), type=8)]), "lib.debug") is None


def test_overlapping_sections_are_read_once() -> None:
    """No byte is read for two sections."""
    data = bytearray(library(TWO, [[code("sm_80")]]))
    at = int.from_bytes(data[40:48], "little")
    data[at + 64 * 4 + 24:at + 64 * 4 + 40] = data[at + 64 * 3 + 24:at + 64 * 3 + 40]
    found = read(bytes(data))
    assert targets(found) == [["90", "90"], ["120"]]
    assert "overlaps" in found.left_out[0]


@pytest.mark.parametrize("data", [b"", b"\x7f", b"\x7fELF", bytes(100), b"#!/bin/sh\n", b"PK\3\4" + bytes(60)])
def test_other_files_hold_none(data: bytes) -> None:
    """Files that are not of these kinds are told by their first bytes."""
    assert not binary.may_hold_code(data[:8], "x") or data.startswith(b"\x7fELF")
    found = binary.read(data, "x")
    assert found is None or (not found.modules and found.left_out)


@pytest.mark.parametrize("data", [library(TWO), cubin(90), fatbin(TWO), archive({"a.o": library(TWO)})])
def test_eight_bytes_tell_that_a_file_may_hold_code(data: bytes) -> None:
    """No file that holds code is passed over."""
    assert binary.may_hold_code(data[:8], "x")
    assert read(data).modules


# --- archives -------------------------------------------------------------------------------------------------------------

def test_members_of_an_archive() -> None:
    """Objects with long, short and odd-sized names are all read, each at its place in the file."""
    data = archive({"a" * 60 + ".o": library(TWO), "odd": b"x", "b.o": library([[code("sm_80")]]), "c.cubin": cubin(75)})
    found = read(data)
    assert targets(found) == [["90", "90"], ["120"], ["80"], ["75"]]
    assert all(data[module.offset:module.offset + 4] in (b"\x50\xed\x55\xba", b"\x7fELF") for module in found.modules)
    assert not found.left_out


def test_an_archive_as_bsd_writes_it() -> None:
    """A long name stands before the data."""
    name, held = b"a_long_name_of_an_object.o\0\0", library(TWO)
    head = f"{f'#1/{len(name)}':<16}{0:<12}{0:<6}{0:<6}{644:<8}{len(name) + len(held):<10}`\n".encode()
    assert targets(binary.read(b"!<arch>\n" + head + name + held, "x.a")) == [["90", "90"], ["120"]]


def test_damage_in_an_archive_names_the_member() -> None:
    """Whoever reads it learns which object is damaged."""
    name = "the_object_that_was_damaged.o"
    found = read(archive({name: library(TWO)[:-100], "b.o": library([[code("sm_80")]])}))
    assert targets(found)[-1] == ["80"]
    assert f"member {name}: its section headers" in found.left_out[0]


@pytest.mark.parametrize(("data", "said"), [
    (b"!<thin>\n" + bytes(60), "thin archive"),
    (archive({"in.a": archive({"a.o": library(TWO)})}), "archive in the archive"),
    (archive({"a.o": library(TWO)})[:-900], "lacks"),
    (b"!<arch>\n" + b"x" * 60, "no member"),
])
def test_archives_that_are_not_read(data: bytes, said: str) -> None:
    """What is left out is named."""
    assert said in read(data).left_out[0]


def test_an_archive_of_host_code_holds_none() -> None:
    """Most archives do."""
    assert binary.read(archive({"a.o": elf({".text": b"x"})}), "x.a") is None


# --- files on a disk ------------------------------------------------------------------------------------------------------

def test_a_file_is_read_as_its_bytes_are(tmp_path: Path) -> None:
    """On a disk and in memory, the same."""
    file = tmp_path / "lib.so"
    file.write_bytes(library(TWO))
    assert binary.open_file(file, "lib.so") == binary.read(library(TWO), "lib.so")
    with pytest.raises(FileNotFoundError):
        binary.open_file(tmp_path / "none", "none")


@pytest.mark.parametrize("left", [0, 100, 4096, 5000])
def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: int) -> None:
    """What is gone is named, and nobody dies of it."""
    file, calls, pread = tmp_path / "lib.so", [], os.pread
    file.write_bytes(library(TWO * 50))

    def shrinking(fd: int, length: int, offset: int) -> bytes:
        calls.append(offset)
        if len(calls) == 20:
            os.truncate(file, left)
        return pread(fd, length, offset)

    monkeypatch.setattr(os, "pread", shrinking)
    found = binary.open_file(file, "lib.so")
    assert found is not None
    assert 0 < len(found.modules) < 100
    assert any(f"to {left} bytes while it was read" in why for why in found.left_out)


def test_a_disk_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An I/O error ends the reading, not the program."""
    file = tmp_path / "lib.so"
    file.write_bytes(library(TWO))
    pread = os.pread

    def failing(fd: int, length: int, offset: int) -> bytes:
        if offset > 200:
            raise OSError(5, "Input/output error")
        return pread(fd, length, offset)

    monkeypatch.setattr(os, "pread", failing)
    found = binary.open_file(file, "lib.so")
    assert found is not None
    assert any("input/output error" in why for why in found.left_out)


def test_only_headers_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a library whose images take megabytes, less than a hundredth is read."""
    file, sizes, pread = tmp_path / "lib.so", [], os.pread
    big = [code("sm_75", data=bytes(200_000)), code("sm_120", data=bytes(240_000))]
    file.write_bytes(library([big] * 40))

    def counting(fd: int, length: int, offset: int) -> bytes:
        data = pread(fd, length, offset)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(os, "pread", counting)
    found = binary.open_file(file, "lib.so")
    assert found is not None
    assert len(found.modules) == 40
    assert sum(sizes) < file.stat().st_size / 100


def test_the_window_ends_where_the_file_does(tmp_path: Path) -> None:
    """Reads beyond either end give what is there, whatever they ask for."""
    file = tmp_path / "x"
    file.write_bytes(b"0123456789")
    with file.open("rb") as opened:
        for window in (File(opened.fileno()), Memory(b"0123456789"), Memory(memoryview(b"0123456789"))):
            asked = [(0, 4), (8, 9), (10, 1), (2**70, 1), (-1, 5), (3, -1), (0, 2**70)]
            assert [window.read(*ask) for ask in asked] == [b"0123", b"89", b"", b"", b"", b"", b"0123456789"]
            assert find(window, b"56", 0, 10) == (5, False)
