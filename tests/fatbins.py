"""Files that hold GPU code, built byte by byte: cubins, fat binaries, host ELF files and archives."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fixtures.kernels.image import Architecture, Kind

MAGIC = 0xBA55ED50
KINDS = {Kind.PTX: 1, Kind.CUBIN: 2, Kind.LTO: 8}
COMPRESSIONS = {"": 0, "lz4": 0x2000, "zstd": 0x8000}
SUFFIXES = {"": 0, "a": 0x100000, "f": 0x200000}
COMPAT = 0x1000000
CUDA = 190  # e_machine of a cubin
X86_64 = 62


def padded(data: bytes, to: int = 8) -> bytes:
    """The data with zeros behind it up to a multiple of `to`."""
    return data + bytes(-len(data) % to)


# --- compression ----------------------------------------------------------------------------------------------------------

def lz4(data: bytes) -> bytes:
    """An LZ4 block of literals only."""
    if len(data) < 15:
        return bytes([len(data) << 4]) + data
    more, last = divmod(len(data) - 15, 255)
    return b"\xf0" + b"\xff" * more + bytes([last]) + data


def zstd(data: bytes) -> bytes:
    """A Zstandard frame of raw blocks, its content size stated (RFC 8878)."""
    blocks = [data[at:at + 0x10000] for at in range(0, len(data), 0x10000)] or [b""]
    last = len(blocks) - 1
    framed = [(len(block) << 3 | (place == last)).to_bytes(3, "little") + block for place, block in enumerate(blocks)]
    return struct.pack("<IBI", 0xFD2FB528, 0xA0, len(data)) + b"".join(framed)


PACKERS: dict[str, Callable[[bytes], bytes]] = {"": bytes, "lz4": lz4, "zstd": zstd}


# --- fat binaries ---------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Code:
    """One entry of a fat binary. `payload` is what it holds before compression, `extension` what follows its 64 bytes."""

    architecture: Architecture
    kind: Kind = Kind.CUBIN
    payload: bytes = b""
    isa: tuple[int, int] = (8, 7)
    compression: str = ""
    debug: bool = False
    extension: bytes = b""

    def __bytes__(self) -> bytes:
        packed = PACKERS[self.compression](self.payload)
        extension, body = padded(self.extension), padded(packed)
        flags = 0x11 | 0x2 * self.debug | COMPRESSIONS[self.compression] | SUFFIXES[self.architecture.suffix]
        major, minor = (1, 8) if self.kind is Kind.CUBIN else self.isa
        sizes = (len(packed), len(self.payload)) if self.compression else (0, 0)
        head = struct.pack("<HHIQII2HIIIQQQ", KINDS[self.kind], 0x0101, 64 + len(extension), len(body), sizes[0],
                           64 if extension else 0, minor, major, self.architecture.number, 0, 0,
                           flags | COMPAT * bool(extension), 0, sizes[1])
        return head + extension + body


def group(codes: Sequence[Code], compression: str = "zstd") -> bytes:
    """Several images packed as one entry, as nvcc -concat does: a header for each, then all of them behind each other."""
    bodies = [padded(one.payload) for one in codes]
    table = b""
    for place, one in enumerate(codes):
        own = bytearray(bytes(one)[:64])
        struct.pack_into("<IQI", own, 4, sum(map(len, bodies[:place])), len(bodies[place]), 0)
        extension = struct.pack("<II", 0x48, len(one.extension)) + one.extension + b"\0" if one.kind is Kind.PTX else b""
        table += bytes(own) + padded(extension)
    table = struct.pack("<II", len(codes), len(table) + 8) + table
    whole = b"".join(bodies)
    packed = PACKERS[compression](whole)
    sizes = (len(packed), len(whole)) if compression else (0, 0)
    head = struct.pack("<HHIQII2HIIIQQQ", 0x100, 0x0101, 64 + len(table), len(padded(packed)), sizes[0], 64, 1, 0, 0, 0, 0,
                       0x11 | COMPRESSIONS[compression], 0, sizes[1])
    return head + table + padded(packed)


def container(codes: Iterable[Code | bytes]) -> bytes:
    """One module; none in it is what a device link leaves behind."""
    body = b"".join(map(bytes, codes))
    return struct.pack("<IHHQ", MAGIC, 1, 16, len(body)) + body


def fatbin(modules: Iterable[Iterable[Code | bytes]]) -> bytes:
    """Modules one behind the other, as a section `.nv_fatbin` holds them."""
    return b"".join(map(container, modules))


def code(target: str, *, kernels: Sequence[str] = ("kernel",), compression: str = "", debug: bool = False,
         isa: tuple[int, int] = (8, 7), relocatable: bool = False, data: bytes = b"") -> Code:
    """The code of `sm_90a` (a cubin), `compute_120f` (PTX) or `lto_90`, with these kernels; `data` is a cubin's global."""
    family, _, name = target.partition("_")
    number = name.rstrip("af")
    arch = Architecture(int(number), name[len(number):])
    if family == "compute":
        return Code(arch, Kind.PTX, ptx(arch, kernels, isa), isa, compression, debug)
    if family == "lto":
        return Code(arch, Kind.LTO, b"\xde\xc0\x17\x0b" * 8, isa, compression, debug)
    made = cubin(arch.number, arch.suffix, kernels, relocatable=relocatable, data=data)
    extension = struct.pack("<II", 0x48, 0x1C) + b"\0" + compat(arch.suffix) if arch.number >= 100 else b""
    return Code(arch, Kind.CUBIN, made, compression=compression, debug=debug, extension=extension)


