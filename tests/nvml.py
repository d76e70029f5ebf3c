"""A fake NVML: a real shared library that says what a folder says, for the real pynvml to load."""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pynvml

from fixtures.gpu import device

SOURCE = Path(__file__).resolve().parent / "fake_nvml"
INSIDE = "inside.so"
VARIABLE = "COTENANT_FAKE_NVML"
MIB, GIB = 2**20, 2**30
HOST_PIDS = 1_000_000  # what `listing="host"` adds to every pid

# An idle H200 as its driver describes it: bytes, mW, mJ ("auto": power over time), MHz.
H200: Mapping[str, object] = {
    "name": "NVIDIA H200", "capability": "9.0", "memory_total": 150_754_820_096, "memory_reserved": 600 * MIB,
    "memory_idle": 600 * MIB, "extra": 0, "persistence": 1, "ecc": 1, "mig": 0, "power_limit": 700_000, "power": 76_000,
    "energy": "auto", "utilisation": 0, "clock_graphics": 345, "clock_sm": 345, "clock_memory": 3201, "clock_sm_max": 1980,
    "clock_memory_max": 3201, "throttle": 1, "temperature": 28, "pcie_gen": 5, "pcie_width": 16, "pcie_gen_max": 5,
    "pcie_width_max": 16, "listing": "process"}
RTX5090: Mapping[str, object] = {
    **H200, "name": "NVIDIA GeForce RTX 5090", "capability": "12.0", "memory_total": 34_190_917_632, "ecc": "N/A",
    "mig": "N/A", "power_limit": 575_000, "power": 21_000, "persistence": 0, "clock_sm_max": 3090}
# Unified memory: the driver counts none of it.
GB10: Mapping[str, object] = {
    **H200, "name": "NVIDIA GB10", "capability": "12.1", "memory_total": "N/A", "memory_reserved": "N/A", "ecc": "N/A",
    "mig": "N/A", "power_limit": "N/A", "pcie_gen": "N/A", "pcie_width": "N/A", "energy": "N/A"}


@cache
def library() -> Path:
    """The folder that holds libnvidia-ml.so.1, compiled once for as long as its source stays the same.

    `inside.so` beside it has no SONAME, so that it never stands in for the real library once it is no longer asked for.
    """
    code = b"".join(file.read_bytes() for file in sorted(SOURCE.iterdir()))
    folder = Path(tempfile.gettempdir()) / f"cotenant-fake-nvml-{os.getuid()}-{hashlib.sha256(code).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    for name, options in (("libnvidia-ml.so.1", ["-Wl,-soname,libnvidia-ml.so.1"]), (INSIDE, [])):
        if not (folder / name).exists():
            made = folder / f"{os.getpid()}.so"
            command = ["gcc", "-shared", "-fPIC", "-O1", *options, "-o", str(made), str(SOURCE / "nvml.c")]
            subprocess.run(command, check=True, timeout=60)
            made.rename(folder / name)
    return folder


