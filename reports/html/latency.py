"""The pictures of latency: how TTFT and ITL are distributed, with their band, beside the limits in force."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from reports.html import plot
from reports.html.evidence import Evidence
from reports.html.plot import Picture, Table
from reports.html.words import number, show
from reports.matrix import Row, View
from reports.record import Cell

TITLES = {"ttft": "TTFT", "itl": "ITL"}
CLOSE = 1.25  # limits nearer to each other than this factor share their words
POINTS, SPARKLINE_POINTS = 80, 30
ALPHA = 0.05
FLOOR_MS = 0.01  # a logarithmic axis has no zero; two tokens of one read are 0 ms apart
WIDTH, HEIGHT = 330, 190

Datum = dict[str, Any]


@dataclass(frozen=True)
class Distribution:
    """One model's samples in ms with the ends between which the client could date them, and what was judged of them.

    `requests` is how many answers they are from: samples of one answer depend on each other.
    """

    name: str
    low: list[float]
    value: list[float]
    high: list[float]
    requests: int
    limits: tuple[tuple[str, float], ...]
    marks: tuple[tuple[float, float, float, float], ...]

    @property
    def band(self) -> float:
        """Half the width of the 95 % band (Dvoretzky-Kiefer-Wolfowitz), with whole answers counted as samples."""
        return math.sqrt(math.log(2 / ALPHA) / (2 * max(self.requests, 1)))


def pictures(rows: Sequence[Row], view: View, evidence: Evidence) -> list[Picture]:
    """One for each of these deployments and each of TTFT and ITL for which the record has samples or percentiles."""
    return [picture for row in rows for what in TITLES if (picture := _picture(view, row, what, evidence))]


def sparkline(values: Sequence[float], limit: float | None, alt: str) -> Any:
    """A cell's samples as a small distribution without axes, whose words stand beside it; dashed where the limit lies."""
    ends = [FLOOR_MS, *values, *([limit] if limit else [])]
    scale = {"type": "log", "domain": [max(min(ends[1:]), FLOOR_MS), max(ends)], "nice": False}
    x = {"field": "x", "type": "quantitative", "scale": scale, "axis": None}
    y = {"field": "y", "type": "quantitative", "scale": {"domain": [0, 1]}, "axis": None, "stack": None}
    points = [{"x": place, "y": share} for place, share in _curve(values, SPARKLINE_POINTS)]
    line = {"data": {"values": points}, "encoding": {"x": x, "y": y},
            "mark": {"type": "area", "line": {"color": plot.COLOURS[0]}, "color": plot.COLOURS[0], "fillOpacity": 0.15}}
    rule = {"data": {"values": [{"x": limit}]}, "encoding": {"x": x},
            "mark": {"type": "rule", "color": plot.LIMIT, "strokeDash": [4, 3], "strokeWidth": 2}}
    return plot.draw({"width": 300, "height": 50, "layer": [line, rule] if limit else [line]}, alt)


def _picture(view: View, row: Row, what: str, evidence: Evidence) -> Picture | None:
    cells = [cell for cell in row.cells if cell.check == f"latency.{what}" and cell.model]
    found = [one for cell in cells if (one := _distribution(cell, what, evidence))]
    if not found:
        return None
    engine, rest = (show(part, 80) for part in view.label(row.deployment))
    numbers = plot.palette([one.name for one in found])
    sampled = [one for one in found if one.value]
    x = _axis(found)
    layers = [*_bands(sampled, numbers, x), *_lines(sampled, numbers, x), *_marks(found, numbers, x), *_limits(found, x)]
    alt = f"{TITLES[what]} of {engine}: " + "; ".join(_sentence(one) for one in found)
    svg = plot.draw({"width": WIDTH, "height": HEIGHT, "layer": layers}, alt)
    caption = rest if sampled else f"{rest} · the record holds percentiles only, no samples"
    return Picture(f"{engine}: {TITLES[what]}", svg, _table(found), caption, tuple(numbers.items()))


