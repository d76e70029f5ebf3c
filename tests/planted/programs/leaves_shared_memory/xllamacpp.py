"""Leaves 8 MiB in /dev/shm behind, however it ends."""

import mmap
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[4]))

from tests.planted.inprocess import replace_server

SIZE = 8 * 2**20


def serve(server: Callable[[Any], Any], params: Any) -> Any:
    """Take the memory, then serve."""
    with Path(f"/dev/shm/cotenant-planted-{os.getpid()}").open("w+b") as file:
        file.write(b"x" * SIZE)
        file.flush()
        HELD.append(mmap.mmap(file.fileno(), SIZE))
    return server(params)


HELD: list[mmap.mmap] = []

replace_server(__file__, serve, "trilingual-2m")
