"""The excerpt of a log: a few lines of it, with the one marked that tells most of what went wrong."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from reports.redact import hide_keys, redact
from reports.text import visible

HEAD_BYTES, TAIL_BYTES = 64 << 10, 192 << 10
BEFORE, AFTER = 5, 2
CHARACTERS = 240
LOOKED_AT, INDENT = 4000, 12

_ESCAPE = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|[@-_])")
# From the most telling to the least; of one kind the last stands, for what a log says first is often survived.
_TELLING = tuple(re.compile(pattern, re.MULTILINE) for pattern in (
    r"^cotenant: ",
    r"(?i:out of memory|no kernel image|cuda error|no available memory|segmentation fault|illegal instruction)",
    r"^(?:\w+\.)*\w*(?:Error|Exception|Killed)\b",
    r"\b(?i:fatal|panic|aborted|assertion)\b",
    r"\bERROR\b|level=ERROR|\b[Ee]rror:",
    r"^Traceback ",
))


class Line(NamedTuple):
    """A line without its indentation, and that."""

    indent: Markup
    text: str


@dataclass(frozen=True)
class Excerpt:
    """Lines that may be shown; `marked` is the index of the telling one, None where none stands out. `certain`: the line
    names the cell's cause, or the record says which it is; else it only sounds worst."""

    source: str
    lines: tuple[Line, ...]
    marked: int | None
    certain: bool = True


def of_lines(text: str, causes: Sequence[str], number: object) -> Excerpt:
    """The excerpt that a record holds; `number` is the marked line's in its log."""
    whole = _clean(text)
    source = f"line {number} of the log" if isinstance(number, int) else "the log"
    return Excerpt(source, _shown(whole.split("\n")), _either(_naming(whole, causes), whole))


def of_file(path: Path, name: str, causes: Sequence[str]) -> Excerpt | None:
    """The excerpt of a file, of which only the first 64 and the last 192 KiB are looked at; None where it is empty."""
    whole = _clean(_read(path))
    if not whole:
        return None
    named, lines = _naming(whole, causes), whole.split("\n")
    marked = _either(named, whole)
    end = len(lines) if marked is None else min(marked + 1 + AFTER, len(lines))
    start = max(0, end - BEFORE - AFTER - 1)
    return Excerpt(name, _shown(lines[start:end]), None if marked is None else marked - start, certain=named is not None)


def _read(path: Path) -> str:
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= HEAD_BYTES + TAIL_BYTES:
            return file.read().decode("utf-8", "replace")
        head = file.read(HEAD_BYTES).rpartition(b"\n")[0]
        file.seek(size - TAIL_BYTES)
        # A line that begins before the window is left out: a secret cut in two would not be known for one.
        tail = file.read().partition(b"\n")[2]
    return b"\n".join((head, tail)).decode("utf-8", "replace")


def _clean(text: str) -> str:
    """Its lines without blank ones and terminal escapes, and without private keys, which have many lines."""
    return "\n".join(line for line in hide_keys(_ESCAPE.sub("", text)).splitlines() if line.strip())


def _shown(lines: Sequence[str]) -> tuple[Line, ...]:
    return tuple(Line(_indent(line), visible(redact(line[:LOOKED_AT]), CHARACTERS)) for line in lines)


def _indent(line: str) -> Markup:
    return Markup(" " * min(len(line) - len(line.lstrip(" ")), INDENT))


def _naming(text: str, causes: Sequence[str]) -> int | None:
    """The index of the last line that names a cause in words."""
    words = (re.escape(cause).replace("\\-", "[- _]") for cause in causes if len(cause) > 3)
    return next((line for word in words if (line := _last(re.compile(f"(?i){word}"), text)) is not None), None)


def _either(named: int | None, text: str) -> int | None:
    return _standing_out(text) if named is None else named


def _standing_out(text: str) -> int | None:
    """The index of the last line of the most telling kind."""
    return next((line for pattern in _TELLING if (line := _last(pattern, text)) is not None), None)


def _last(pattern: re.Pattern[str], text: str) -> int | None:
    places = [match.start() for match in pattern.finditer(text)]
    return text.count("\n", 0, places[-1]) if places else None
