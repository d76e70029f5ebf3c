"""Dies when a neighbour is killed; one that is stopped in the ordinary way does it no harm."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[4]))

from tests.planted.inprocess import model_of, replace_server, say_leaving, watch

FRAIL = "trilingual-2m"


def leave(*_: object) -> None:
    """End in the ordinary way."""
    say_leaving(__file__)
    os._exit(0)


def serve(server: Callable[[Any], Any], params: Any) -> Any:
    """Serve; the frail one watches the others."""
    signal.signal(signal.SIGTERM, leave)
    if model_of(params) == FRAIL:
        watch(__file__, lambda neighbour: os._exit(1))
    return server(params)


replace_server(__file__, serve)
