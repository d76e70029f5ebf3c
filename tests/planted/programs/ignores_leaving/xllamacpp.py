"""Goes on for clients that have left; every token costs processor time, so that there is something to see."""

import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[4]))

from tests.planted.events import Event
from tests.planted.inprocess import plant
from tests.planted.messages import Request
from tests.planted.wire.conduct import IgnoresLeaving

ROUNDS = 8000  # some milliseconds


class Costly(IgnoresLeaving):
    """Works for every event, whoever still listens; each stream on a thread of its own."""

    async def events(self, request: Request, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
        loop = asyncio.get_running_loop()
        async for event in events:
            await loop.run_in_executor(None, hashlib.pbkdf2_hmac, "sha256", b"work", b"for nobody", ROUNDS)
            yield event


plant(__file__, Costly, "trilingual-4m")
