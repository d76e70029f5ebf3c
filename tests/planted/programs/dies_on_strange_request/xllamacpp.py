"""Dies of a prompt with a token id that is not in the vocabulary."""

import os
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[4]))

from tests.planted.inprocess import EachGeneration, plant
from tests.planted.messages import Request

VOCABULARY = 8192


def stumble(request: Request) -> None:
    """End over the first unknown id, in a prompt of ids or in a list of such."""
    prompt = request.payload.get("prompt")
    ids = prompt if isinstance(prompt, list) else []
    flat = [one for entry in ids for one in (entry if isinstance(entry, list) else [entry])]
    if any(isinstance(one, int) and not 0 <= one < VOCABULARY for one in flat):
        print("IndexError: index out of range in self", file=sys.stderr, flush=True)
        os._exit(1)


plant(__file__, lambda: EachGeneration(stumble), "trilingual-4m")