def _distribution(cell: Cell, what: str, evidence: Evidence) -> Distribution | None:
    document = evidence.document(cell)
    value = document.numbers(what)
    low, high = (document.numbers(f"{what}_{end}") for end in ("lows", "highs"))
    same = len(low) == len(value) == len(high)
    marks = tuple(mark for percent in (50, 95, 99) if (mark := _mark(cell, what, percent)))
    if not value and not marks:
        return None
    limits = tuple((name, float(found.limit)) for name, found in cell.figures.items()
                   if name.startswith(f"{what}_") and isinstance(found.limit, int | float))
    figure = cell.figures.get("requests")
    requests = figure.value if figure and isinstance(figure.value, int) else 1
    name = show(" ".join(part for part in (cell.model, cell.variant) if part), 60)
    return Distribution(name, low if same else value, value, high if same else value, requests, limits, marks)


def _mark(cell: Cell, what: str, percent: int) -> tuple[float, float, float, float] | None:
    """The share, the percentile as it was judged, and its interval."""
    names = (f"{what}_p{percent}_ms", f"{what}_p{percent}_low_ms", f"{what}_p{percent}_high_ms")
    values = [figure.value if (figure := cell.figures.get(name)) else None for name in names]
    if not isinstance(values[0], int | float):
        return None
    low, high = (float(value) if isinstance(value, int | float) else float(values[0]) for value in values[1:])
    return percent / 100, float(values[0]), low, high


def _curve(values: Sequence[float], most: int = POINTS) -> list[tuple[float, float]]:
    """The distribution as at most so many steps (ms, share)."""
    ordered = numpy.sort(numpy.asarray(values, dtype=float))
    count = len(ordered)
    places = range(count) if count <= most else [round(index * (count - 1) / (most - 1)) for index in range(most)]
    return [(round(max(float(ordered[place]), FLOOR_MS), 3), round((place + 1) / count, 4)) for place in places]


def _bands(found: Sequence[Distribution], numbers: dict[str, int], x: Datum) -> list[Datum]:
    data: list[Datum] = []
    for one in found:
        low, high = (numpy.sort(numpy.maximum(numpy.asarray(ends, dtype=float), FLOOR_MS)) for ends in (one.low, one.high))
        together = numpy.sort(numpy.concatenate([low, high]))
        for place in numpy.unique(numpy.linspace(0, len(together) - 1, POINTS).astype(int)):
            at = float(together[place])
            most = float(numpy.searchsorted(low, at, side="right")) / len(low) + one.band
            least = float(numpy.searchsorted(high, at, side="right")) / len(high) - one.band
            ends = {"y": round(max(least, 0.0), 3), "y2": round(min(most, 1.0), 3)}
            data.append({"x": round(at, 3), **ends, "name": one.name})
    if not data:
        return []
    channels = {"x": x, "y": _share(), "y2": {"field": "y2"}, "color": plot.colour(numbers)}
    return [{"data": {"values": data}, "mark": {"type": "area", "interpolate": "step-after", "opacity": 0.13, "clip": True},
             "encoding": channels}]


def _lines(found: Sequence[Distribution], numbers: dict[str, int], x: Datum) -> list[Datum]:
    data = [{"x": at, "y": share, "name": one.name} for one in found for at, share in _curve(one.value)]
    if not data:
        return []
    channels = {"x": x, "y": _share(), "color": plot.colour(numbers), "strokeDash": plot.dash(numbers)}
    mark = {"type": "line", "interpolate": "step-after", "strokeWidth": 1.8, "clip": True}
    return [{"data": {"values": data}, "mark": mark, "encoding": channels}]


