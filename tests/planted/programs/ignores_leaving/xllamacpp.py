"""Goes on for clients that have left; every token costs 2 ms of processor time, so that there is something to see."""

import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[4]))

from tests.planted.events import Event
from tests.planted.inprocess import plant
from tests.planted.messages import Request
from tests.planted.wire.conduct import IgnoresLeaving

COST_S = 0.002


class Costly(IgnoresLeaving):
    """Works for every event, whoever still listens."""

    async def events(self, request: Request, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
        async for event in events:
            done = time.thread_time() + COST_S
            while time.thread_time() < done:
                pass
            yield event


plant(__file__, Costly, "trilingual-4m")
