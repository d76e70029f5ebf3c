"""Leaves a child in a session of its own behind, however it ends."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[4]))

from tests.planted.inprocess import replace_server

SECONDS = 600


def serve(server: Callable[[Any], Any], params: Any) -> Any:
    """Have the child, then serve."""
    subprocess.Popen(["sleep", str(SECONDS)], start_new_session=True)
    return server(params)


replace_server(__file__, serve, "trilingual-2m")
