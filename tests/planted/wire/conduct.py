"""Faults in how a server keeps to the API: counts, finish reasons, statuses, names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, ClassVar

from tests.planted.events import Event, choices_of, is_last, with_finish
from tests.planted.messages import Request, Whole
from tests.planted.proxy import Fault

Events = AsyncIterator[Event]


class Usage(Fault):
    """Token counts are wrong by the numbers given; with none, they are missing altogether."""

    def __init__(self, **off: int) -> None:
        self._off = off

    async def whole(self, request: Request, response: Whole) -> Whole:
        return response.saying(self._change(response.payload)) if "usage" in response.payload else response

    async def events(self, request: Request, events: Events) -> Events:
        async for event in events:
            if not event.payload.get("usage"):
                yield event
            elif self._off or choices_of(event.payload):
                yield Event.of(self._change(event.payload))

    def _change(self, payload: dict[str, Any]) -> dict[str, Any]:
        usage = {name: count + self._off.get(name, 0) if isinstance(count, int) else count
                 for name, count in payload["usage"].items()}
        rest = {name: content for name, content in payload.items() if name != "usage"}
        return {**rest, "usage": usage} if self._off else rest


class Finish(Fault):
    """`stop` and `length` are exchanged."""

    _other: ClassVar = {"stop": "length", "length": "stop"}

    async def whole(self, request: Request, response: Whole) -> Whole:
        return response.saying(with_finish(response.payload, self._other)) if request.generates else response

    async def events(self, request: Request, events: Events) -> Events:
        async for event in events:
            yield Event.of(with_finish(event.payload, self._other)) if is_last(event.payload) else event


class Overrun(Fault):
    """The server generates `more` tokens than it was asked for."""

    def __init__(self, more: int = 5) -> None:
        self._more = more

    async def ask(self, request: Request) -> Request | Whole:
        asked = {name: request.payload.get(name) for name in ("max_tokens", "max_completion_tokens")}
        longer = {name: count + self._more for name, count in asked.items() if type(count) is int and count > 0}
        return request.asking(**longer) if longer and request.generates else request


class NoEndMark(Fault):
    """Streams end without [DONE]."""

    async def events(self, request: Request, events: Events) -> Events:
        async for event in events:
            if not event.is_end:
                yield event


class AcceptsBad(Fault):
    """Bad requests are answered 200 with a completion."""

    async def whole(self, request: Request, response: Whole) -> Whole:
        if not (400 <= response.status < 500 and request.generates):
            return response
        message = {"role": "assistant", "content": "Hello."}
        choice = {"index": 0, "finish_reason": "stop", "message": message, "text": "Hello."}
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        model = str(request.payload.get("model"))
        answer = {"id": "planted", "object": "chat.completion", "model": model, "choices": [choice], "usage": usage}
        return Whole(200, b"", reason="OK").saying(answer)


class RefusesGood(Fault):
    """Good requests that carry `field` are answered 500."""

    def __init__(self, field: str = "stop") -> None:
        self._field = field

    async def ask(self, request: Request) -> Request | Whole:
        if not request.generates or not request.payload.get(self._field):
            return request
        refusal = {"error": {"message": "internal error", "type": "server_error", "code": 500}}
        return Whole(500, b"", reason="Internal Server Error").saying(refusal)


class MuteErrors(Fault):
    """Errors keep their status and lose their words."""

    async def whole(self, request: Request, response: Whole) -> Whole:
        return response.saying({}) if response.status >= 400 else response


class WrongModel(Fault):
    """Generations go to the server of another model, which answers under the name that was asked for."""

    def __init__(self, other: str) -> None:
        self._other = other.rstrip("/")

    async def ask(self, request: Request) -> Request | Whole:
        return replace(request, upstream=self._other) if request.generates else request

    async def whole(self, request: Request, response: Whole) -> Whole:
        return response.saying(_named(response.payload, request)) if "model" in response.payload else response

    async def events(self, request: Request, events: Events) -> Events:
        async for event in events:
            yield Event.of(_named(event.payload, request)) if "model" in event.payload else event


class UnknownName(Fault):
    """Answers carry the name of a model that nobody asked for."""

    def __init__(self, name: str = "somebody-else") -> None:
        self._name = name

    async def whole(self, request: Request, response: Whole) -> Whole:
        named = request.generates and "model" in response.payload
        return response.saying({**response.payload, "model": self._name}) if named else response

    async def events(self, request: Request, events: Events) -> Events:
        async for event in events:
            yield Event.of({**event.payload, "model": self._name}) if "model" in event.payload else event


class ListsAnother(Fault):
    """/v1/models lists a model that is not served, and only that."""

    def __init__(self, name: str = "somebody-else") -> None:
        self._name = name

    async def whole(self, request: Request, response: Whole) -> Whole:
        if request.path != "/v1/models" or response.status != 200:
            return response
        entry = {"id": self._name, "object": "model", "owned_by": "planted"}
        return response.saying({"object": "list", "data": [entry]})


class NeverAnswers(Fault):
    """Generations are accepted and never answered; everything else is."""

    async def ask(self, request: Request) -> Request | Whole:
        if request.generates:
            await asyncio.Event().wait()
        return request


class IgnoresLeaving(Fault):
    """Goes on generating for a client that has left."""

    hangs_up = False


def _named(payload: dict[str, Any], request: Request) -> dict[str, Any]:
    return {**payload, "model": request.payload.get("model", payload["model"])}
