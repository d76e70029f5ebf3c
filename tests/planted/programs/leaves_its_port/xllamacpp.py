"""Never listens, and tells a thief which port it was given."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[4]))

from tests.planted.inprocess import replace_server
from tests.planted.thief import tell


def serve(server: Callable[[Any], Any], params: Any) -> Any:
    """Run without a port."""
    tell(params.port)
    return SimpleNamespace(listening_address=f"http://127.0.0.1:{params.port}")


replace_server(__file__, serve, "trilingual-4m")
