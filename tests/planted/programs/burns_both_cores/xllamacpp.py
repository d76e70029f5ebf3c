"""Keeps every core of the machine busy while it generates and half a second longer."""

import os
import subprocess
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[4]))

from tests.planted.inprocess import EachGeneration, plant
from tests.planted.messages import Request

BURNERS = 8 * (os.cpu_count() or 1)
SECONDS = 0.5
RUNNING: list[subprocess.Popen[bytes]] = []


def burn(request: Request) -> None:
    """Start the burners where none are left."""
    RUNNING[:] = [burner for burner in RUNNING if burner.poll() is None]
    if not RUNNING:
        loop = ["timeout", str(SECONDS), "sh", "-c", "while :; do :; done"]
        RUNNING.extend(subprocess.Popen(loop, start_new_session=True) for _ in range(BURNERS))


plant(__file__, lambda: EachGeneration(burn), "trilingual-2m")
