"""cuobjdump: NVIDIA's list of the images in a file."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from fixtures.kernels.image import Architecture, Image, Kind

_KINDS = {"elf": Kind.CUBIN, "ptx": Kind.PTX, "nvvm": Kind.LTO}
_GROUP = "concatenated entry"  # of images that are packed as one
_TITLE = re.compile(r"^\s*Fatbin ", re.MULTILINE)
_BLOCK = re.compile(r"^(\t?)Fatbin (.+) code:\n\t?=+\n((?:\t?\S.*\n)*)", re.MULTILINE)
_ARCHITECTURE = re.compile(r"^\t?arch = (?:sm|compute|lto)_(\d+)([af]?)$", re.MULTILINE)
_VERSION = re.compile(r"^\t?code version = \[(\d+),(\d+)\]$", re.MULTILINE)
_DEBUG = re.compile(r"^\t?has debug info$", re.MULTILINE)
_COMPRESSED = re.compile(r"^\t?compressed$", re.MULTILINE)
LIMIT_S = 600


class CannotRead(Exception):
    """It refuses the file; the words are its own."""


class Entry(NamedTuple):
    """What both tools say of an image. `isa` is None for all but PTX."""

    kind: Kind
    architecture: Architecture
    isa: tuple[int, int] | None
    compressed: bool
    debug: bool

    def __str__(self) -> str:
        told = "".join([f" {self.isa[0]}.{self.isa[1]}" if self.isa else "", " compressed" * self.compressed,
                        " debug" * self.debug])
        return f"{self.kind} {self.architecture}{told}"


def entry(image: Image) -> Entry:
    """The same of an image as we read it."""
    return Entry(image.kind, image.architecture, image.isa, bool(image.compression), image.debug)


def listed(program: Path, file: Path) -> list[Entry]:
    """Every image of the file, in cuobjdump's order: linked ones, then those that have still to be linked.

    Raises CannotRead, also where it says something that is not understood here.
    """
    return list(parse(run(program, [file])))


def run(program: Path, words: Sequence[str | Path]) -> str:
    """What it prints of all fat binaries. Raises CannotRead."""
    try:
        ended = subprocess.run([program, "-all", *words], capture_output=True, text=True, errors="replace", check=False,
                               timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        raise CannotRead(f"it took more than {LIMIT_S} s") from None
    if ended.returncode:
        raise CannotRead((ended.stderr or ended.stdout).strip()[-200:] or f"it ended with {ended.returncode}")
    return ended.stdout


def parse(text: str) -> Iterator[Entry]:
    """The blocks of its output; those of a group are indented. Raises CannotRead for one that is not understood."""
    blocks, group_is_packed = _BLOCK.findall(text), False
    if len(blocks) != len(_TITLE.findall(text)):
        raise CannotRead("its output is of another form than what is understood here")
    for indent, name, block in blocks:
        packed = bool(_COMPRESSED.search(block))
        if name == _GROUP:
            group_is_packed = packed
            continue
        architecture, version = _ARCHITECTURE.search(block), _VERSION.search(block)
        kind = _KINDS.get(name)
        if kind is None or architecture is None or version is None:
            raise CannotRead(f"a block of its output is not understood: {name}: {' '.join(block.split())[:160]}")
        isa = (int(version[1]), int(version[2]))
        yield Entry(kind, Architecture(int(architecture[1]), architecture[2]), isa if kind is Kind.PTX else None,
                    packed or (bool(indent) and group_is_packed), bool(_DEBUG.search(block)))
