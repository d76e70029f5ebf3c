"""A wheel is read as it would be unpacked, without being unpacked; what is wrong with it is said and bounded."""

from __future__ import annotations

import random
import struct
import time
import zipfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from fixtures.kernels.image import Reading
from fixtures.kernels.inputs import reader
from fixtures.kernels.inputs.reader import SourceError
from tests import fatbins, images
from tests.images import library, present

OLD, NEW = library("sm_80", "compute_80"), library("sm_90a", "sm_120f", modules=3)
MEMBERS = {
    "vllm/__init__.py": b"import torch\n" * 20, "vllm/_C.abi3.so": OLD, "vllm/_moe_C.abi3.so": NEW,
    "vllm/lib/libx.a": fatbins.archive({"one.o": library("sm_75"), "a-longer-name-of-two.o": library("sm_86")}),
    "vllm/kernel.cubin": fatbins.cubin(100, "f"), "vllm/host.so": fatbins.elf({".text": b"\xc3" * 64}),
    "vllm-0.10.1.1.dist-info/METADATA": b"Metadata-Version: 2.4\nName: vLLM\nVersion: 0.10.1.1\n\nText\n",
    "torch/version.py": b"__version__ = '2.8.0+cu128'\ncuda: Optional[str] = '12.8'\nhip: Optional[str] = None\n",
}


def read(data: bytes, folder: Path) -> Reading:
    """Read bytes that lie in a wheel."""
    file = folder / "some-1.0-py3-none-any.whl"
    file.write_bytes(data)
    return reader.read(file)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_streamed_as_unpacked(compression: int, tmp_path: Path) -> None:
    """Library for library and module for module the same, offsets too; so are packages, CUDA release and counts."""
    streamed = read(images.wheel(MEMBERS, compression), tmp_path)
    unpacked = reader.read(images.lay(MEMBERS, tmp_path / "unpacked"))
    assert len(streamed.libraries) == 4
    assert replace(streamed, source="") == replace(unpacked, source="")
    assert (streamed.packages, streamed.cuda, streamed.files) == ({"vllm": "0.10.1.1"}, "12.8", len(MEMBERS))
    assert streamed.size == sum(map(len, MEMBERS.values()))


def test_names_where_they_are_wanted(tmp_path: Path) -> None:
    """Kernel names are read of the files that the predicate picks, and of no other."""
    file = tmp_path / "x.whl"
    file.write_bytes(images.wheel(MEMBERS))
    reading = reader.read(file, names=lambda path: "moe" in path)
    named = {one.path: one.modules[0].names for one in reading.libraries}
    assert named.pop("vllm/_moe_C.abi3.so") == ("kernel",)
    assert set(named.values()) == {None}


def test_copies_count_once(tmp_path: Path) -> None:
    """One of several equal files stands for all, the one that programs find if there is one; a like one is another."""
    other = OLD[:-1] + bytes([OLD[-1] ^ 1])
    reading = read(images.wheel({"build/x.so": OLD, "a-packages/x.so": OLD, "z/x.so": OLD, "y.so": other}), tmp_path)
    assert list(present(reading)) == ["a-packages/x.so", "y.so"]
    assert [one.path for one in reading.left_out] == ["build/x.so", "z/x.so"]
    assert all("a-packages/x.so" in one.why for one in reading.left_out)


def test_one_name_twice(tmp_path: Path) -> None:
    """Of two members with one name the later one is what an installer leaves."""
    for second, found in ((NEW, {"a.so": ["90a", "120f"]}), (b"no library any more" * 9, {})):
        data = images.wheel({"a.so": OLD, "b.so": second})
        assert present(read(data.replace(b"b.so", b"a.so"), tmp_path)) == found


def test_something_in_front(tmp_path: Path) -> None:
    """A zip behind other bytes is found by its end."""
    (tmp_path / "x.whl").write_bytes(b"PK\x03\x04 a stub that unpacks itself" + images.wheel(MEMBERS))
    assert len(reader.read(tmp_path / "x.whl").libraries) == 4


def test_sizes_of_64_bits(tmp_path: Path) -> None:
    """Members whose sizes stand in the zip64 field, and an end that stands in its own record."""
    data = bytearray(images.wheel({"a.so": OLD}))
    entry, end = data.rindex(b"PK\x01\x02"), data.rindex(b"PK\x05\x06")
    packed, full = struct.unpack_from("<II", data, entry + 20)
    extra = struct.pack("<HHQQQ", 1, 24, full, packed, 0)
    struct.pack_into("<II", data, entry + 20, 0xFFFFFFFF, 0xFFFFFFFF)
    struct.pack_into("<H", data, entry + 30, len(extra))
    struct.pack_into("<I", data, entry + 42, 0xFFFFFFFF)
    listed = bytes(data[entry:end]) + extra
    record = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, len(listed), entry)
    place = struct.pack("<4sIQI", b"PK\x06\x07", 0, entry + len(listed), 1)
    last = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    reading = read(bytes(data[:entry]) + listed + record + place + last, tmp_path)
    assert (present(reading), reading.left_out) == ({"a.so": ["80", "80"]}, ())


# --- bad input ------------------------------------------------------------------------------------------------------------

