"""Takes half of the KV cache it was asked for when a neighbour is already there."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[4]))

from tests.planted.inprocess import neighbours, replace_server


def serve(server: Callable[[Any], Any], params: Any) -> Any:
    """Halve the slots, so that each keeps its context."""
    if neighbours(__file__):
        params.n_parallel //= 2
        params.n_ctx //= 2
    return server(params)


replace_server(__file__, serve, "trilingual-8m")
