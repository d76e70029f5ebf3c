"""Text of others (answers, logs, names) made safe to print: control characters visible, cut, Markdown escaped."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

from reports.redact import redact

LIMIT = 300
SLACK = 20  # what folds away (white space) may be this many times the text that is left

_SPACES = re.compile(r"\s")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]|#~!$])")
_MENTION = re.compile(r"(?<!\w)@(?=[A-Za-z0-9])")
# Cc control, Cf format (bidi, zero width), Cs surrogate, Co private, Cn unassigned: none has a glyph to trust.
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn"}


def visible(text: str, limit: int = LIMIT) -> str:
    r"""One line of at most `limit` characters: white space folded, what cannot be seen written out (`\u202e`)."""
    shown: list[str] = []
    length = 0
    for piece in _pieces(text):
        if length + len(piece) > limit:
            kept = "".join(shown)[: limit - 1]
            return f"{kept.rstrip()}…"
        shown.append(piece)
        length += len(piece)
    return "".join(shown).strip()


def told(text: str, limit: int = LIMIT) -> str:
    """`visible`, without secrets: what others wrote is looked through before it is cut, or half a token would stay."""
    return visible(redact(text[: limit * SLACK]), limit)


def _pieces(text: str) -> Iterator[str]:
    after_space = True
    for character in text:
        space = bool(_SPACES.match(character))
        if not (space and after_space):
            yield " " if space else _shown(character)
        after_space = space


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _UNSEEN:
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def markdown(text: str, limit: int = LIMIT) -> str:
    """`told`, with everything escaped that Markdown or HTML would act on; also safe inside a table."""
    safe = told(text, limit).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # A comment splits the word where a page would otherwise notify a person of that name.
    return _MENTION.sub("@<!-- -->", _MARKDOWN.sub(r"\\\1", safe))


def some(names: Sequence[str], limit: int) -> str:
    """The first `limit` names, and how many more there are."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")


def count(number: int, noun: str) -> str:
    """`1 cell`, `2 cells`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def seconds(value: float) -> str:
    """`0.4 s`, `41 s`, `3 min 07 s`."""
    if value < 59.5:
        return f"{value:.1f} s" if value < 9.95 else f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s"
