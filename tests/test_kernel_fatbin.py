"""Fat binaries and cubins give the images that were put into them, and nothing else."""

from __future__ import annotations

import ctypes
import random
import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.kernels.binary import packed, partial
from fixtures.kernels.image import Architecture, Image, Kind, Module
from tests import fatbins
from tests.cells import steady
from tests.fatbins import Code, archive, code, container, cubin, fatbin, library, ptx
from tests.read_back import only, read, targets

numbers = st.sampled_from([50, 75, 80, 86, 90, 100, 103, 120, 121])
architectures = st.builds(Architecture, numbers, st.sampled_from(["", "a", "f"]))
codes = st.builds(Code, architecture=architectures, kind=st.sampled_from(Kind), payload=st.binary(max_size=60),
                  isa=st.tuples(st.integers(1, 9), st.integers(0, 9)), compression=st.sampled_from(["", "lz4", "zstd"]),
                  debug=st.booleans(), extension=st.binary(max_size=20))


def image_of(built: Code) -> Image:
    """What is to be read of an entry whose payload is no code."""
    size = len(built.payload) if built.compression else -(-len(built.payload) // 8) * 8
    isa = built.isa if built.kind is Kind.PTX else None
    return Image(built.kind, built.architecture, size, isa, None, built.compression, built.debug)


@given(st.lists(st.lists(codes, max_size=4), min_size=1, max_size=5))
@steady
def test_images_come_back(built: list[list[Code]]) -> None:
    """Every image of every module, in order: kind, architecture, PTX version, compression, size, debug."""
    found = read(library(built))
    assert [list(module.images) for module in found.modules] == [[image_of(one) for one in module] for module in built]
    assert not found.left_out


@given(st.lists(st.lists(codes, max_size=3), min_size=1, max_size=4), st.data())
@steady
def test_half_a_file_gives_what_is_whole(built: list[list[Code]], data: st.DataObject) -> None:
    """A cut-off fat binary gives images from its front, each right, and says that something is missing."""
    whole = fatbin(built)
    cut = data.draw(st.integers(4, len(whole) - 1))
    found = read(whole[:cut])
    expected = [image_of(one) for module in built for one in module]
    images = [image for module in found.modules for image in module.images]
    assert images == expected[:len(images)]
    ends = [sum(map(len, map(container, built[:count]))) for count in range(len(built))]
    assert bool(found.left_out) == (cut not in ends)


def test_sections_tell_what_has_to_be_linked() -> None:
    """Modules of `__nv_relfatbin` are relocatable, those of `.nv_fatbin` are not."""
    found = read(library([[code("sm_90")]], [[code("sm_80", relocatable=True)], [code("compute_80")]]))
    assert [(module.section, module.relocatable) for module in found.modules] == [
        (".nv_fatbin", False), ("__nv_relfatbin", True), ("__nv_relfatbin", True)]


@pytest.fixture
def real_zstd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that libzstd made: nothing comes out of one before its end."""
    library = packed._libzstd()
    if library is None:
        pytest.skip("libzstd is not here")

    def compressed(data: bytes) -> bytes:
        room = ctypes.create_string_buffer(len(data) + 1000)
        size = library.ZSTD_compress(room, len(room), data, len(data), 3)
        return room.raw[:size]

    monkeypatch.setitem(fatbins.PACKERS, "zstd", compressed)


@pytest.mark.usefixtures("real_zstd")
def test_blocks_of_any_size_are_looked_into() -> None:
    """Data that shrinks by half fills large blocks; the first bytes of an image are had all the same."""
    noise = random.Random(7).randbytes(150_000).hex().encode()
    built = [code(target, kernels=(), data=noise, compression="zstd", relocatable=True) for target in ("sm_80", "sm_120")]
    assert (only(fatbin([built])).empty, only(fatbin([built])).relocatable) == (True, True)
    other = [code(target, kernels=("k",), data=noise, compression="zstd") for target in ("sm_80", "sm_120")]
    assert (only(fatbin([other]), names=True).names, only(fatbin([other])).empty) == (("k",), False)


@pytest.mark.parametrize("relocatable", [False, True])
@pytest.mark.parametrize("compression", ["", "lz4", "zstd"])
def test_outside_of_sections_the_cubin_tells_it(relocatable: bool, compression: str) -> None:
    """A bare fat binary is relocatable if its cubins are."""
    built = code("sm_90", relocatable=relocatable, compression=compression)
    assert only(fatbin([[code("compute_90"), built]])).relocatable is relocatable


def test_padding_between_containers_is_no_fault() -> None:
    """Zeros are stepped over, anything else is named, and the next container is found."""
    one, other = container([code("sm_90")]), container([code("sm_120")])
    assert not read(one + bytes(64) + other + bytes(8)).left_out
    found = read(one + b"garbage!" + other)
    assert targets(found) == [["90"], ["120"]]
    assert "8 bytes at" in found.left_out[0]


@given(st.lists(codes, max_size=6), st.sampled_from(["", "lz4", "zstd"]))
@steady
def test_images_that_are_packed_together(built: list[Code], compression: str) -> None:
    """Each is told by its own header; all are packed as the group is."""
    plain = [replace(one, compression="") for one in built]
    found = read(library([[code("sm_75"), fatbins.group(plain, compression), code("sm_90")]]))
    expected = [replace(image_of(one), compression=compression) for one in plain]
    assert list(found.modules[0].images[1:-1]) == expected
    assert not found.left_out


@pytest.mark.parametrize("compression", ["", "lz4", "zstd"])
def test_packed_together_they_are_looked_into(compression: str) -> None:
    """Kernels are named, and modules without any are empty."""
    built = [code("sm_75", kernels=("a",)), code("compute_90", kernels=("b",)), code("sm_120a", kernels=("a", "c"))]
    assert only(library([[fatbins.group(built, compression)]]), names=True).names == ("a", "c")
    stubs = [code(target, kernels=()) for target in ("sm_75", "sm_120", "compute_120")]
    assert only(library([[fatbins.group(stubs, compression)]]), names=True).empty


@pytest.mark.parametrize(("at", "value", "said"), [(64, 9, "2 of the 9 images"), (64, 10**6, "1000000 images"),
                                                  (76, 7, "0 of the 2"), (100, 2**31, "0 of the 2")])
def test_a_damaged_group_is_named(at: int, value: int, said: str) -> None:
    """Images that are packed together stand or fall together."""
    held = bytearray(fatbins.group([code("sm_80"), code("sm_90")]))
    struct.pack_into("<I", held, at, value)
    found = read(library([[code("sm_75"), bytes(held)], [code("sm_120")]]))
    assert targets(found) == [["75"], ["120"]]
    assert said in found.left_out[0]


# --- modules without kernels ----------------------------------------------------------------------------------------------

def stub(target: str, data: bytes = b"", compression: str = "") -> Code:
    """A cubin without code, perhaps with a table in it."""
    return code(target, kernels=(), data=data, compression=compression)


@pytest.mark.parametrize("compression", ["", "lz4", "zstd"])
@pytest.mark.parametrize("table", [b"", bytes(3000), bytes(range(256)) * 900])
def test_modules_without_kernels_are_empty(compression: str, table: bytes) -> None:
    """What a device link leaves behind, and files of global variables only, however large."""
    built = [stub("sm_75", table, compression), stub("sm_90a", table, compression), stub("sm_120", table, compression)]
    assert only(library([built])).empty


def test_a_container_of_size_zero_is_empty() -> None:
    """The device link of a library of PTX leaves one."""
    assert only(library([[]])) == Module((), ".nv_fatbin", only(library([[]])).offset, empty=True)


@pytest.mark.parametrize("built", [
    [code("sm_80")], [code("sm_80", compression="zstd")], [code("sm_75", kernels=()), code("sm_80")],
    [stub("sm_75", bytes(20_000)), code("sm_120", data=bytes(20_000))], [code("sm_75", data=bytes(70_000))],
    [code("compute_90")], [code("compute_90", compression="lz4")], [stub("sm_80"), code("compute_90")], [code("lto_90")],
    [stub("sm_80"), code("lto_90")],
    [Code(Architecture(80), payload=cubin(80, constants=False))],
    [Code(Architecture(80), payload=b"no cubin at all" * 9)],
    [Code(Architecture(80), payload=cubin(80, kernels=())[:90])],
])
def test_modules_with_kernels_are_not_empty(built: list[Code]) -> None:
    """One image with code is enough, and so is one that cannot be looked into."""
    assert not only(library([built])).empty


@pytest.mark.parametrize(("body", "empty"), [(b".visible .global .align 4 .u32 count;\n", True),
                                             (b".visible .func f()\n{ret;}\n", False), (b".entry k()\n{ret;}\n", False)])
def test_ptx_without_kernels_is_empty(body: bytes, empty: bool) -> None:
    """PTX of variables only is no code."""
    for compression in ("", "zstd"):
        text = Code(Architecture(90), Kind.PTX, ptx(Architecture(90), ()).rstrip(b"\0") + body, compression=compression)
        assert only(library([[stub("sm_80"), text]])).empty is empty


def test_device_functions_are_linked_later() -> None:
    """A relocatable module without kernels has functions that others need: it is not empty."""
    held = cubin(90, kernels=("helper",), constants=False, relocatable=True)
    assert not only(library([], [[Code(Architecture(90), payload=held)]])).empty


def test_a_damaged_module_is_not_called_empty() -> None:
    """Nobody knows what the image held that cannot be read."""
    built = container([stub("sm_75"), bytes(100)])
    found = read(built)
    assert found.left_out
    assert not found.modules[0].empty


# --- toolkits and bare cubins ---------------------------------------------------------------------------------------------

def test_new_cubins_name_their_toolkit() -> None:
    """Read from those that are stored as they are; older forms say nothing."""
    images = only(library([[code("sm_90"), code("sm_100"), code("sm_120a"), code("sm_120", compression="zstd")]])).images
    assert [image.toolkit for image in images] == [None, "13.0.88", "13.0.88", None]


@pytest.mark.parametrize(("number", "suffix", "old"), [
    (75, "", True), (90, "", True), (90, "a", True), (90, "a", False), (90, "", False), (100, "", False), (100, "a", False),
    (103, "f", False), (120, "", False), (120, "a", False), (120, "f", False)])
def test_a_cubin_by_itself(number: int, suffix: str, old: bool) -> None:
    """Its architecture is told by its flags, its attributes and the arguments of the tool that made it."""
    made = cubin(number, suffix, old=old)
    expected = Image(Kind.CUBIN, Architecture(number, suffix), len(made), toolkit=None if old else "13.0.88")
    assert only(made) == Module((expected,), "", 0)


def test_flags_of_cuda_12_say_a_too() -> None:
    """12.8 and 12.9 put the `a` of new cubins into the flags."""
    made = bytearray(cubin(120, "", toolkit="12.9.86"))
    made[48] |= 0x8
    assert only(bytes(made)).images[0].architecture == Architecture(120, "a")


def test_a_stripped_cubin_may_be_for_a_family() -> None:
    """Where the tool's arguments were stripped, nobody can tell `f`; that is said."""
    found = read(cubin(100, "f", toolkit=None))
    assert targets(found) == [["100"]]
    assert "family" in found.left_out[0]
    assert not read(cubin(100, "a", toolkit=None)).left_out


@pytest.mark.parametrize("keep", [20, 64, 500, -1])
def test_half_a_cubin_is_named(keep: int) -> None:
    """A cubin that is cut off is no module."""
    found = read(cubin(90)[:keep])
    assert not found.modules
    assert "cubin that cannot be read" in found.left_out[0]


@pytest.mark.parametrize(("made", "relocatable", "empty"), [
    (cubin(90, relocatable=True), True, False), (cubin(90, kernels=()), False, True),
    (cubin(90, constants=False), False, False)])
def test_a_cubin_says_what_it_is_for(made: bytes, relocatable: bool, empty: bool) -> None:
    """Linked or not, with kernels or without."""
    assert (only(made).relocatable, only(made).empty) == (relocatable, empty)


# --- damage ---------------------------------------------------------------------------------------------------------------

def damaged(at: int, form: str, *values: int) -> bytes:
    """Two containers, the second entry of the first with another value in its header."""
    first, second = bytes(code("sm_75")), bytearray(bytes(code("sm_80")))
    struct.pack_into(form, second, at, *values)
    return library([[first, bytes(second), code("sm_86")], [code("sm_90")]])


@pytest.mark.parametrize(("at", "form", "value", "said"), [
    (4, "<I", 0, "header is said to have 0"), (4, "<I", 63, "63 bytes"), (4, "<I", 2**32 - 1, "where"),
    (8, "<Q", 2**64 - 1, "where"), (8, "<Q", 10**6, "where"), (28, "<I", 0, "sm_0"), (28, "<I", 2**31, "sm_2147483648"),
    (40, "<Q", 0x300011, "flags 0x300011")])
def test_damage_costs_what_follows_in_its_container(at: int, form: str, value: int, said: str) -> None:
    """The images before it and the next containers are read, and the place is named."""
    found = read(damaged(at, form, value))
    assert targets(found) == [["75"], ["90"]]
    assert said in found.left_out[0]


def test_unknown_kinds_are_named() -> None:
    """A kind that is not known is stepped over."""
    found = read(damaged(0, "<H", 0x40))
    assert targets(found) == [["75", "86"], ["90"]]
    assert "unknown kind 64" in found.left_out[0]


@pytest.mark.parametrize("size", [0, 8, 200, 2**40, 2**64 - 1])
def test_a_wrong_container_size_costs_that_container_at_most(size: int) -> None:
    """The next container is found by its first bytes."""
    data = bytearray(fatbin([[code("sm_75")], [code("sm_90")], [code("sm_120")]]))
    data[8:16] = struct.pack("<Q", size)
    found = read(bytes(data))
    assert targets(found)[-2:] == [["90"], ["120"]]
    assert found.left_out


def test_a_fat_binary_in_an_image_is_not_opened() -> None:
    """What lies in a payload is not code of this file: sizes are followed, not bytes."""
    inner = Code(Architecture(90), payload=fatbin([[code("sm_120")]]))
    assert targets(read(library([[inner], [code("sm_80")]]))) == [["90"], ["80"]]


def test_more_than_is_ever_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of nothing but containers ends somewhere, and says where."""
    monkeypatch.setattr(partial, "MOST", 1000)
    for data in (library([[]] * 5000), library([[code("sm_90")] * 3000]), archive({f"{n}": cubin(90) for n in range(1500)})):
        found = read(data)
        assert sum(len(module.images) + 1 for module in found.modules) <= 2001
        assert "more than 1000 containers and images" in found.left_out[-1]


def test_reasons_are_counted_beyond_the_first() -> None:
    """Ten thousand faults do not become ten thousand sentences."""
    found = read(b"".join(container([code("sm_90")]) + b"12345678" for _ in range(100)))
    assert len(found.modules) == 100
    assert len(found.left_out) == partial.MOST_LEFT_OUT + 1
    assert found.left_out[-1] == "80 more things"


def test_sizes_are_those_in_memory() -> None:
    """A size that is said is not believed to be there: nothing of that size is made."""
    huge = bytearray(bytes(code("sm_90", compression="zstd")))
    struct.pack_into("<Q", huge, 56, 2**63)
    assert only(library([[bytes(huge)]])).images[0].size == 2**63


def test_entries_with_extensions_are_stepped_over_right() -> None:
    """The header's length is what it says, whatever stands in it."""
    built = [replace(code("sm_90"), extension=bytes(size)) for size in (0, 8, 40, 4000)]
    assert targets(read(library([[*built, code("sm_120")]]))) == [["90", "90", "90", "90", "120"]]
