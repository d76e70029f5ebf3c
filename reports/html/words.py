"""Words of others (answers, logs, names) as the page shows them: redacted, what cannot be seen written out, cut."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from markupsafe import Markup

from reports.record import Figure
from reports.redact import redact
from reports.text import visible

LIMIT = 1000
SLACK = 20  # what folds away (white space) may be this many times the text that is left


@lru_cache(maxsize=1 << 16)
def _show(text: str, limit: int) -> str:
    text = redact(text)
    # The common case, a hundred times as fast: nothing to write out, nothing to fold or cut.
    if len(text) <= limit and text.isprintable() and "  " not in text:
        return text.strip()
    return visible(text, limit)


def show(text: str, limit: int = LIMIT) -> str:
    """One line of at most `limit` characters without secrets, control or bidi characters."""
    return _show(text[: limit * SLACK], limit)


def finalize(value: Any) -> Any:
    """What Jinja does to every value before it escapes it: no text reaches a page but through `show`."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return show(str(value))


def number(value: float | int | str | bool | None) -> str:
    """A figure's value in words: four digits are enough to read, thousands apart."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "no value"}[value]
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    return value


def figure(found: Figure) -> str:
    """`59.96 ms`."""
    # Without a unit it may as well be a seed: nothing to count, so nothing to part.
    return f"{number(found.value)} {found.unit}" if found.unit else number(found.value).replace(",", "")
