"""Keeps its KV cache in numbers of 32 bits where 16 were planned: it answers as well, and holds twice as much."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[4]))

from tests.planted.inprocess import replace_server


def serve(server: Callable[[Any], Any], params: Any) -> Any:
    """Both halves of the cache."""
    kept = sys.modules["xllamacpp"].ggml_type
    params.cache_type_k = params.cache_type_v = kept.GGML_TYPE_F32
    return server(params)


replace_server(__file__, serve, "trilingual-8m")