def test_encrypted_and_oddly_packed(tmp_path: Path) -> None:
    """Members that cannot be read are named with the reason; the others are read."""
    data = bytearray(images.wheel({"a.so": OLD, "b.so": NEW, "c.so": OLD + b"1"}))
    entries = [at for at in range(len(data)) if data.startswith(b"PK\x01\x02", at)]
    data[entries[0] + 8] |= 1
    data[entries[1] + 10] = 93
    reading = read(bytes(data), tmp_path)
    assert list(present(reading)) == ["c.so"]
    assert [one.path for one in reading.left_out] == ["a.so", "b.so"]
    assert "encrypted" in reading.left_out[0].why
    assert "zstd" in reading.left_out[1].why


def test_archives_in_a_wheel(tmp_path: Path) -> None:
    """A zip in the zip is named, not read: the reading ends somewhere however deep they are nested."""
    inner = images.wheel({"b.so": NEW})
    reading = read(images.wheel({"a.so": OLD, "in.whl": inner, "data/x.zip": b"", "y.tar.gz": b""}), tmp_path)
    assert list(present(reading)) == ["a.so"]
    assert [one.path for one in reading.left_out] == ["in.whl", "data/x.zip", "y.tar.gz"]


def test_a_bomb(tmp_path: Path) -> None:
    """A member that would unpack a thousandfold is refused before it is unpacked, what says less than it is at its size."""
    bomb = fatbins.elf({".text": bytes(2**27)})
    begin = time.perf_counter()
    reading = read(images.wheel({"a.so": OLD, "bomb.so": bomb}), tmp_path)
    assert time.perf_counter() - begin < 5
    assert list(present(reading)) == ["a.so"]
    assert "bomb" in reading.left_out[0].why
    data = bytearray(images.wheel({"a.so": OLD, "bomb.so": bomb}))
    entry = data.rindex(b"PK\x01\x02")
    struct.pack_into("<I", data, entry + 24, 4000)
    assert "more of it than the 4000 bytes" in read(bytes(data), tmp_path).left_out[0].why


def test_another_checksum(tmp_path: Path) -> None:
    """Code that is not what was packed is read, and said not to be."""
    data = images.wheel({"a.so": OLD}, zipfile.ZIP_STORED)
    reading = read(data.replace(struct.pack("<HHI", 8, 1, 80), struct.pack("<HHI", 8, 1, 90)), tmp_path)
    assert present(reading) == {"a.so": ["90", "80"]}
    assert any("checksum" in why for why in reading.libraries[0].left_out)
    assert any("checksum" in one.why for one in reading.left_out)


def test_members_that_share_their_bytes(tmp_path: Path) -> None:
    """A directory that names one member a thousand times does not make a thousand times the work."""
    inner = fatbins.elf({".text": random.Random(1).randbytes(2**16) * 2**7})
    data = images.wheel({"a.so": inner})
    entry, end = data.rindex(b"PK\x01\x02"), data.rindex(b"PK\x05\x06")
    listed = b"".join(data[entry:end].replace(b"a.so", b"%04x" % number) for number in range(20_000))
    begin = time.perf_counter()
    last = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 0, 0, len(listed), entry, 0)
    reading = read(data[:entry] + listed + last, tmp_path)
    assert time.perf_counter() - begin < 10
    assert any("bomb" in one.why for one in reading.left_out)


def test_cut_off_anywhere(tmp_path: Path) -> None:
    """A wheel that ends too early is refused or read in part, with the reason."""
    whole = images.wheel(MEMBERS)
    for size in range(0, len(whole), 97):
        with suppress(SourceError):
            assert read(whole[:size], tmp_path).left_out


def test_what_came_before_the_cut(tmp_path: Path) -> None:
    """The members that are whole are read, of the one that is cut what is there; both reasons are told."""
    first, second = library("sm_80", modules=9), library("sm_90", modules=9)
    whole = images.wheel({"a.so": first, "b.so": second}, zipfile.ZIP_STORED)
    reading = read(whole[:len(first) + len(second) * 2 // 3], tmp_path)
    assert [len(one.modules) for one in reading.libraries] == [9, len(reading.libraries[1].modules)]
    assert 0 < len(reading.libraries[1].modules) < 9
    assert reading.libraries[1].left_out
    assert any("end of the zip is missing" in one.why for one in reading.left_out)


@pytest.mark.parametrize("rounds", [400, pytest.param(50_000, marks=pytest.mark.long)])
def test_changed_bytes(rounds: int, tmp_path: Path) -> None:
    """Whatever changes in a wheel, what is read is right or said to be damaged, and nothing is raised."""
    source, whole = random.Random(3), images.wheel(MEMBERS)
    right = present(read(whole, tmp_path))
    for _ in range(rounds):
        data = bytearray(whole)
        for _ in range(source.randint(1, 3)):
            data[source.randrange(len(data))] = source.choice([0, 0xFF, source.randrange(256)])
        with suppress(SourceError):
            reading = read(bytes(data), tmp_path)
            damaged = bool(reading.left_out) or any(one.left_out for one in reading.libraries)
            assert damaged or set(map(str, present(reading).values())) <= set(map(str, right.values()))
