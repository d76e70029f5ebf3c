"""One measurement, a process of its own: reads a file or folder again and again and prints seconds and peak memory as JSON.

    python -m bench.kernels.measured PATH ROUNDS
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from fixtures.kernels.inputs import reader

_CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Measured:
    """Seconds of the first read and of those after it, what each of these took of a processor, the process's peak memory in
    MB, and what was read, in bytes.
    """

    first_s: float
    warm_s: tuple[float, ...]
    cpu_s: float
    peak_mb: float
    files: int
    size: int
    libraries: int
    images: int


def measure(path: Path, rounds: int) -> Measured:
    """In a fresh process."""
    command: list[str | Path] = [sys.executable, "-m", "bench.kernels.measured", path, str(rounds)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd=_CHECKOUT)
    told = json.loads(ended.stdout)
    return Measured(**{**told, "warm_s": tuple(told["warm_s"])})


def main(path: Path, rounds: int) -> None:
    """Read and print."""
    began = time.perf_counter()
    reading = reader.read(path)
    seconds, cpu = [time.perf_counter() - began], time.process_time()
    for _ in range(rounds):
        began = time.perf_counter()
        reading = reader.read(path)
        seconds.append(time.perf_counter() - began)
    cpu = (time.process_time() - cpu) / rounds
    images = sum(len(module.images) for library in reading.libraries for module in library.modules)
    print(json.dumps(asdict(Measured(seconds[0], tuple(seconds[1:]), cpu, _peak_mb(), reading.files, reading.size,
                                     len(reading.libraries), images))))


def _peak_mb() -> float:
    """Of this program alone: getrusage() would count what the parent had before it became this one."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
