"""Builds small programs for many GPUs, loads each here, and lays what comes of it beside what the rules say.

    python -m bench.load_rules [--out FILE.json] [--nvcc PATH]
    python -m bench.load_rules --capability 12.0 --driver 580      without a GPU: what the rules say, nothing compared

Needs nvcc, a host compiler, a GPU and Python's standard library. Each program is loaded in its own process, three times: as
it is, with CUDA_FORCE_PTX_JIT=1 and with CUDA_DISABLE_PTX_JIT=1. Exit 1 where rule and reality differ, where the compiler
refuses a program, or where nothing was compared.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path

from bench.load_rules import device, program
from bench.load_rules.cases import CASES, SETTINGS, Case, Setting
from bench.load_rules.device import Device, NoDevice
from bench.load_rules.program import Compiler, NotBuilt
from fixtures.kernels import binary, driver, rules
from fixtures.kernels.rules import Ruling, Target

AT_ONCE = 4  # processes on the GPU


@dataclass(frozen=True)
class Row:
    """One kernel under one setting. `rule` and `here` are 0 where it runs, else the runtime's error number.

    `here` is None where the program gave no answer, or where there is no GPU.
    """

    image: str
    setting: str
    fate: str
    rule: int | None
    here: int | None
    reason: str

    @property
    def agrees(self) -> bool:
        """Whether the rule says what was seen."""
        return self.here is not None and self.rule == self.here


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, load, compare and print."""
    options = _parser().parse_args(arguments)
    nvcc = options.nvcc or program.find()
    if nvcc is None:
        print("no nvcc on PATH, in /usr/local/cuda/bin or in a Python package: name it with --nvcc", file=sys.stderr)
        return 1
    try:
        gpu, why = device.first(), ""
    except NoDevice as refusal:
        gpu, why = None, str(refusal)
    with tempfile.TemporaryDirectory(prefix="load-rules-") as folder:
        return _run(Compiler(nvcc.absolute(), Path(folder)), gpu, why, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.load_rules", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, metavar="FILE", help="write everything as JSON, too")
    parser.add_argument("--nvcc", type=Path, help="the compiler")
    parser.add_argument("--capability", default="9.0", type=_capability, help="of the GPU asked about where none is here")
    parser.add_argument("--driver", default="580", type=driver.branch, help="its driver, likewise")
    return parser


def _capability(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor)


def _run(compiler: Compiler, gpu: Device | None, why: str, options: argparse.Namespace) -> int:
    try:
        toolkit = compiler.version
    except NotBuilt as refusal:
        print(refusal, file=sys.stderr)
        return 1
    programs, refusals = _built(compiler)
    capability = gpu.capability if gpu else options.capability
    target = Target(capability, driver.branch(gpu.driver) if gpu else options.driver)
    rows = _rows(programs, target, on_gpu=gpu is not None)
    print(_head(gpu, why, target, toolkit), *_table(rows, compared=gpu is not None), sep="\n")
    print(*(f"not built: {name}: {said}" for name, said in refusals.items()), _verdict(rows, gpu), sep="\n")
    if options.out:
        facts = {"device": asdict(gpu) if gpu else None, "toolkit": toolkit, "capability": capability,
                 "driver": target.driver, "rows": [{**asdict(row), "agrees": row.agrees} for row in rows],
                 "not_built": refusals}
        options.out.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return 0 if gpu and rows and not refusals and all(row.agrees for row in rows) else 1


def _built(compiler: Compiler) -> tuple[dict[Case, Path], dict[str, str]]:
    """The programs by case, and why there is none for the others."""
    programs, refusals = {}, {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        works = {case: pool.submit(compiler.build, case, number) for number, case in enumerate(CASES)}
        for case, work in works.items():
            try:
                programs[case] = work.result()
            except NotBuilt as refusal:
                refusals[case.name] = str(refusal)
    return programs, refusals


def _rows(programs: dict[Case, Path], target: Target, *, on_gpu: bool) -> list[Row]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        works = [pool.submit(_row, case, part, file, setting, target, on_gpu=on_gpu)
                 for case, file in programs.items() for part in range(len(case.parts)) for setting in SETTINGS]
        return [work.result() for work in works]


def _row(case: Case, part: int, file: Path, setting: Setting, target: Target, *, on_gpu: bool) -> Row:
    under = replace(target, force_ptx_jit=setting.force_ptx_jit, disable_ptx_jit=setting.disable_ptx_jit)
    ruling = ruled(file, f"kernel_{part}", under)
    name = f"{case.name}, kernel of file {part + 1}" if len(case.parts) > 1 else case.name
    here = program.launch(file, part, setting) if on_gpu else None
    return Row(name, setting.name, ruling.fate.value, 0 if ruling.fate.runs else ruling.error, here, ruling.reason)


def ruled(file: Path, kernel: str, target: Target) -> Ruling:
    """What the rules say of one kernel of a program, from what is read of the program's file."""
    library = binary.open_file(file, file.name, names=True)
    assert library is not None, "nvcc put GPU code into it"
    found = zip(library.modules, rules.rulings(library.modules, target), strict=True)
    of_kernel = [(module, ruling) for module, ruling in found if ruling and kernel in (module.names or ())]
    # A linked kernel stands in two modules: the one that is loaded, and the one that it was linked from.
    return min(of_kernel, key=lambda pair: pair[0].relocatable)[1]


def _head(gpu: Device | None, why: str, target: Target, toolkit: str) -> str:
    if gpu is None:
        return f"no GPU ({why}); the rules for {target.name} with driver {target.driver}; nvcc {toolkit}"
    return f"{gpu.name}, compute capability {target.name}, driver {gpu.driver} (CUDA {gpu.cuda}); nvcc {toolkit}"


def _table(rows: Sequence[Row], *, compared: bool) -> list[str]:
    """A line for each kernel: under each setting what the rule says, and what was seen here."""
    cells = [["image", *(word for setting in SETTINGS for word in (setting.name, "here")), ""]]
    for image, of_image in groupby(rows, lambda row: row.image):
        loads = list(of_image)
        differs = compared and not all(row.agrees for row in loads)
        cells.append([image, *(word for row in loads for word in (_rule(row), _shown(row.here))), "DIFFERS" * differs])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in cells]


def _rule(row: Row) -> str:
    return row.fate if row.rule == 0 else f"{row.rule} ({row.fate})"


def _shown(code: int | None) -> str:
    return "-" if code is None else str(code) if code else "runs"


def _verdict(rows: Sequence[Row], gpu: Device | None) -> str:
    kernels = len({row.image for row in rows})
    if gpu is None:
        return f"{kernels} kernels built; nothing was loaded, so nothing was compared"
    differ = sum(not row.agrees for row in rows)
    return f"{kernels} kernels, {len(rows)} loads: {differ} differ from the rules"


if __name__ == "__main__":
    sys.exit(main())
