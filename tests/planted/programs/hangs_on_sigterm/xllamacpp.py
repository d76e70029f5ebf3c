"""After SIGTERM, an open stream neither goes on nor ends, and the process waits for its client to leave."""

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[4]))

from tests.planted.events import Event
from tests.planted.inprocess import Fronted, replace_server
from tests.planted.messages import Request
from tests.planted.proxy import Fault


class Stuck(Fault):
    """Counts open streams and stops them all at once."""

    def __init__(self) -> None:
        self.open, self.stopping = 0, False

    async def events(self, request: Request, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
        self.open += 1
        try:
            async for event in events:
                if self.stopping:
                    await asyncio.Event().wait()
                yield event
        finally:
            self.open -= 1

    def stop(self) -> None:
        """End the process when no stream is open."""
        self.stopping = True
        while self.open:
            time.sleep(0.05)
        os._exit(0)


def serve(server: Callable[[Any], Any], params: Any) -> Any:
    """Serve, with another end."""
    fault = Stuck()
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=fault.stop).start())
    return Fronted(server, params, fault)


replace_server(__file__, serve, "trilingual-4m")
