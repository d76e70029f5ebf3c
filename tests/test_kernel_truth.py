"""The reader against NVIDIA's compiler: what was asked of nvcc is what is read, and cuobjdump lists the same images."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from bench.kernels import objdump
from fixtures.kernels import binary, rules
from fixtures.kernels.image import Kind, Library, Module
from fixtures.setup import cuda
from tests.cuda_toolkit import Toolkit, had, toolkit

SOURCE = """
extern "C" __global__ void first(int *out) { *out = 42; }
namespace two { template <typename T> __global__ void second(T *out) { *out += 1; } }
template __global__ void two::second<float>(float *);
"""
OTHER = 'extern "C" __global__ void third(int *out) { *out = 3; }\n'
MAIN = SOURCE + "int main() { first<<<1, 1>>>(nullptr); return cudaGetLastError(); }\n"
NAMES = frozenset({"first", "_ZN3two6secondIfEEvPT_"})
OLD_PTX = ".version 8.0\n.target sm_{}\n.address_size 64\n.visible .entry first(.param .u64 p) {{ ret; }}\n"

FATBIN, OBJECT, CUBIN = ("-fatbin",), ("-c",), ("-cubin",)
LINKED = ("-shared", "-Xcompiler", "-fPIC")
SHARED = ("-cudart", "none", *LINKED)  # without the runtime library nothing is linked for the device
EVERY = ("cubin", "ptx", "lto")
ALL = ("all",)  # stands for what nvcc itself names


def code(*labels: str) -> tuple[str, ...]:
    """The options that ask for these images: sm_90a, compute_120f, lto_80."""
    return tuple(f"-gencode=arch=compute_{label.partition('_')[2]},code={label}" for label in labels)


@dataclass(frozen=True)
class Case:
    """A call of nvcc and what it has to give: the labels of each module, `asked` in any order."""

    words: tuple[str, ...]
    asked: tuple[tuple[str, ...], ...]
    sources: tuple[str, ...] = ("one.cu",)
    relocatable: int = 0  # so many modules, the last ones
    debug: bool = False
    packed: tuple[str, ...] = ("ptx", "lto")


def one(*labels: str, how: tuple[str, ...] = FATBIN, **other: object) -> Case:
    """One translation unit with these images."""
    return replace(Case((*code(*labels), *how), (labels,)), **other)  # type: ignore[arg-type]


BOTH = ("sm_80", "compute_80")
CASES = {
    "single": one("sm_90"),
    "several": one("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"),
    "several and PTX": one("sm_80", "sm_90", "compute_90", "compute_75"),
    "PTX only": one("compute_80"),
    "PTX a and f": one("compute_90a", "compute_100f", "compute_103a"),
    "a": one("sm_90a", "sm_100a", "sm_103a", "sm_120a"),
    "f": one("sm_100f", "sm_110f", "sm_120f", "compute_120f"),
    "plain and a of one number": one("sm_100", "sm_100a", "compute_100a", "compute_100"),
    "sm of a family's PTX": Case(("-gencode=arch=compute_120f,code=sm_120", *FATBIN), (("sm_120f",),)),
    "all": Case(("-arch=all", *FATBIN), (ALL,)),
    "all, concatenated": Case(("-arch=all", "-concat", *FATBIN), (ALL,), packed=EVERY),
    "object": one("sm_80", "compute_80", how=OBJECT),
    "relocatable object": one(*BOTH, how=("-rdc=true", *OBJECT), relocatable=1),
    "LTO object": one("lto_80", how=("-rdc=true", *OBJECT), relocatable=1),
    "LTO beside others": one("lto_80", "sm_90", "compute_90"),
    "-G": one(*BOTH, how=("-G", *FATBIN), debug=True, packed=EVERY),
    "-g": one(*BOTH, how=("-g", *OBJECT)),
    "-lineinfo": one(*BOTH, how=("-lineinfo", *FATBIN)),
    "compression default": one(*BOTH, how=("-compress-mode=default", *FATBIN)),
    "compression balance": one(*BOTH, how=("-compress-mode=balance", *FATBIN)),
    "compression size": one(*BOTH, how=("-compress-mode=size", *FATBIN), packed=EVERY),
    "compression speed": one(*BOTH, how=("-compress-mode=speed", *FATBIN)),
    "compression none": one(*BOTH, how=("-compress-mode=none", *FATBIN), packed=()),
    "-no-compress": one(*BOTH, how=("-no-compress", *FATBIN), packed=()),
    "-compress-all": one(*BOTH, how=("-Xfatbin=-compress-all", *FATBIN), packed=EVERY),
    "shared library": one("sm_80", "sm_90a", "compute_90", how=SHARED),
    "two modules": Case((*code("sm_80", "sm_120f"), *SHARED), (("sm_80", "sm_120f"),) * 2, ("one.cu", "other.cu")),
    "linked": Case((*code(*BOTH), "-rdc=true", *LINKED), (("sm_80",), BOTH, BOTH), ("one.cu", "other.cu"), relocatable=2),
}
CUBINS = ("sm_75", "sm_80", "sm_90", "sm_90a", "sm_100", "sm_100a", "sm_100f", "sm_103a", "sm_110f", "sm_120", "sm_120f")
OLD_CUBINS = ("sm_75", "sm_80", "sm_90", "sm_90a", "sm_100", "sm_100a", "sm_120", "sm_120a")


@dataclass(frozen=True)
class Workshop:
    """A folder of sources and what was made of them, by name; commands in it say what cuobjdump and the linker say."""

    tools: Toolkit
    folder: Path

    def path(self, name: str) -> Path:
        """Where the product of this name lies."""
        return self.folder / name.replace(" ", "-").replace(",", "")

    def compile(self, name: str, words: Sequence[str | Path], sources: Sequence[str | Path] = ("one.cu",)) -> Path:
        """Compile the sources into the product of this name."""
        self.tools.run("nvcc", [*words, *sources, "-o", self.path(name)], self.folder)
        return self.path(name)

    def system(self, *words: str | Path) -> None:
        """Run a tool of the system on products."""
        subprocess.run([str(word) for word in words], cwd=self.folder, check=True, capture_output=True, timeout=60)

    def listed(self, file: Path) -> list[objdump.Entry]:
        """What cuobjdump lists."""
        return objdump.listed(self.tools.objdump, file)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """With every case compiled."""
    shop = Workshop(toolkit(), tmp_path_factory.mktemp("truth"))
    for name, text in {"one.cu": SOURCE, "other.cu": OTHER, "main.cu": MAIN}.items():
        (shop.folder / name).write_text(text, encoding="utf-8")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        works = [pool.submit(shop.compile, name, case.words, case.sources) for name, case in CASES.items()]
        works += [pool.submit(shop.compile, f"{label}.cubin", [*code(label), *CUBIN]) for label in CUBINS]
        for work in works:
            work.result()
    return shop


def library(file: Path, *, names: bool = False) -> Library:
    """What the reader makes of it, with nothing left out."""
    found = binary.open_file(file, file.name, names=names)
    assert found is not None, f"{file.name} holds GPU code"
    assert found.left_out == ()
    return found


def with_kernels(found: Library) -> list[Module]:
    """Its modules without what device links leave behind."""
    return [module for module in found.modules if not module.empty]


def labels(modules: Sequence[Module]) -> list[list[str]]:
    """Each module as a sorted list of labels, the modules in order."""
    return [sorted(rules.label(image) for image in module.images) for module in modules]


def entries(found: Library) -> list[objdump.Entry]:
    """All images of all modules in cuobjdump's order."""
    ordered = sorted(found.modules, key=lambda module: module.section == "__nv_relfatbin")
    return [objdump.entry(image) for module in ordered for image in module.images]


