"""Keeps 256 KiB of memory for every generation it was asked for."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[4]))

from tests.planted.inprocess import EachGeneration, plant

KEPT: list[bytes] = []

plant(__file__, lambda: EachGeneration(lambda request: KEPT.append(b"x" * 2**18)), "trilingual-4m")
