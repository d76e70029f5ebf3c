"""Dies when eight requests are open at once."""

import os
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[4]))

from tests.planted.inprocess import plant
from tests.planted.messages import Request, Whole
from tests.planted.proxy import Fault

MOST = 7


class Crowded(Fault):
    """Counts the requests that are open."""

    open = 0

    async def ask(self, request: Request) -> Request | Whole:
        self.open += 1
        if self.open > MOST:
            os._exit(1)
        return request

    def ended(self, request: Request) -> None:
        self.open -= 1


plant(__file__, Crowded, "trilingual-4m")
