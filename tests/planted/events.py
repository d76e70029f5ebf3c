"""Server-sent events of an OpenAI-compatible stream, and the text inside them and inside whole answers."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tests.planted.messages import dump, object_of


@dataclass(frozen=True)
class Event:
    """One event with its blank line, as it was or will be on the wire."""

    raw: bytes

    @classmethod
    def of(cls, payload: Any) -> Event:
        """An event that carries this JSON."""
        return cls(b"data: " + dump(payload) + b"\n\n")

    @cached_property
    def payload(self) -> dict[str, Any]:
        """The JSON object it carries; empty for the end mark and for comments."""
        return object_of(self.raw.removeprefix(b"data:"))

    @property
    def is_end(self) -> bool:
        """Whether it is the end mark."""
        return self.raw.removeprefix(b"data:").strip() == b"[DONE]"

    @property
    def text(self) -> str:
        """The text it adds to its choice."""
        return text_of(self.payload)

    def with_text(self, text: str) -> Event:
        """The same event with another text."""
        return Event.of(with_text(self.payload, text))

    def without(self, key: str) -> Event:
        """The same event without one key of its object."""
        return Event.of({name: content for name, content in self.payload.items() if name != key})


async def split(pieces: AsyncIterator[bytes]) -> AsyncIterator[Event]:
    """The events in the bytes of a stream, each as soon as it is complete; joined again they are the same bytes."""
    pending = b""
    async for piece in pieces:
        *whole, pending = (pending + piece).split(b"\n\n")
        for raw in whole:
            yield Event(raw + b"\n\n")
    if pending:
        yield Event(pending)


def choices_of(payload: dict[str, Any]) -> list[dict[str, Any]]:
    """The choices of an answer or event."""
    choices = payload.get("choices")
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []


def text_of(payload: dict[str, Any]) -> str:
    """The text of the first choice: of a message, of a delta or plain."""
    for choice in choices_of(payload):
        text = _holder(choice).get(_field(choice))
        return text if isinstance(text, str) else ""
    return ""


def with_text(payload: dict[str, Any], text: str) -> dict[str, Any]:
    """A copy in which every choice says this; a payload without choices stays as it is."""
    changed = copy.deepcopy(payload)
    for choice in choices_of(changed):
        _holder(choice)[_field(choice)] = text
    return changed


def with_finish(payload: dict[str, Any], reasons: dict[str, str]) -> dict[str, Any]:
    """A copy in which the finish reasons are replaced as the table says."""
    changed = copy.deepcopy(payload)
    for choice in choices_of(changed):
        reason = choice.get("finish_reason")
        choice["finish_reason"] = reasons.get(reason, reason) if isinstance(reason, str) else reason
    return changed


def is_last(payload: dict[str, Any]) -> bool:
    """Whether a choice ends with this event."""
    return any(choice.get("finish_reason") for choice in choices_of(payload))


def _holder(choice: dict[str, Any]) -> dict[str, Any]:
    inner = choice.get("message", choice.get("delta"))
    return inner if isinstance(inner, dict) else choice


def _field(choice: dict[str, Any]) -> str:
    return "text" if _holder(choice) is choice else "content"
