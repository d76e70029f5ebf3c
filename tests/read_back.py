"""What files that were built are read as."""

from __future__ import annotations

from fixtures.kernels import binary
from fixtures.kernels.image import Library, Module


def read(data: bytes, *, names: bool = False) -> Library:
    """What a file that holds GPU code is read as."""
    found = binary.read(data, "lib.so", names=names)
    assert found is not None
    return found


def only(data: bytes, *, names: bool = False) -> Module:
    """The one module of a file."""
    found = read(data, names=names)
    assert len(found.modules) == 1
    return found.modules[0]


def targets(found: Library | None) -> list[list[str]]:
    """The architectures of each module's images."""
    return [[str(image.architecture) for image in module.images] for module in found.modules] if found else []
