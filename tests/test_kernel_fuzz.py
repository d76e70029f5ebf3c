"""Damaged files of every kind give a partial library: no exception, no hang, no memory beyond what they hold."""

from __future__ import annotations

import random
import resource
import signal
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

from fixtures.kernels import binary
from fixtures.kernels.image import Library
from tests.fatbins import Code, archive, code, cubin, elf, fatbin, group, library

SHORT, LONG, SEED = 5_000, 1_000_000, 20_261_121
MOST_SECONDS = 2.0  # for one file of a few kilobytes
MOST_GROWTH_KIB = 100 << 10

MIXED: list[list[Code | bytes]] = [
    [code("sm_80"), code("compute_90a", compression="zstd")], [code("sm_120f", compression="lz4"), code("lto_90")], [],
    [code("sm_75", kernels=(), data=bytes(90)), code("sm_120", kernels=())],
    [code("sm_90a", compression="zstd", debug=True), group([code("sm_80"), code("compute_120a")])],
]
HEADLESS = elf({".text": bytes(32), ".nv_fatbin": fatbin(MIXED)}, headers=False)
CORPUS = (
    library(MIXED, [[code("sm_86", relocatable=True), code("compute_86")]]), HEADLESS,
    fatbin(MIXED), fatbin([[code("sm_90", compression="lz4", kernels=("a", "b", "c"))]]),
    cubin(90, "a"), cubin(120, "f", ("k", "l")), cubin(80, constants=False), cubin(103, relocatable=True),
    archive({"a_long_name_of_an_object.o": library(MIXED[:2]), "b.cubin": cubin(75), "c.o": elf({".text": b"x"})}),
)
NUMBERS = (0, 1, 7, 8, 16, 63, 64, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 31, 1 << 40, 1 << 63, (1 << 64) - 1,
           (1 << 64) - 64)
SPLICES = (fatbin([[]])[:8], b"\x7fELF\x02\x01\x01\x33", b"!<arch>\n", b"\0.shstrtab\0", b".nv.constant0.", b".nv_fatbin\0",
           b"\x28\xb5\x2f\xfd", b"\xff" * 64, bytes(64), b".entry ", b"//              ", b"NVIDIA Corp\0",
           *(data[:400] for data in CORPUS))


def mutated(data: bytes, dice: random.Random) -> bytes:
    """The file with one to four faults."""
    held = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        begin = dice.randrange(len(held) + 1) if dice.random() < 0.7 else min(len(held), dice.randrange(256))
        end = min(len(held), begin + int(dice.expovariate(0.02)))
        kind = dice.randrange(7)
        if kind == 0 and begin < len(held):
            held[begin] ^= 1 << dice.randrange(8)
        elif kind in (1, 2):
            width, place = dice.choice((1, 2, 4, 8)), begin & ~7 if dice.random() < 0.5 else begin & ~1
            number = dice.choice(NUMBERS) if dice.random() < 0.7 else dice.randrange(2 * len(held) + 2)
            held[place:place + width] = struct.pack("<Q", number)[:width]
        elif kind == 3:
            del held[begin:end]
        elif kind == 4:
            held[end:end] = held[begin:end] * dice.randint(1, 3)
        elif kind == 5:
            splice = dice.choice(SPLICES)
            held[begin:begin + (len(splice) if dice.random() < 0.5 else 0)] = splice
        else:
            del held[begin:]
    return bytes(held)


@contextmanager
def alarmed(seconds: float) -> Iterator[None]:
    """Whatever hangs is ended, and the test with it."""
    def ring(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"still running after {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def expect_sound(data: bytes, found: Library | None, *, named: bool) -> None:
    """What is said of a damaged file lies in it."""
    if found is None:
        return
    assert found.size == len(data)
    assert found.modules or found.left_out
    assert all(0 <= module.offset < len(data) for module in found.modules)
    assert len({module.offset for module in found.modules}) == len(found.modules)
    assert all(named or module.names is None for module in found.modules)
    assert sum(len(module.images) for module in found.modules) * 64 <= len(data)


def fuzz(count: int) -> Counter[str]:
    """Read so many damaged files; how many came out how."""
    dice, outcomes = random.Random(SEED), Counter[str]()
    for place in range(count):
        data = mutated(dice.choice(CORPUS), dice)
        named = place % 2 == 0
        began = time.perf_counter()
        with alarmed(10 * MOST_SECONDS):
            found = binary.read(data, "lib.so", names=named)
        assert time.perf_counter() - began < MOST_SECONDS
        expect_sound(data, found, named=named)
        outcomes["nothing" if found is None else "partial" if found.left_out else "whole"] += 1
    return outcomes


def test_some_thousand_damaged_files() -> None:
    """Read without an exception; all outcomes occur, so that faults reach every depth."""
    outcomes = fuzz(SHORT)
    assert sum(outcomes.values()) == SHORT
    assert min(outcomes[kind] for kind in ("nothing", "partial", "whole")) > SHORT / 100


@pytest.mark.long
def test_a_million_damaged_files() -> None:
    """The same for 1,000,000 files, without memory that grows."""
    fuzz(SHORT)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert sum(fuzz(LONG).values()) == LONG
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_GROWTH_KIB


@pytest.mark.parametrize("data", [data for data in CORPUS if data is not HEADLESS])
def test_every_length_of_a_file(data: bytes) -> None:
    """Cut off after any byte: what is read is sound, and where code is missing, that is said."""
    whole = binary.read(data, "lib.so")
    assert whole is not None
    for size in range(0, len(data), 1 + len(data) // 1500):
        found = binary.read(data[:size], "lib.so")
        expect_sound(data[:size], found, named=False)
        if size >= 64 and not data.startswith(b"!<arch>"):  # an archive may end after any member
            assert found is not None
            assert found.left_out or data.startswith(b"\x50\xed")


NOTHING = struct.pack("<HHIQII2HIIIQQQ", 1, 0x101, 64, 0, 0, 0, 0, 8, 90, 0, 0, 0x11, 0, 0)  # PTX of no bytes
MAGIC = bytes.fromhex("50ed55ba01001000")
MANY = group([code("sm_90", kernels=())] * 128, "zstd")
BOMBS: dict[str, Callable[[], bytes]] = {
    "containers of nothing": lambda: library([[]] * 300_000),
    "images without kernels": lambda: fatbin([[code("sm_90", kernels=())] * 20_000]),
    "groups without kernels": lambda: fatbin([[MANY]] * 100),
    "images of nothing": lambda: fatbin([[NOTHING] * 300_000]),
    "one name for all sections": lambda: elf({"n" * 3_000_000: b""} | {f"{n}": b"" for n in range(30_000)}),
    "one section again and again": lambda: _same_section(20_000, 4 << 20),
    "an archive of nothing": lambda: archive({f"{n}": b"" for n in range(150_000)}),
    "beginnings without section headers": lambda: elf({".x": MAGIC * 500_000}, headers=False),
    "beginnings in a section": lambda: elf({".nv_fatbin": MAGIC * 500_000}),
}


def _same_section(count: int, size: int) -> bytes:
    data = bytearray(elf({".nv_fatbin": b"x" * size} | {f"{n}": b"" for n in range(count)}))
    at = int.from_bytes(data[40:48], "little")
    row = data[at + 128:at + 192]
    return bytes(data[:at] + data[at:at + 128] + row * (count + 1))


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_do_not_go_off(name: str) -> None:
    """Files that were made to take time or memory take some seconds and some memory at most."""
    data = BOMBS[name]()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with alarmed(10):
        found = binary.read(data, "lib.so", names=True)
    expect_sound(data, found, named=True)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_GROWTH_KIB
