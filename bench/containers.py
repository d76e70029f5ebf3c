"""What containers add to a start: the same lineup by the launchers in turn, from each launch to the first token.

    .venv/bin/python -m bench.containers [--engine llamacpp] [--lineup trilingual] [--launcher compose] [--rounds 5]

The process launcher goes first in every round. The exit status is 1 where a deployment takes more than 2 s longer to start.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
BAR_S = 2.0
RUN_S = 900


@dataclass(frozen=True)
class Start:
    """One run that starts a deployment and ends it: seconds of all its servers to their first tokens, and of everything."""

    servers: int
    ready_s: float
    total_s: float


def main() -> int:
    """Run and print a row of the README's table."""
    parser = argparse.ArgumentParser(prog="python -m bench.containers", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="llamacpp")
    parser.add_argument("--lineup", default="trilingual")
    parser.add_argument("--launcher", default="container", choices=["container", "compose"])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    which = [f"--engine={options.engine}", f"--lineup={options.lineup}"]
    for launcher in ("process", options.launcher):
        measured(launcher, which)  # sets up, converts and reads what later starts find
    rounds = [(measured("process", which), measured(options.launcher, which)) for _ in range(options.rounds)]
    added = [ours.ready_s - theirs.ready_s for theirs, ours in rounds]
    ratio = statistics.median(ours.ready_s / theirs.ready_s for theirs, ours in rounds)
    whole = [ours.total_s - theirs.total_s for theirs, ours in rounds]
    print("| engine, servers | process | in containers | ratio | added to a deployment's start | to the whole run | bar |")
    print(f"| {options.engine}, {rounds[0][0].servers} | {_seconds([one.ready_s for one, _ in rounds])} | "
          f"{options.launcher}: {_seconds([one.ready_s for _, one in rounds])} | {ratio:.2f} | {_seconds(added)} | "
          f"{_seconds(whole)} | {BAR_S:g} s |")
    return 0 if statistics.median(added) <= BAR_S else 1


def measured(launcher: str, which: Sequence[str]) -> Start:
    """One run. Raises SystemExit with its output where a server does not start."""
    with tempfile.TemporaryDirectory(prefix="cotenant-bench-") as folder:
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-m", "cpu", "-k", "startup.ready", f"--launcher={launcher}", *which,
             f"--results={folder}"], cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=RUN_S,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""})
        total = time.monotonic() - began
        file = Path(folder) / "latest" / "cells.jsonl"
        cells = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
    if not cells or any(cell["verdict"] != "pass" for cell in cells):
        raise SystemExit(f"a server did not start:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
    return Start(len(cells), sum(cell["figures"]["ready_s"]["value"] for cell in cells), total)


def _seconds(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} s ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    sys.exit(main())
