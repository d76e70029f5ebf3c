"""Names of kernels are those that the images hold, however they are packed."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.kernels.binary import names, packed, partial
from fixtures.kernels.image import Architecture, Kind
from tests.cells import steady
from tests.fatbins import Code, code, cubin, elf, fatbin, library, lz4
from tests.read_back import only, read

LONG = tuple(f"_ZN5spans{number:05}{'kernel' * 20}E" for number in range(3000))
identifiers = st.lists(st.from_regex(r"[A-Za-z_$][A-Za-z0-9_$]{0,30}", fullmatch=True), max_size=6, unique=True)


@pytest.fixture
def no_libraries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without libzstd and liblz4."""
    def absent(names: tuple[str, ...]) -> None:
        return None

    monkeypatch.setattr(packed, "_library", absent)
    packed._libzstd.cache_clear()
    yield
    packed._libzstd.cache_clear()


@given(identifiers, st.sampled_from(["", "lz4", "zstd"]), st.sampled_from(["sm_80", "sm_90a", "sm_120f", "compute_90"]))
@steady
def test_kernels_come_back(kernels: list[str], compression: str, target: str) -> None:
    """The names are those that were put in."""
    built = code(target, kernels=kernels, compression=compression)
    assert only(library([[built]]), names=True).names == tuple(kernels)


def test_nobody_asked() -> None:
    """Names are read for those who want them."""
    assert only(library([[code("sm_90")]])).names is None


def test_images_are_taken_together() -> None:
    """A kernel that only one architecture has is a kernel of the module; PTX adds nothing to cubins."""
    built = [code("sm_80", kernels=("a", "b")), code("sm_90a", kernels=("b", "c")), code("compute_90", kernels=("d",))]
    assert only(library([built]), names=True).names == ("a", "b", "c")


@pytest.mark.parametrize("number", [80, 120])
@pytest.mark.parametrize("compression", ["", "lz4", "zstd"])
def test_hand_assembled_code_names_them_in_its_symbols(number: int, compression: str) -> None:
    """Where kernels have no constants, the symbol table says what is an entry point."""
    made = cubin(number, constants=False, kernels=("a", "b"))
    built = Code(Architecture(80), payload=made, compression=compression)
    assert only(library([[built]]), names=True).names == ("a", "b")
    assert only(made, names=True).names == ("a", "b")


def test_device_functions_are_no_kernels() -> None:
    """A function that is no entry point is not named."""
    made = bytearray(cubin(80, constants=False, kernels=("helper", "kernel")))
    at = made.index(b"\x12\x10\x01\x00")
    made[at + 1] = 0
    assert only(bytes(made), names=True).names == ("kernel",)


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_long_heads_are_unpacked_further(compression: str) -> None:
    """Names that take more than what is unpacked first are all there."""
    built = code("sm_90", kernels=LONG, compression=compression)
    assert len(built.payload) > 4 * names.FIRST
    assert only(library([[built]]), names=True).names == LONG


@pytest.mark.parametrize("payload", [b"", b"no cubin" * 50, cubin(90)[:200], elf({".nv.constant0.x": b""})])
@pytest.mark.parametrize("compression", ["", "lz4", "zstd"])
def test_what_cannot_be_read_has_no_names(payload: bytes, compression: str) -> None:
    """Unknown is not none."""
    built = Code(Architecture(90), payload=payload, compression=compression)
    assert only(library([[built]]), names=True).names is None


@pytest.mark.parametrize("keep", [0, 1, 40, 200])
@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_damaged_packing_has_no_names(keep: int, compression: str) -> None:
    """What does not unpack is left alone."""
    built = bytearray(bytes(code("sm_90", compression=compression)))
    built[64 + keep:] = b"\xff" * (len(built) - 64 - keep)
    assert only(library([[bytes(built)]]), names=True).names is None


@pytest.mark.usefixtures("no_libraries")
def test_without_libraries() -> None:
    """LZ4 is unpacked by the fallback; what only libzstd can unpack has no names, and is not called empty."""
    assert only(library([[code("sm_90", kernels=LONG, compression="lz4")]]), names=True).names == LONG
    module = only(library([[code("sm_90", compression="zstd")]]), names=True)
    assert (module.names, module.empty) == (None, False)


def _packed(data: bytes) -> bytes:
    """What liblz4 makes of it."""
    library = packed._library(packed._LZ4)
    if library is None:
        pytest.skip("liblz4 is not here")
    room = ctypes.create_string_buffer(len(data) * 2 + 64)
    size = library.LZ4_compress_default(data, room, len(data), len(room))
    return room.raw[:size]


@given(st.lists(st.binary(max_size=40), max_size=12), st.integers(1, 5), st.integers(1, 700))
@steady
def test_the_fallback_agrees_with_the_library(pieces: list[bytes], times: int, most: int) -> None:
    """Repeats near and far, cut anywhere."""
    data = b"".join(piece * times for piece in pieces) * 2 + b"end"
    for form in (_packed(data), lz4(data)):
        assert packed.lz4_block(form, most) == data[:most] == packed.unpack(form, "lz4", most)


@given(st.binary(max_size=200), st.integers(1, 10_000), st.sampled_from(["lz4", "zstd"]))
@steady
def test_any_bytes_unpack_to_no_more_than_asked(data: bytes, most: int, how: str) -> None:
    """Damage gives less, never more, and never raises."""
    assert len(packed.unpack(data, how, most) or b"") <= most
    assert len(packed.lz4_block(data, most) or b"") <= most


def test_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would unpack to more than is ever needed is given up, and that is said."""
    monkeypatch.setattr(partial, "MOST_UNPACKED", 1 << 20)
    bomb = Code(Architecture(90), Kind.CUBIN, bytes(64) + b"\0.shstrtab\0" + b"x" * 400_000, compression="lz4")
    found = read(fatbin([[bomb]] * 100), names=True)
    assert len(found.modules) == 100
    assert "names of kernels" in found.left_out[0]