def asked(name: str, tools: Toolkit) -> list[list[str]]:
    """The labels of each module that has to come out."""
    if CASES[name].asked != (ALL,):
        return [sorted(wanted) for wanted in CASES[name].asked]
    numbers = tools.architectures()
    newest = max(number for number in numbers if number % 10 == 0)
    return [sorted([*(f"sm_{number}" for number in numbers), f"compute_{newest}"])]


@pytest.mark.parametrize("name", CASES)
def test_what_was_asked_is_read(workshop: Workshop, name: str) -> None:
    """Every image that nvcc was asked for is read, in its module, and no other; debug and compression are as asked."""
    case, modules = CASES[name], with_kernels(library(workshop.path(name)))
    assert labels(modules) == asked(name, workshop.tools)
    images = [image for module in modules for image in module.images]
    assert {image.debug for image in images} == {case.debug}
    for place, module in enumerate(modules):
        assert module.relocatable == (place >= len(modules) - case.relocatable)
        for image in module.images:
            assert bool(image.compression) == (module.relocatable or image.kind in case.packed), image


@pytest.mark.parametrize("name", CASES)
def test_cuobjdump_lists_the_same(workshop: Workshop, name: str) -> None:
    """Kind, architecture, suffix, PTX version, compression and debug, image for image, stubs among them."""
    assert entries(library(workshop.path(name))) == workshop.listed(workshop.path(name))