def ptx(arch: Architecture, kernels: Sequence[str] = ("kernel",), isa: tuple[int, int] = (8, 7)) -> bytes:
    """PTX with a zero behind it, as it stands in a fat binary."""
    head = f".version {isa[0]}.{isa[1]}\n.target sm_{arch}\n.address_size 64\n"
    return (head + "".join(f".visible .entry {name}(\n.param .u64 {name}_param_0\n)\n{{\nret;\n}}\n" for name in kernels)
            + "\0").encode()


# --- ELF ------------------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Section:
    """A section of an ELF file."""

    name: str
    data: bytes
    type: int = 1
    link: int = 0
    align: int = 8


@dataclass(frozen=True)
class Head:
    """What the ELF header says beside the places of things."""

    machine: int = X86_64
    type: int = 3
    osabi: int = 0
    abi: int = 0
    version: int = 1
    flags: int = 0


def elf(sections: Mapping[str, bytes] | Iterable[Section], head: Head = Head(), *, headers: bool = True) -> bytes:
    """An ELF64 file: `.shstrtab` first, then the sections in order, then their headers unless `headers` is false."""
    if isinstance(sections, Mapping):
        sections = [Section(name, data) for name, data in sections.items()]
    listed = [Section(".shstrtab", b"", 3, align=1), *sections]
    names, at = bytearray(1), {}
    for name in dict.fromkeys(section.name for section in listed):
        at[name] = len(names)
        names += name.encode() + b"\0"
    listed[0] = Section(".shstrtab", bytes(names), 3, align=1)
    body, table = bytearray(), [bytes(64)]
    for section in listed:
        body += bytes(-(64 + len(body)) % section.align)
        table.append(struct.pack("<IIQQQQIIQQ", at[section.name], section.type, 0, 0, 64 + len(body), len(section.data),
                                 section.link, 0, section.align, 24 if section.type == 2 else 0))
        body += section.data
    body += bytes(-len(body) % 8)
    at_headers, count, index = (64 + len(body), len(table), 1) if headers else (0, 0, 0)
    if count > 0xFEFF:  # more than the header has room for: section 0 counts them
        table[0], count, index = struct.pack("<32xQI20x", count, index), 0, 0xFFFF
    ident = b"\x7fELF\x02\x01\x01" + bytes([head.osabi, head.abi]) + bytes(7)
    first = ident + struct.pack("<HHIQQQIHHHHHH", head.type, head.machine, head.version, 0, 0, at_headers, head.flags,
                                64, 56, 0, 64, count, index)
    return first + bytes(body) + (b"".join(table) if headers else b"")


