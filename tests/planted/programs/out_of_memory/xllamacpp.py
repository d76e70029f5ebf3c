"""Dies while it starts with the words that llama.cpp has for a KV cache that does not fit."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[4]))

from tests.planted.inprocess import replace_server

WORDS = "E ggml_aligned_malloc: insufficient memory (attempted to allocate 468750.00 MB)\n"


def serve(server: Callable[[Any], Any], params: Any) -> Any:
    """Say the words and end."""
    print(WORDS, file=sys.stderr, end="", flush=True)
    sys.exit(1)


replace_server(__file__, serve, "trilingual-4m")
