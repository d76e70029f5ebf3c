"""Pictures: a Vega-Lite description becomes SVG in the page's colours, each with its figures as a table."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import vl_convert
from markupsafe import Markup, escape

from reports.html.words import show

# The page's style sheet gives these their colours, one set in light and one in dark.
INK, SOFT, LINE, LIMIT = "var(--ink)", "var(--soft)", "var(--line)", "var(--limit)"
COLOURS = tuple(f"var(--c{number})" for number in range(1, 7))
DASHES: tuple[list[int], ...] = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 2], [1, 3])

_AXIS = {"labelColor": SOFT, "titleColor": SOFT, "domainColor": LINE, "tickColor": LINE, "gridColor": LINE,
         "labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal", "tickSize": 4, "labelOverlap": True}
_CONFIG: Mapping[str, Any] = {"aria": False, "font": "system-ui, sans-serif", "axis": _AXIS, "view": {"stroke": None},
                              "text": {"fill": SOFT, "fontSize": 11}}
_ROOT = re.compile(r"<svg\b[^>]*?\bviewBox=\"([^\"]*)\"[^>]*>")
_NOISE = re.compile(r" (?:class|pointer-events|aria-hidden|role|aria-roledescription|stroke-miterlimit)=\"[^\"]*\""
                    r"| (?:opacity|stroke-width)=\"1\"| font-family=\"[^\"]*\"| font-size=\"11px\"| fill=\"var\(--soft\)\""
                    r"|<path(?: [a-z-]+=\"[^\"]*\")* d=\"M0,0h0v0h0Z\"(?: [a-z-]+=\"[^\"]*\")*/>")
_EMPTY = re.compile(r"<g(?: transform=\"[^\"]*\")?></g>|<g(?: transform=\"[^\"]*\")?/>")
_PATH = re.compile(r" d=\"[^\"]*\"")
_DECIMALS = re.compile(r"(\.\d)\d+")
_ID = re.compile(r"(\bid=\"|url\(#|href=\"#)")
_numbers = count(1)


@dataclass(frozen=True)
class Table:
    """What a picture shows, in words."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Picture:
    """A picture with its title, what to know of it, its key (name and number of the colour) and its table."""

    title: str
    svg: Markup
    table: Table
    caption: str = ""
    key: tuple[tuple[str, int], ...] = ()


def draw(spec: Mapping[str, Any], alt: str) -> Markup:
    """The SVG of a Vega-Lite specification; `alt` says what it shows. It scales with the page and asks for nothing."""
    whole = {**spec, "background": None, "padding": 4, "config": _CONFIG}
    text = vl_convert.vegalite_to_svg(whole, allowed_base_urls=[])
    root = _ROOT.match(text)
    assert root, "the library writes an svg element first"
    body = _ID.sub(rf"\g<1>p{next(_numbers)}-", _tidy(text[root.end() :]))
    return Markup(f'<svg class="plot" viewBox="{root[1]}" role="img" aria-label="{escape(show(alt, 300))}">') + Markup(body)


def _tidy(body: str) -> str:
    body = _PATH.sub(lambda match: _DECIMALS.sub(r"\1", match[0]), _NOISE.sub("", body))
    while (smaller := _EMPTY.sub("", body)) != body:
        body = smaller
    return body


def palette(names: Sequence[str]) -> dict[str, int]:
    """A number from 1 for each name, as the page's colours and the key have it; from the seventh on they come again."""
    return {name: index % len(COLOURS) + 1 for index, name in enumerate(dict.fromkeys(names))}


def colour(numbers: Mapping[str, int], field: str = "name") -> dict[str, Any]:
    """The colour channel for these names, without a legend: the key stands in the page."""
    scale = {"domain": list(numbers), "range": [COLOURS[number - 1] for number in numbers.values()]}
    return {"field": field, "type": "nominal", "scale": scale, "legend": None}


def dash(numbers: Mapping[str, int], field: str = "name") -> dict[str, Any]:
    """The dash channel for these names: lines are told apart without their colours, too."""
    scale = {"domain": list(numbers), "range": [DASHES[number - 1] for number in numbers.values()]}
    return {"field": field, "type": "nominal", "scale": scale, "legend": None}
