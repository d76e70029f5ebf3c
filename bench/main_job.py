"""Times the main job: from a bare machine and again, with the run's own share and its process's memory.

    .venv/bin/python -m bench.main_job [--engine llamacpp] [--bare]

`--bare` runs in a fresh clone with an empty COTENANT_HOME, both removed afterwards. Prints one row of the README's table.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Timing:
    """One run in seconds; `first_row_s` is when the first engine's row stood, `own_mb` the peak of pytest's own process."""

    first_row_s: float | None
    total_s: float
    own_mb: float
    facts: dict[str, object]

    @property
    def row(self) -> str:
        """As the table shows it."""
        sheet = self.facts["timesheet"]
        assert isinstance(sheet, dict), "a finished run has a timesheet"
        waits = sum(wait["seconds"] for wait in sheet["waits"])
        first = f"{self.first_row_s:.0f} s" if self.first_row_s else "-"
        return (f"| {self.total_s:.0f} s | {first} | {sheet['setup']:.0f} s | {sheet['boots']['count']} boots, "
                f"{sheet['boots']['seconds']:.0f} s | {sheet['generation']:.0f} s | {waits:.0f} s "
                f"({100 * waits / sheet['total']:.1f} %) | {sheet['own']['percent']} % | {self.own_mb:.0f} MB |")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", action="append", default=[])
    parser.add_argument("--bare", action="store_true")
    options = parser.parse_args(arguments)
    words = ["-m", "cpu", "--yes", *(f"--engine={name}" for name in options.engine)]
    print("| total | first row | set-up | boots | generation | waits | own share | own memory |")
    if not options.bare:
        print(measure(CHECKOUT, words, dict(os.environ)).row)
        return
    with tempfile.TemporaryDirectory(prefix="cotenant-bench-") as folder:
        clone = Path(folder) / "cotenant"
        subprocess.run(["git", "clone", "--quiet", str(CHECKOUT), str(clone)], check=True)
        print(measure(clone, words, {**os.environ, "COTENANT_HOME": str(Path(folder) / "home")}).row)


def measure(checkout: Path, words: Sequence[str], env: dict[str, str]) -> Timing:
    """One `./cotenant run`, watched from outside."""
    began = time.monotonic()
    run = subprocess.Popen([str(checkout / "cotenant"), "run", *words], cwd=checkout, env=env, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True)
    peaks: list[float] = [0.0]
    watcher = threading.Thread(target=_watch, args=(run, peaks), daemon=True)
    watcher.start()
    first = None
    assert run.stdout is not None, "it was opened as a pipe"
    for line in run.stdout:
        if first is None and re.match(r"llamacpp .* · process", line):
            first = time.monotonic() - began
    run.wait()
    total = time.monotonic() - began
    facts = json.loads((checkout / "results" / "latest" / "run.json").read_text(encoding="utf-8"))
    return Timing(first, total, peaks[0], facts)


def _watch(run: subprocess.Popen[str], peaks: list[float]) -> None:
    """The peak resident memory of the process itself; it keeps its pid through every exec."""
    while run.poll() is None:
        found = re.search(r"VmHWM:\s+(\d+) kB", _status(run.pid))
        peaks[0] = max(peaks[0], int(found.group(1)) / 1024 if found else 0.0)
        time.sleep(0.2)


def _status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return ""  # it just ended


if __name__ == "__main__":
    main()
