"""Reads GPU code beside NVIDIA's cuobjdump, in one run, and judges the bars of bench/README.md.

    python -m bench.kernels [--library libtorch_cuda.so] [--environment FOLDER] [--rounds 5]

By default the largest libtorch_cuda.so of what cotenant has set up, and the environment around it. cuobjdump comes from PyPI
and lies under COTENANT_HOME. Exit 1 where a bar is not held or nothing could be measured.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.kernels import measured, objdump
from bench.kernels.measured import Measured
from fixtures.kernels import binary
from fixtures.setup import SetupFailed, cuda, home

BAR_RATIO = 100
BAR_S, BAR_BYTES = 1.0, 8e9
BAR_MB = 100


class Unavailable(Exception):
    """What is to be measured is not here; the words say what."""


@dataclass(frozen=True)
class Bar:
    """A row of the table: a figure, the bar, and whether it is held."""

    what: str
    figure: str
    bar: str
    held: bool


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print; 1 where a bar is not held."""
    options = _parser().parse_args(arguments)
    try:
        library = options.library or _largest_library()
        folder = options.environment or _environment_of(library)
        program = cuda.ensure(cuda.OBJDUMP, _say) / "cuobjdump"
        bars = [*of_library(library, program, options.rounds), *of_environment(folder, options.rounds)]
    except (Unavailable, objdump.CannotRead) as refusal:
        print(refusal, file=sys.stderr)
        return 1
    except SetupFailed as refusal:
        print(f"{refusal.reason}. {refusal.cure}", file=sys.stderr)
        return 1
    print("| | measured | bar | |", "|---|---|---|---|", sep="\n")
    print(*(f"| {bar.what} | {bar.figure} | {bar.bar} | {'pass' if bar.held else 'fail'} |" for bar in bars), sep="\n")
    return 0 if all(bar.held for bar in bars) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.kernels", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", type=_existing, help="the file that both read")
    parser.add_argument("--environment", type=_existing, help="the folder that ours reads as a whole")
    parser.add_argument("--rounds", type=int, default=5)
    return parser


def _existing(text: str) -> Path:
    path = Path(text).expanduser().absolute()
    if not path.exists():
        raise argparse.ArgumentTypeError(f"there is no {path}")
    return path


def _largest_library() -> Path:
    found = (home() / "engines").glob("*/lib/python3*/site-packages/torch/lib/libtorch_cuda.so")
    largest = max(found, key=lambda file: file.stat().st_size, default=None)
    if largest is None:
        raise Unavailable(f"no environment in {home() / 'engines'} has PyTorch for CUDA: name one with --library")
    return largest


def _environment_of(library: Path) -> Path:
    """The virtual environment that the library lies in, or the folder that it is in."""
    return next((folder for folder in library.parents if (folder / "pyvenv.cfg").exists()), library.parent)


def of_library(library: Path, program: Path, rounds: int) -> Iterator[Bar]:
    """Ours and cuobjdump's in turn on one file that is in the page cache; both have to list the same images."""
    same = _ours(library) == objdump.listed(program, library)  # and the file is in the page cache now
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(measured.measure(library, 3))
        began = time.perf_counter()
        objdump.run(program, [library])
        theirs.append(time.perf_counter() - began)
    warm = [second for one in ours for second in one.warm_s]
    ratio, size = median(theirs) / median(warm), library.stat().st_size / 1e6
    yield Bar(f"{library.name}, {size:.0f} MB, {ours[0].images} images: the same list as cuobjdump {cuda.CUDA}",
              "yes" if same else "no", "yes", same)
    yield Bar(f"{library.name}, warm", f"{ratio:.0f} times as fast: {1000 * median(warm):.1f} ms ({1000 * min(warm):.1f} to "
              f"{1000 * max(warm):.1f}), cuobjdump {median(theirs):.2f} s ({min(theirs):.2f} to {max(theirs):.2f})",
              f"{BAR_RATIO} times", ratio >= BAR_RATIO)
    yield _memory(library.name, ours)


def _ours(library: Path) -> list[objdump.Entry]:
    found = binary.open_file(library, library.name)
    if found is None:
        raise Unavailable(f"{library} holds no GPU code")
    modules = sorted(found.modules, key=lambda module: module.relocatable)
    return [objdump.entry(image) for module in modules for image in module.images]


def of_environment(folder: Path, rounds: int) -> Iterator[Bar]:
    """Every file of it, read as a whole; the bar grows and shrinks with its size."""
    one = measured.measure(folder, rounds)
    seconds, allowed = median(one.warm_s), BAR_S * one.size / BAR_BYTES
    yield Bar(f"{folder.name}: {one.size / 1e9:.1f} GB, {one.files} files, {one.libraries} libraries, {one.images} images",
              f"{seconds:.2f} s warm ({min(one.warm_s):.2f} to {max(one.warm_s):.2f}), processor {one.cpu_s:.2f} s, "
              f"first {one.first_s:.2f} s",
              f"{allowed:.2f} s ({BAR_S:.0f} s for {BAR_BYTES / 1e9:.0f} GB)", seconds < allowed)
    yield _memory(folder.name, [one])


def _memory(what: str, runs: Sequence[Measured]) -> Bar:
    peak = max(run.peak_mb for run in runs)
    return Bar(f"{what}: peak memory of the process", f"{peak:.0f} MB", f"{BAR_MB} MB", peak <= BAR_MB)


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
