"""The client under test: how it is told what to send, and what it says that it saw."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from fixtures.setup.environment import Say

TOKENIZER = Path(__file__).resolve().parents[3] / "fixtures" / "models" / "trilingual-2m"
_NUMBER = re.compile(r"#(\d+)")


@dataclass(frozen=True)
class Load:
    """A closed loop: `requests` of `tokens` each, `streams` at once. `prompts` are sent in turn.

    `model` and `body` are for a real server: the name it serves, and what goes into every body.
    """

    streams: int
    requests: int
    tokens: int
    prompts: tuple[str, ...] = ("Count up, one word at a time.",)
    model: str = "mock"
    body: Mapping[str, Any] = field(default_factory=dict)

    @property
    def asked(self) -> list[str]:
        """The prompt of each request."""
        return [self.prompts[number % len(self.prompts)] for number in range(self.requests)]


@dataclass(frozen=True)
class Command:
    """A process to be started."""

    words: Sequence[str]
    env: Mapping[str, str]


@dataclass(frozen=True)
class Seen:
    """One answer as the client tells of it, in seconds.

    `number` is the mock server's, from the text, `tokens` the server's count. Of the gaps some clients tell only the
    mean. `arrived_s` are moments on CLOCK_MONOTONIC, where the client tells them, and `earliest_s` how early each of
    these can have been: the same moment where it is exact.
    """

    number: int | None
    ttft_s: float
    gaps_s: tuple[float, ...] | None = None
    mean_gap_s: float | None = None
    tokens: int | None = None
    arrived_s: tuple[float, ...] = ()
    earliest_s: tuple[float, ...] = ()


@dataclass(frozen=True)
class Told:
    """All that a client told. `failed` are requests without an answer; `remarks` what it knows of its own error.

    `parsed_s` is when it had made answers of what it read, on CLOCK_MONOTONIC; None for one that parses as it reads.
    """

    seen: tuple[Seen, ...]
    failed: int = 0
    remarks: str = ""
    parsed_s: float | None = None


class Client(Protocol):
    """A load client. `limits` says what it could not be made to do."""

    name: str
    limits: str

    def ready(self, say: Say) -> None:
        """Install what is missing. Raises Unavailable."""

    def command(self, url: str, load: Load, folder: Path) -> Command:
        """What to start; it may write its input files into `folder`, where its results go too."""

    def read(self, folder: Path) -> Told:
        """Its results. Raises OSError, ValueError or KeyError where they are not what this version writes."""


def number_of(text: str) -> int | None:
    """The mock server's number of the request that brought this text."""
    found = _NUMBER.search(text)
    return int(found.group(1)) if found else None
