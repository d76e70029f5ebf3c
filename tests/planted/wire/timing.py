"""Faults in when it is said."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from tests.planted.events import Event
from tests.planted.messages import Request
from tests.planted.proxy import Fault

Events = AsyncIterator[Event]


class Buffered(Fault):
    """A stream is held back until it is whole. With `paced`, it is then sent at the speed it was generated at."""

    def __init__(self, paced: bool = False) -> None:
        self._paced = paced

    async def events(self, request: Request, events: Events) -> Events:
        began = time.perf_counter()
        held = [event async for event in events]
        pause = (time.perf_counter() - began) / len(held) if self._paced and held else 0
        for event in held:
            await asyncio.sleep(pause)
            yield event


class Delayed(Fault):
    """Streams wait `first_ms` before their first text, `every_ms` before each later one, `stall_ms` more before each
    `nth`."""

    def __init__(self, first_ms: float = 0, every_ms: float = 0, stall_ms: float = 0, nth: int = 10) -> None:
        self._first, self._every, self._stall, self._nth = first_ms, every_ms, stall_ms, nth

    async def events(self, request: Request, events: Events) -> Events:
        seen = 0
        async for event in events:
            if event.text:
                await asyncio.sleep(self._wait_ms(seen) / 1e3)
                seen += 1
            yield event

    def _wait_ms(self, seen: int) -> float:
        if not seen:
            return self._first
        return self._every + (self._stall if seen % self._nth == 0 else 0)
