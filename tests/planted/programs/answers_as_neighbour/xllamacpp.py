"""Answers by itself while it is alone, and lets the smallest model answer in its name when that is there."""

import sys
from dataclasses import replace
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[4]))

from tests.planted.inprocess import neighbours, plant
from tests.planted.messages import Request, Whole
from tests.planted.wire.conduct import WrongModel

SMALLEST = "trilingual-2m"


class Lazy(WrongModel):
    """Looks for the neighbour anew with every request."""

    def __init__(self) -> None:
        super().__init__("")

    async def ask(self, request: Request) -> Request | Whole:
        found = [one for one in neighbours(__file__) if one.model == SMALLEST]
        return replace(request, upstream=found[0].url) if found and request.generates else request


plant(__file__, Lazy, "trilingual-8m")
