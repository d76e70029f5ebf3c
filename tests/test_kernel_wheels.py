"""The reader on published wheels: the same images as cuobjdump, one for one, and how many modules run on an RTX 5090.

cuobjdump 13 refuses libraries that CUDA 12.0 to 12.2 built ("Invalid ELF"), of these wheels those that bitsandbytes has for
CUDA 12.0 to 12.2; cuobjdump 12.8 reads them, and does not know the suffix `f`, which they cannot have. It lists nothing of a
file without section headers (test_kernel_truth.py), and no image outside .nv_fatbin and __nv_relfatbin.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from zipfile import ZipFile

import pytest

from bench.kernels import objdump
from fixtures.kernels import binary, catalogue
from fixtures.kernels.coverage import coverage
from fixtures.kernels.image import Library, Reading
from fixtures.kernels.inputs import reader
from fixtures.kernels.row import Counts
from fixtures.kernels.rules import Target
from fixtures.setup import cuda, wheels
from tests.cuda_toolkit import had

pytestmark = pytest.mark.long

RTX_5090 = Target((12, 0))

# Modules that run, run by JIT, are for other GPUs, have no image: as another reader counted them, torch 2.13.0 as this one.
# FlashAttention 3 has sm_80 beside sm_90a, so nothing says "other GPUs only"; it is called on Hopper only.
COUNTED = {
    "vllm==0.10.1.1": {
        "vllm/_C.abi3.so": Counts(26, 17, 24, 2),
        "vllm/_moe_C.abi3.so": Counts(5, 11, 0, 0),
        "vllm/vllm_flash_attn/_vllm_fa2_C.abi3.so": Counts(0, 60, 0, 0),
        "vllm/vllm_flash_attn/_vllm_fa3_C.abi3.so": Counts(0, 0, 0, 292),
        "vllm/_flashmla_C.abi3.so": Counts(0, 0, 3, 0),
    },
    "vllm==0.26.0": {
        "vllm/_C_stable_libtorch.abi3.so": Counts(65, 6, 15, 9),
        "vllm/_moe_C_stable_libtorch.abi3.so": Counts(28, 1, 0, 7),
        "vllm/vllm_flash_attn/_vllm_fa2_C.abi3.so": Counts(0, 76, 0, 0),
    },
    "vllm==0.33.0": {
        "vllm/_C_stable_libtorch.abi3.so": Counts(76, 6, 18, 7),
        "vllm/_moe_C_stable_libtorch.abi3.so": Counts(27, 1, 0, 7),
        "vllm/vllm_flash_attn/_vllm_fa2_C.abi3.so": Counts(0, 76, 0, 0),
    },
    "sgl-kernel==0.3.9.post2": {
        "sgl_kernel/common_ops.abi3.so": Counts(55, 0, 0, 0),
        "sgl_kernel/flash_ops.abi3.so": Counts(0, 0, 0, 182),
    },
    "torch==2.7.1": {"torch/lib/libtorch_cuda.so": Counts(0, 0, 0, 341)},  # 342 before: one of them holds tables only
    "torch==2.13.0": {"torch/lib/libtorch_cuda.so": Counts(406, 0, 0, 0)},
    "bitsandbytes==0.47.0": {},
}
REFUSED = {"bitsandbytes==0.47.0": {f"bitsandbytes/libbitsandbytes_cuda{release}.so" for release in (120, 121, 122)}}


@dataclass(frozen=True)
class Wheel:
    """A published wheel and what the reader made of it."""

    pin: str
    file: Path
    reading: Reading


@pytest.fixture(scope="module", params=COUNTED)
def wheel(request: pytest.FixtureRequest) -> Iterator[Wheel]:
    """Fetched, read and dropped again, one after another."""
    pin = wheels.parse(request.param)
    assert pin is not None
    before = wheels.find(pin)
    file = had(partial(wheels.fetch, pin, print))
    yield Wheel(request.param, file, reader.read(file, names=catalogue.wants_names))
    if before is None:
        wheels.drop(pin)


def compared(library: Library, file: Path, programs: list[Path]) -> Path | None:
    """The first cuobjdump that reads the file, after its list was compared; None if none does."""
    for program in programs:
        try:
            theirs = objdump.listed(program, file)
        except objdump.CannotRead:
            continue
        linked, others = (([objdump.entry(image) for module in library.modules for image in module.images
                            if (module.section == "__nv_relfatbin") is later]) for later in (False, True))
        assert theirs[:len(linked)] == linked
        assert Counter(theirs[len(linked):]) == Counter(others)
        return program
    return None


def test_cuobjdump_lists_the_same(wheel: Wheel, tmp_path: Path) -> None:
    """Every library of the wheel, image for image; what the reader passes over holds no GPU code for cuobjdump either."""
    new = had(partial(cuda.ensure, cuda.OBJDUMP, print)) / "cuobjdump"
    programs = [new, *([had(partial(cuda.old_objdump, print))] if wheel.pin in REFUSED else [])]
    skipped = {left.path for left in wheel.reading.left_out if "same bytes" in left.why}
    read_by: dict[str, Path | None] = {}
    with ZipFile(wheel.file) as archive:
        for member in archive.infolist():
            with archive.open(member) as stream:
                if not binary.may_hold_code(stream.read(binary.HEAD), member.filename) or member.filename in skipped:
                    continue
            file = tmp_path / "library"
            with archive.open(member) as stream, file.open("wb") as copy:
                shutil.copyfileobj(stream, copy, 1 << 20)
            library = wheel.reading.library(member.filename) or Library(member.filename, member.file_size, ())
            assert library.left_out == ()
            read_by[member.filename] = compared(library, file, programs) if library.modules else _finds_nothing(new, file)
    assert {library.path for library in wheel.reading.libraries} <= set(read_by)
    assert {path for path, program in read_by.items() if program != new} == REFUSED.get(wheel.pin, set())


def _finds_nothing(program: Path, file: Path) -> Path:
    try:
        said = "does not contain device code" if not objdump.listed(program, file) else "images"
    except objdump.CannotRead as refusal:
        said = str(refusal)
    assert "does not contain device code" in said
    return program


def test_the_counts_are_those_seen_before(wheel: Wheel) -> None:
    """How many modules of each library run on sm_120, and by which way."""
    rows = {row.path: row.counts for row in coverage(wheel.reading, RTX_5090).rows}
    assert {path: rows.get(path) for path in COUNTED[wheel.pin]} == COUNTED[wheel.pin]


def test_every_wheel_has_its_images(wheel: Wheel) -> None:
    """An empty reading would agree with everything that is compared."""
    assert sum(len(module.images) for library in wheel.reading.libraries for module in library.modules) > 100
