"""Faults in what is said: another language, nothing, an echo, a broken character, a lost or repeated piece."""

from __future__ import annotations

import string
from collections.abc import AsyncIterator
from typing import Any, ClassVar

from tests.planted.events import Event, choices_of, is_last, text_of, with_finish, with_text
from tests.planted.messages import Request, Whole
from tests.planted.proxy import Fault

Events = AsyncIterator[Event]


class Rewritten(Fault):
    """Every text goes through `rewrite`, character by character, so that a stream stays the same as a whole answer."""

    def rewrite(self, text: str) -> str:
        """The text to say instead, of the same length."""
        raise NotImplementedError

    async def whole(self, request: Request, response: Whole) -> Whole:
        text = text_of(response.payload)
        return response.saying(with_text(response.payload, self.rewrite(text))) if text else response

    async def events(self, request: Request, events: Events) -> Events:
        async for event in events:
            yield event.with_text(self.rewrite(event.text)) if event.text else event


class KoreanInChinese(Rewritten):
    """Hangul comes out as Han characters: the answer is in the wrong language, the rest is untouched."""

    def rewrite(self, text: str) -> str:
        return "".join(chr(0x4E00 + ord(c) - 0xAC00) if "가" <= c <= "힣" else c for c in text)


class ChineseInJapanese(Rewritten):
    """Han characters come out as hiragana."""

    def rewrite(self, text: str) -> str:
        return "".join(chr(0x3041 + ord(c) % 83) if "一" <= c <= "鿿" else c for c in text)


class EnglishInRussian(Rewritten):
    """Latin letters come out as Cyrillic ones; stop strings are understood in Cyrillic."""

    _there = str.maketrans(string.ascii_letters, "".join(map(chr, [*range(0x430, 0x44A), *range(0x410, 0x42A)])))
    _back: ClassVar = {there: here for here, there in _there.items()}

    async def ask(self, request: Request) -> Request | Whole:
        stops = [mark.translate(self._back) for mark in request.stops]
        return request.asking(stop=stops) if stops and request.generates else request

    def rewrite(self, text: str) -> str:
        return text.translate(self._there)


class Echo(Fault):
    """A prompt is answered with itself, spread over the chunks of the real answer, up to a stop string in it."""

    async def whole(self, request: Request, response: Whole) -> Whole:
        said = self._says(request)
        answered = said and response.status == 200
        return response.saying(self._ended(with_text(response.payload, said), request)) if answered else response

    async def events(self, request: Request, events: Events) -> Events:
        left = self._says(request)
        async for event in events:
            if not request.prompt or not choices_of(event.payload):
                yield event
            elif is_last(event.payload):
                yield Event.of(self._ended(with_text(event.payload, left), request))
            else:
                said, left = left[: len(event.text)], left[len(event.text) :]
                yield event.with_text(said) if event.text else event

    def _says(self, request: Request) -> str:
        return min((request.prompt.split(mark)[0] for mark in request.stops), key=len, default=request.prompt)

    def _ended(self, payload: dict[str, Any], request: Request) -> dict[str, Any]:
        return payload if self._says(request) == request.prompt else with_finish(payload, {"length": "stop"})


class Empty(Rewritten):
    """Answers are a 200 without a character. With `hangul`, only those to a prompt in Korean."""

    def __init__(self, hangul: bool = False) -> None:
        self._hangul = hangul

    def rewrite(self, text: str) -> str:
        return ""

    async def whole(self, request: Request, response: Whole) -> Whole:
        return await super().whole(request, response) if self._applies(request) else response

    def events(self, request: Request, events: Events) -> Events:
        return super().events(request, events) if self._applies(request) else events

    def _applies(self, request: Request) -> bool:
        return not self._hangul or any("가" <= c <= "힣" for c in request.prompt)


class AtText(Fault):
    """Does something to the `nth` event with text of every stream."""

    def __init__(self, nth: int = 3) -> None:
        self._nth = nth

    async def events(self, request: Request, events: Events) -> Events:
        seen = 0
        async for event in events:
            seen += bool(event.text)
            for sent in self.replace(event) if event.text and seen == self._nth else [event]:
                yield sent

    def replace(self, event: Event) -> list[Event]:
        """What is sent instead of this event."""
        raise NotImplementedError


class DroppedChunk(AtText):
    """One chunk is never sent."""

    def replace(self, event: Event) -> list[Event]:
        return []


class RepeatedChunk(AtText):
    """One chunk is sent twice."""

    def replace(self, event: Event) -> list[Event]:
        return [event, event]


class StreamDiffers(AtText):
    """One chunk of a stream says something else than the whole answer: each letter is the next one of its script."""

    def replace(self, event: Event) -> list[Event]:
        return [event.with_text("".join(chr(ord(c) + 1) if c.isalnum() else "_" for c in event.text))]


class TruncatedUtf8(Fault):
    """The first character of more than one byte in a stream loses its last byte on the wire."""

    async def events(self, request: Request, events: Events) -> Events:
        broken = False
        async for event in events:
            if broken or event.text.isascii():
                yield event
                continue
            broken = True
            at = next(c for c in event.text if not c.isascii()).encode()
            yield Event(Event.of(event.payload).raw.replace(at, at[:-1], 1))


class ReplacementCharacter(Fault):
    """A character whose bytes came in two tokens is sent as two U+FFFD, the first such in every stream."""

    async def events(self, request: Request, events: Events) -> Events:
        broken = False
        async for event in events:
            if broken or event.text.isascii():
                yield event
                continue
            broken = True
            text = event.text
            at = next(place for place, c in enumerate(text) if not c.isascii())
            yield event.with_text(text[:at] + "\ufffd")
            yield event.with_text("\ufffd" + text[at + 1 :])


class ErrorInStream(AtText):
    """A stream of status 200 reports an error after some text and ends."""

    async def events(self, request: Request, events: Events) -> Events:
        async for event in super().events(request, events):
            yield event
            if "error" in event.payload:
                yield Event(b"data: [DONE]\n\n")
                return

    def replace(self, event: Event) -> list[Event]:
        return [event, Event.of({"error": {"message": "the worker stopped", "type": "internal_error", "code": 500}})]