@pytest.mark.parametrize("name", [name for name in CASES if "LTO" not in name])
def test_names_are_the_compilers(workshop: Workshop, name: str) -> None:
    """The kernels' names as the linker has them, however the images are packed."""
    modules = with_kernels(library(workshop.path(name), names=True))
    others = {"third"} if len(CASES[name].sources) == 2 else set()
    assert {kernel for module in modules for kernel in module.names or ()} == NAMES | others


def test_lz4_and_zstd_are_told_apart(workshop: Workshop) -> None:
    """The mode `speed` is LZ4, the others are zstd."""
    modes = {name: {image.compression for module in library(workshop.path(f"compression {name}")).modules
                    for image in module.images} for name in ("speed", "size", "balance", "none")}
    assert modes == {"speed": {"lz4", ""}, "size": {"zstd"}, "balance": {"zstd", ""}, "none": {""}}


@pytest.mark.parametrize("name", ["several", "compression size", "compression speed", "-G"])
def test_sizes_are_those_in_memory(workshop: Workshop, name: str, tmp_path: Path) -> None:
    """Machine code is as large as what cuobjdump takes out; the container pads to 8 bytes."""
    workshop.tools.run("cuobjdump", ["-xelf", "all", workshop.path(name)], tmp_path)
    taken = sorted(-(-file.stat().st_size // 8) * 8 for file in tmp_path.iterdir())
    read = sorted(-(-image.size // 8) * 8 for module in library(workshop.path(name)).modules for image in module.images
                  if image.kind is Kind.CUBIN)
    assert read == taken


@pytest.mark.parametrize("label", CUBINS)
def test_bare_cubins(workshop: Workshop, label: str) -> None:
    """A cubin by itself tells its architecture with the suffix, and the tool that made it."""
    (module,) = library(workshop.path(f"{label}.cubin"), names=True).modules
    assert labels([module]) == [[label]]
    assert set(module.names or ()) == NAMES
    assert module.images[0].toolkit == cuda.CUDA


@pytest.mark.parametrize("label", OLD_CUBINS)
def test_cubins_of_cuda_12(workshop: Workshop, label: str, tmp_path: Path) -> None:
    """CUDA 12's assembler writes the architecture elsewhere; bare and in a fat binary it is the one asked for."""
    old = had(partial(cuda.ensure, cuda.OLD_ASSEMBLER, print))
    number = label.removeprefix("sm_")
    isa = "8.0" if int(number.rstrip("a")) < 100 else "8.7"
    (tmp_path / "old.ptx").write_text(OLD_PTX.replace("8.0", isa).format(number), encoding="utf-8")
    Toolkit(old).run("ptxas", ["-arch", label, "old.ptx", "-o", "old.cubin"], tmp_path)
    words = ["--create=old.fatbin", "-64", f"--image3=kind=elf,sm={number},file=old.cubin"]
    workshop.tools.run("fatbinary", words, tmp_path)
    for name in ("old.cubin", "old.fatbin"):
        (module,) = library(tmp_path / name, names=True).modules
        assert (labels([module]), module.names) == ([[label]], ("first",))
    assert entries(library(tmp_path / "old.fatbin")) == workshop.listed(tmp_path / "old.fatbin")


def test_archives_give_every_member(workshop: Workshop) -> None:
    """The members of an archive in order, linked and relocatable ones, long names among them."""
    long = workshop.folder / "an-object-with-a-name-that-does-not-fit-into-the-header.o"
    shutil.copyfile(workshop.path("object"), long)
    workshop.system("ar", "rcs", "some.a", long, workshop.path("relocatable object"), workshop.path("LTO object"))
    archive = workshop.folder / "some.a"
    modules = library(archive).modules
    assert labels(modules) == [sorted(BOTH), sorted(BOTH), ["lto_80"]]
    assert [objdump.entry(image) for module in modules for image in module.images] == workshop.listed(archive)


def test_nvcc_makes_archives(workshop: Workshop) -> None:
    """An archive of the compiler's own making."""
    archive = workshop.compile("lib.a", [*code(*BOTH), "-lib"], ["one.cu", "other.cu"])
    assert labels(library(archive).modules) == [sorted(BOTH)] * 2


def test_executables(workshop: Workshop) -> None:
    """An executable has the module of its kernels, and what the runtime library brings is seen to hold none."""
    file = workshop.compile("program", [*code("sm_90", "compute_90")], ["main.cu"])
    found = library(file)
    assert labels(with_kernels(found)) == [["compute_90", "sm_90"]]
    assert len(found.modules) == 2
    assert entries(found) == workshop.listed(file)


@pytest.mark.parametrize("name", ["shared library", "two modules", "linked"])
def test_strip_takes_nothing_away(workshop: Workshop, name: str) -> None:
    """`strip` leaves all images where they are."""
    file = workshop.folder / "stripped.so"
    workshop.system("strip", "-o", file, workshop.path(name))
    assert file.stat().st_size < workshop.path(name).stat().st_size
    assert labels(with_kernels(library(file))) == asked(name, workshop.tools)
    assert entries(library(file)) == workshop.listed(file)


@pytest.mark.parametrize("name", ["shared library", "two modules"])
def test_without_section_headers(workshop: Workshop, name: str) -> None:
    """Where the section headers are gone, which `sstrip` does, all images are found; cuobjdump finds none."""
    data = bytearray(workshop.path(name).read_bytes())
    (at,) = struct.unpack_from("<Q", data, 40)
    del data[at:]
    struct.pack_into("<Q", data, 40, 0)
    struct.pack_into("<HH", data, 60, 0, 0)
    file = workshop.folder / "headless.so"
    file.write_bytes(data)
    found = binary.open_file(file, file.name)
    assert found is not None
    assert labels(with_kernels(found)) == asked(name, workshop.tools)
    with pytest.raises(objdump.CannotRead):
        workshop.listed(file)


def test_a_file_without_gpu_code(workshop: Workshop) -> None:
    """An object that nvcc compiled for the host only is no library with GPU code."""
    (workshop.folder / "host.cu").write_text("int host() { return 1; }\n", encoding="utf-8")
    file = workshop.compile("host.o", ["-c", "-x", "c++"], ["host.cu"])
    assert binary.open_file(file, "host.o") is None


def test_linked_lto(workshop: Workshop) -> None:
    """What was compiled to LTO code and linked is machine code for the architecture that the linker was told."""
    lto = workshop.compile("lto.o", [*code("lto_80"), "-rdc=true", *OBJECT])
    home = workshop.folder / "nvvm" / "lib64"  # where the linker looks for what the wheel has elsewhere
    home.mkdir(parents=True)
    (home / "libnvvm.so").symlink_to(next(workshop.tools.libraries.glob("libnvvm.so.*")))
    words: list[str | Path] = ["-arch=sm_86", "-dlto", f"-nvvmpath={home.parent}", lto, "-o", "lto.cubin"]
    workshop.tools.run("nvlink", [*words, "-L", workshop.tools.libraries, "-lcudadevrt"], workshop.folder)
    (module,) = library(workshop.folder / "lto.cubin", names=True).modules
    assert (labels([module]), module.relocatable) == ([["sm_86"]], False)
    assert set(module.names or ()) == NAMES