def library(modules: Iterable[Iterable[Code | bytes]], relocatable: Iterable[Iterable[Code | bytes]] = ()) -> bytes:
    """A shared library with these modules, and these that have still to be linked."""
    sections = {".text": b"\xc3" * 64, ".nv_fatbin": fatbin(modules)}
    if linked := fatbin(relocatable):
        sections["__nv_relfatbin"] = linked
    return elf(sections)


# --- cubins ---------------------------------------------------------------------------------------------------------------

def cubin(arch: int, suffix: str = "", kernels: Sequence[str] = ("kernel",), *, toolkit: str | None = "13.0.88",
          relocatable: bool = False, old: bool | None = None, constants: bool = True, data: bytes = b"") -> bytes:
    """Machine code for one architecture as ptxas lays it out: names first, symbols behind them, code last.

    `old` is the form that CUDA 12 writes below sm_100 (it has no toolkit). Without `constants` the kernels stand in the
    symbol table only, as in hand-assembled code. `data` is a device global.
    """
    old = arch < 100 if old is None else old
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in kernels)
    symbols, at = bytes(24), 1
    for name in kernels:
        symbols += struct.pack("<IBBHQQ", at, 0x12, 0x10, 1, 0, 128)
        at += len(name.encode()) + 1
    sections = [Section(".strtab", strings, 3, align=1), Section(".symtab", symbols, 2, link=2)]
    if not old:
        sections += _notes(arch, suffix, toolkit)
    for name in kernels:
        sections.append(Section(f".text.{name}", bytes(128), align=128))
        if constants:
            sections.append(Section(f".nv.constant0.{name}", bytes(360), align=4))
    if data:
        sections.append(Section(".nv.global.init", data))
    flags = arch | arch << 16 | 0x500 | 0x800 * (suffix == "a") if old else arch << 8 | 0x6000002
    kind = 1 if relocatable else 2
    return elf(sections, Head(CUDA, kind, 0x33 if old else 0x41, 7 if old else 8, 0x80 if old else 1, flags))


def compat(suffix: str) -> bytes:
    """What stands in `.nv.compat`: 'a' is said here, 'f' is not."""
    return bytes([2, 9, suffix == "a", 0, 2, 2, 1, 0, 3, 7, 1, 1, 2, 3, 0, 0, 4, 11, 8]) + bytes(9)


def _notes(arch: int, suffix: str, toolkit: str | None) -> list[Section]:
    """What CUDA 13 says of itself in a cubin; 'f' stands in the tool's arguments only."""
    sections = [Section(".nv.compat", compat(suffix), 0x70000086, align=4)]
    if toolkit is None:
        return sections
    words = [b"", b"ptxas", f"Cuda compilation tools, release {toolkit.rpartition('.')[0]}, V{toolkit}".encode(),
             b"Build", f"-arch sm_{arch}{suffix} ".encode()]
    places = [sum(len(word) + 1 for word in words[:place]) for place in range(1, 5)]
    text = padded(struct.pack("<5I", 2, 0, *places[:3]) + struct.pack("<I", places[3]) + b"\0".join(words) + b"\0", 4)
    note = struct.pack("<III", 12, len(text), 2000) + b"NVIDIA Corp\0" + text
    return [Section(".note.nv.tkinfo", note, 7, align=4), *sections]


# --- archives -------------------------------------------------------------------------------------------------------------

def archive(members: Mapping[str, bytes]) -> bytes:
    """An ar archive as GNU ar writes it: names over 15 characters in a table of their own."""
    table, out = b"", bytearray()
    for name, data in members.items():
        short = f"{name}/"
        if len(short) > 16:
            short, table = f"/{len(table)}", table + f"{name}/\n".encode()
        out += _member(short, data)
    return b"!<arch>\n" + (_member("//", table) if table else b"") + bytes(out)


def _member(name: str, data: bytes) -> bytes:
    return f"{name:<16}{0:<12}{0:<6}{0:<6}{644:<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
