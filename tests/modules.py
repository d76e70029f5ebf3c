"""Modules and libraries as a reader gives them, from what NVIDIA's compiler calls images: sm_90a, compute_120f, lto_80."""

from __future__ import annotations

from collections.abc import Sequence

from fixtures.kernels.image import Architecture, Compiler, Image, Kind, Library, Module, Reading

KINDS = {"sm": Kind.CUBIN, "compute": Kind.PTX, "lto": Kind.LTO}
LINKED_NOW, LINKED_LATER = ".nv_fatbin", "__nv_relfatbin"


def image(name: str, isa: tuple[int, int] = (8, 7), toolkit: str | None = None) -> Image:
    """One image; `isa` is the PTX version of one that has any."""
    kind, _, target = name.partition("_")
    number = target.rstrip("af")
    architecture = Architecture(int(number), target[len(number):])
    return Image(KINDS[kind], architecture, 1000, isa if kind == "compute" else None, toolkit)


def module(*names: str, isa: tuple[int, int] = (8, 7), toolkit: str | None = None, relocatable: bool = False,
           empty: bool = False, kernels: Sequence[str] | None = None) -> Module:
    """One module with these images."""
    images = tuple(image(name, isa, toolkit) for name in names)
    section = LINKED_LATER if relocatable else LINKED_NOW
    return Module(images, section, 0, relocatable, empty, None if kernels is None else tuple(kernels))


def library(path: str, *modules: Module, left_out: tuple[str, ...] = (), removed_by: str | None = None) -> Library:
    """One library with these modules."""
    return Library(path, 1_000_000, modules, left_out, None, removed_by)


def reading(*found: Library, compilers: Sequence[Compiler] = (), packages: dict[str, str] | None = None,
            cuda: str | None = None) -> Reading:
    """All of them as one."""
    return Reading("here", found, tuple(compilers), packages or {}, cuda, len(found), sum(one.size for one in found))


def compiler(path: str, *names: str, version: str = "12.8.93", hint: bool = False) -> Compiler:
    """A compiler that names these architectures; none: they could not be read."""
    known = tuple(image(name).architecture for name in names) or None
    name = "ptxas" if "ptxas" in path else "nvrtc"
    return Compiler(name, path, version, known, hint)