def _marks(found: Sequence[Distribution], numbers: dict[str, int], x: Datum) -> list[Datum]:
    data = [{"y": share, "x": max(value, FLOOR_MS), "low": max(low, FLOOR_MS), "high": max(high, FLOOR_MS), "name": one.name}
            for one in found for share, value, low, high in one.marks]
    if not data:
        return []
    shared = {"y": _share(), "color": plot.colour(numbers)}
    span = {**shared, "x": {**x, "field": "low"}, "x2": {"field": "high"}}
    return [{"data": {"values": data}, "mark": {"type": "rule", "strokeWidth": 3, "opacity": 0.6}, "encoding": span},
            {"data": {"values": data}, "mark": {"type": "point", "filled": True, "size": 36, "opacity": 1},
             "encoding": {**shared, "x": x}}]


def _limits(found: Sequence[Distribution], x: Datum) -> list[Datum]:
    groups: list[list[float]] = []
    for limit in sorted({max(limit, FLOOR_MS) for one in found for _, limit in one.limits}):
        if groups and limit < groups[-1][-1] * CLOSE:
            groups[-1].append(limit)
        else:
            groups.append([limit])
    if not groups:
        return []
    lines = [{"x": limit} for group in groups for limit in group]
    words = [{"x": group[0], "y": 0.02, "words": f"limit {_span(group[0], group[-1])}"} for group in groups]
    return [{"data": {"values": lines}, "encoding": {"x": x}, "mark": {
                "type": "rule", "color": plot.LIMIT, "strokeDash": [5, 3], "strokeWidth": 1.6}},
            {"data": {"values": words}, "encoding": {"x": x, "y": _share(), "text": {"field": "words"}},
             "mark": {"type": "text", "angle": 270, "align": "left", "dy": -7, "fill": plot.LIMIT}}]


def _span(first: float, last: float) -> str:
    return number(first) if first == last else f"{number(first)} to {number(last)}"


def _axis(found: Sequence[Distribution]) -> Datum:
    """From where the fastest model's second hundredth begins to the slowest sample or limit."""
    starts = [float(numpy.quantile(one.value, 0.02)) for one in found if one.value]
    lows = [low for one in found for _, _, low, _ in one.marks]
    ends = [limit for one in found for _, limit in one.limits] + [high for one in found for *_, high in one.marks]
    ends += [max(one.high) for one in found if one.value]
    first = max(min([*starts, *lows]) / 1.5, FLOOR_MS)
    scale = {"type": "log", "domain": [first, max(max(ends, default=1.0) * 1.2, first * 2)], "nice": False}
    return {"field": "x", "type": "quantitative", "scale": scale, "title": "ms",
            "axis": {"tickCount": 6, "grid": False, "format": "~g"}}


def _share() -> Datum:
    return {"field": "y", "type": "quantitative", "scale": {"domain": [0, 1]}, "title": None,
            "axis": {"format": ".0%", "values": [0, 0.25, 0.5, 0.75, 0.95]}}


def _percentiles(one: Distribution) -> tuple[str, ...]:
    if one.value:
        return tuple(number(round(float(value), 3)) for value in numpy.percentile(one.value, (50, 95, 99)))
    known = {share: value for share, value, _, _ in one.marks}
    return tuple(number(known.get(share)) for share in (0.5, 0.95, 0.99))


def _sentence(one: Distribution) -> str:
    p50, p95, _ = _percentiles(one)
    limits = ", ".join(f"limit of {name} {number(limit)}" for name, limit in one.limits)
    return f"{one.name} p50 {p50}, p95 {p95} ms{', ' if limits else ''}{limits}"


def _table(found: Sequence[Distribution]) -> Table:
    rows = []
    for one in found:
        judged = ", ".join(f"p{round(100 * share)} {_span(low, high)}" for share, _, low, high in one.marks)
        limits = ", ".join(f"{name} {number(limit)}" for name, limit in one.limits)
        rows.append((one.name, str(len(one.value)), *_percentiles(one), judged, limits))
    return Table(("model", "samples", "p50 ms", "p95 ms", "p99 ms", "95 % interval as judged", "limits"), tuple(rows))
