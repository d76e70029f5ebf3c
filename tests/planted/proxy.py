"""The proxy: stands before a server, invisible without a fault, and breaks one thing with one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from tests.planted.events import Event, split
from tests.planted.messages import LAST_CHUNK, Opening, Reader, Request, Whole, chunk, read_opening, read_request

_GONE = (ConnectionError, asyncio.IncompleteReadError)


class Fault:
    """What a proxy breaks. The base lets everything through; a fault overrides one hook or two.

    `hangs_up` says that a client that leaves ends its request upstream too.
    """

    hangs_up = True

    async def ask(self, request: Request) -> Request | Whole:
        """The request to send upstream instead, or an answer that needs no upstream."""
        return request

    async def whole(self, request: Request, response: Whole) -> Whole:
        """The response to give instead of one that is no stream."""
        return response

    def events(self, request: Request, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
        """The events to send instead of a stream's."""
        return events

    def ended(self, request: Request) -> None:
        """Told once for every request that was asked, when it is answered or its client has left."""


class Proxy:
    """Forwards 127.0.0.1:`port` (0: a free one) to `upstream`, an http://host:port, until it is closed.

    Connections map one to one, so keep-alive, overload and a client that leaves look upstream as they do without it.
    """

    def __init__(self, upstream: str, fault: Fault | None = None, *, port: int = 0) -> None:
        self.upstream, self.fault, self.port = upstream.rstrip("/"), fault, port
        self._listening, self._failure = threading.Event(), ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="planted-proxy", daemon=True)
        self._thread.start()
        self._listening.wait()
        if self._failure:
            raise OSError(self._failure)

    @property
    def url(self) -> str:
        """Base URL without /v1."""
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        try:
            server = await self._loop.create_server(
                lambda: asyncio.StreamReaderProtocol(Reader(), self._converse), "127.0.0.1", self.port, backlog=512)
            self.port = server.sockets[0].getsockname()[1]
        except OSError as fault:
            self._failure = str(fault)
            return
        finally:
            self._listening.set()
        await self._stop.wait()
        server.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert isinstance(reader, Reader)
        conversation = _Conversation(reader, writer, self.upstream, self.fault or Fault(), raw=self.fault is None)
        with suppress(*_GONE, asyncio.CancelledError):  # cancelled when the proxy is closed
            await conversation.run()


class _Conversation:
    """One client connection with the upstream connections that serve it."""

    def __init__(self, reader: Reader, writer: asyncio.StreamWriter, upstream: str, fault: Fault, *, raw: bool) -> None:
        self._reader, self._writer, self._upstream, self._fault, self._raw = reader, writer, upstream, fault, raw
        self._open: dict[str, tuple[Reader, asyncio.StreamWriter]] = {}

    async def run(self) -> None:
        """Serve requests until either side ends."""
        try:
            while request := await self._unless(self._upstream_ended(), read_request(self._reader, self._upstream)):
                exchange = self._exchange(request)
                keep = await (self._unless(self._reader.ended.wait(), exchange) if self._fault.hangs_up else exchange)
                if not keep:
                    return
        finally:
            for _, writer in self._open.values():
                writer.close()
            self._writer.close()

    async def _unless(self, ending: Coroutine[Any, Any, object], work: Coroutine[Any, Any, Any]) -> Any:
        """What the work returns; None where the ending comes first, which cancels the work."""
        tasks = [asyncio.create_task(work), asyncio.create_task(ending)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return tasks[0].result() if tasks[0].done() else None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _upstream_ended(self) -> None:
        ends = [reader.ended for reader, _ in self._open.values()] or [asyncio.Event()]
        waits = [asyncio.create_task(end.wait()) for end in ends]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _exchange(self, request: Request) -> bool:
        """Answer one request; False where the connection cannot carry another."""
        try:
            return await self._answer(request)
        finally:
            self._fault.ended(request)

    async def _answer(self, request: Request) -> bool:
        asked = await self._fault.ask(request)
        if isinstance(asked, Whole):
            await self._send(asked.wire())
            return True
        opening = await self._forward(asked)
        if self._raw:
            return await self._stream(opening, opening.pieces)
        if opening.is_stream:
            return await self._stream(opening, _bytes_of(self._fault.events(asked, split(opening.pieces))))
        body = b"".join([piece async for piece in opening.pieces])
        whole = await self._fault.whole(asked, Whole(opening.status, body, opening.headers, opening.reason))
        await self._send(whole.wire())
        return opening.has_end

    async def _forward(self, request: Request) -> Opening:
        if request.upstream not in self._open:
            self._open[request.upstream] = await _connect(request.upstream)
        reader, writer = self._open[request.upstream]
        writer.write(request.wire())
        await writer.drain()
        return await read_opening(reader, request.method)

    async def _stream(self, opening: Opening, pieces: AsyncIterator[bytes]) -> bool:
        await self._send(opening.wire())
        async for piece in pieces:
            await self._send(chunk(piece) if opening.is_chunked else piece)
        if opening.is_chunked:
            await self._send(LAST_CHUNK)
        return opening.has_end

    async def _send(self, data: bytes) -> None:
        if self._writer.is_closing():
            return  # a fault that does not hang up reads on to the end
        self._writer.write(data)
        with suppress(ConnectionError):
            await self._writer.drain()


async def _connect(upstream: str) -> tuple[Reader, asyncio.StreamWriter]:
    where, loop, reader = urlsplit(upstream), asyncio.get_running_loop(), Reader()
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await loop.create_connection(lambda: protocol, where.hostname or "", where.port or 80)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def _bytes_of(events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    async for event in events:
        if event.raw:
            yield event.raw