class FakeNvml:
    """The folder that the library reads anew at every call: what is written here is what NVML says from then on.

    In another process, such as a whole run or a planted server, by its environment:

    >>> fake = FakeNvml(tmp_path / "nvml")
    >>> fake.gpu(0)                                  # an idle H200; RTX5090 and GB10 are here too
    >>> subprocess.run([…, "-m", "h200"], env={**os.environ, **fake.env})
    >>> fake.process(server.pid, 0, 14 * GIB)        # until that process ends

    A server that holds memory by itself writes `0 <bytes>` (device, bytes) into $COTENANT_FAKE_NVML/processes/<its pid>.
    In this process `with fake:` puts it in the place of the machine's own NVML.
    """

    def __init__(self, path: Path, *, driver: str = "580.95.05", cuda: int = 13000) -> None:
        self.path = path
        self._gpus: dict[int, dict[str, object]] = {}
        self._failures: dict[tuple[str, int | None], int] = {}
        for name in ("devices", "processes"):
            (path / name).mkdir(parents=True, exist_ok=True)
        self._write("system", {"driver": driver, "cuda": cuda, "library": f"{cuda // 1000}.{driver}"})

    @property
    def env(self) -> dict[str, str]:
        """What a process needs in its environment to be told this."""
        searched = [str(library()), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
        return {VARIABLE: str(self.path), "LD_LIBRARY_PATH": ":".join(searched)}

    def gpu(self, index: int, model: Mapping[str, object] = H200, **changes: object) -> str:
        """A device, or changes to one that is there already; a value may be "N/A". Returns its UUID.

        `listing` is how processes are told: "process", "na" (no figures), "none" (an empty list), "host" (pids of another
        namespace) or "unsupported". `extra` is memory, in bytes, that no process listed here holds.
        """
        uuid = f"GPU-{index:x}0a1b2c3-1111-2222-3333-44445555666{index:x}"
        first = {**model, "uuid": uuid, "pci": f"00000000:{0x4e + index:02X}:00.0"}
        self._gpus[index] = {**self._gpus.get(index, first), **changes, **self._energy(index)}
        self._write(f"devices/{index}", self._gpus[index])
        return str(self._gpus[index]["uuid"])

    def process(self, pid: int, index: int, size: int | str, *words: str) -> None:
        """What a process holds on a device from now on, in bytes or "N/A"; on its other devices it holds nothing.

        `words`: "compute" (the default), "graphics" or "mps"; "keep" for a pid that does not exist here.
        """
        self.processes(pid, {index: size}, *words)

    def processes(self, pid: int, sizes: Mapping[int, int | str], *words: str) -> None:
        """The same on several devices."""
        self._replace(f"processes/{pid}", "".join(f"{index} {size} {' '.join(words)}\n" for index, size in sizes.items()))

    def release(self, pid: int) -> None:
        """The process holds nothing any more, whether it lives or not."""
        (self.path / "processes" / str(pid)).unlink(missing_ok=True)

    def fail(self, function: str, code: int = pynvml.NVML_ERROR_UNKNOWN, index: int | None = None) -> None:
        """Have a C function (`nvmlDeviceGetMemoryInfo`; "*": all that ask a device) fail with this code from now on."""
        self._failures[function, index] = code
        self._write_failures()

    def heal(self) -> None:
        """Nothing fails any more."""
        self._failures.clear()
        self._write_failures()

    def xid(self, index: int, number: int) -> None:
        """Raise an Xid event."""
        with (self.path / "xids").open("a") as file:
            file.write(f"{index} {number}\n")

    def _energy(self, index: int) -> dict[str, object]:
        """The counter goes on from where it is when the power changes; time in µs."""
        before, now = self._gpus.get(index, {}), time.monotonic()
        power, since = before.get("power"), int(str(before.get("energy_at", 0))) / 1e6
        spent = power * (now - since) if isinstance(power, int | float) else 0
        return {"energy_at": int(now * 1e6), "energy_then": int(int(str(before.get("energy_then", 0))) + spent)}

    def _write_failures(self) -> None:
        lines = (f"{function} {code}{'' if index is None else f' {index}'}\n"
                 for (function, index), code in self._failures.items())
        self._replace("fail", "".join(lines))

    def _write(self, name: str, values: Mapping[str, object]) -> None:
        self._replace(name, "".join(f"{key} {value}\n" for key, value in values.items()))

    def _replace(self, name: str, text: str) -> None:
        """In one step: it is being read all the time."""
        folder, file = (self.path / name).parent, self.path / name
        with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as written:
            written.write(text)
        Path(written.name).replace(file)

    def __enter__(self) -> FakeNvml:
        self._inside = self._installed()
        self._inside.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._inside.__exit__(None, None, None)

    @contextmanager
    def _installed(self) -> Iterator[None]:
        before, known = pynvml.nvmlLib, dict(pynvml._nvmlGetFunctionPointer_cache)
        told = os.environ.get(VARIABLE)
        os.environ[VARIABLE] = str(self.path)
        _use(ctypes.CDLL(str(library() / INSIDE)), {})
        try:
            yield
        finally:
            _use(before, known)
            os.environ.pop(VARIABLE)
            if told is not None:
                os.environ[VARIABLE] = told


def _use(loaded: ctypes.CDLL | None, known: Mapping[str, object]) -> None:
    pynvml.nvmlLib = loaded
    pynvml._nvmlGetFunctionPointer_cache.clear()
    pynvml._nvmlGetFunctionPointer_cache.update(known)
    device.find.cache_clear()
