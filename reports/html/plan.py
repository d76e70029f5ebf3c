"""The pictures of plans: what each model was expected to take of its card or of main memory, beside what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from reports.html import plot
from reports.html.evidence import Evidence
from reports.html.plot import Picture, Table
from reports.html.words import number, show
from reports.matrix import Row, View
from reports.record import Cell

PARTS = {"weights": 1.0, "KV cache": 0.6, "the engine's own": 0.3, "measured": 0.8}
MIB_PER_GIB = 1024
PLANNED, MEASURED, TOLD = "planned", "measured", "told by the server"

Datum = dict[str, Any]
Span = tuple[float, float]


@dataclass(frozen=True)
class Expected:
    """One model: GiB by part as planned (their middles) and as measured or told, the ranges and tokens in words."""

    model: str
    planned: dict[str, float]
    found: dict[str, float]
    words: tuple[str, ...]


def pictures(rows: Sequence[Row], view: View, evidence: Evidence) -> list[Picture]:
    """One for each of these deployments of which a plan stands in the record."""
    return [picture for row in rows for picture in (_on_card(row, view, evidence), _on_cpu(row, view)) if picture]


def _on_card(row: Row, view: View, evidence: Evidence) -> Picture | None:
    told = [(cell, plan) for cell in _cells(row) if isinstance(plan := evidence.document(cell).samples.get("plan"), dict)]
    found = [one for cell, plan in told if (one := _expected(cell, plan))]
    if not found:
        return None
    gpu = told[0][1].get("gpu")
    usable = _span(gpu.get("usable_gib")) if isinstance(gpu, dict) else None
    title = show(str(gpu.get("title")), 60) if isinstance(gpu, dict) and usable else ""
    source = show("; ".join(dict.fromkeys(str(plan.get("source") or "") for _, plan in told)), 240)
    head = ("model", "weights GiB", "KV cache GiB", "own GiB", "planned GiB", "measured GiB", "planned tokens", "tokens")
    caption = f"the middles of what ./cotenant plan expects, in shades: {', '.join(list(PARTS)[:3])}"
    caption += f"; dashed: the {number(_mid(usable))} GiB that programs can have of the {title}" if usable else ""
    return _picture(row, view, found, MEASURED, head, f"{caption}. Ranges from {source}" if source else caption,
                    _mid(usable) if usable else None)


def _on_cpu(row: Row, view: View) -> Picture | None:
    found = [one for cell in _cells(row) if (one := _accounted(cell))]
    head = ("model", "planned MiB", "told MiB", "planned tokens", "tokens")
    caption = "main memory; weights and KV cache, in shades"
    return _picture(row, view, found, TOLD, head, caption, None) if found else None


def _cells(row: Row) -> list[Cell]:
    return [cell for cell in row.cells if cell.check == "memory.plan" and cell.model]


def _expected(cell: Cell, plan: dict[str, Any]) -> Expected | None:
    spans = [_span(plan.get(name)) for name in ("weights_gib", "kv_cache_gib", "own_gib", "held_gib")]
    held, tokens = _figure(cell, "held_gib"), _span(plan.get("kv_tokens"))
    weights, cache, own, whole = spans
    if held is None or weights is None or cache is None or own is None or whole is None:
        return None
    planned = dict(zip(PARTS, map(_mid, (weights, cache, own)), strict=False))
    words = (*map(_range, (weights, cache, own, whole)), number(held), _range(tokens) if tokens else "",
             _tokens(cell, "kv_tokens"))
    return Expected(show(cell.model or "", 60), planned, {"measured": held}, words)


def _accounted(cell: Cell) -> Expected | None:
    planned, told = {}, {}
    for part, name in (("weights", "weights"), ("KV cache", "cache")):
        wanted, size = _figure(cell, f"planned_{name}_mib"), _figure(cell, f"{name}_mib")
        if wanted is not None and size is not None:
            planned[part], told[part] = wanted / MIB_PER_GIB, size / MIB_PER_GIB
    if not planned:
        return None
    words = (number(sum(planned.values()) * MIB_PER_GIB), number(sum(told.values()) * MIB_PER_GIB),
             _tokens(cell, "planned_tokens"), _tokens(cell, "kv_tokens"))
    return Expected(show(cell.model or "", 60), planned, told, words)


def _picture(row: Row, view: View, found: Sequence[Expected], second: str, head: tuple[str, ...], caption: str,
             limit: float | None) -> Picture:
    numbers = plot.palette([one.model for one in found])
    unit, factor = ("GiB", 1) if second == MEASURED else ("MiB", MIB_PER_GIB)
    data = [*_data(found, second, factor)]
    y = {"field": "bar", "type": "nominal", "title": None, "sort": [PLANNED, second], "axis": {"labelLimit": 130}}
    x = {"field": "size", "type": "quantitative", "title": unit, "stack": "zero", "axis": {"tickCount": 6}}
    shade = {"field": "shade", "type": "quantitative", "scale": None, "legend": None}
    layers: list[Datum] = [{"data": {"values": data}, "mark": {"type": "bar", "height": 20},
                            "encoding": {"y": y, "x": x, "color": plot.colour(numbers), "fillOpacity": shade,
                                         "order": {"field": "order"}}}]
    if limit is not None:
        rule = {"type": "rule", "color": plot.LIMIT, "strokeDash": [6, 3], "strokeWidth": 1.6}
        layers.append({"data": {"values": [{"size": limit}]}, "mark": rule,
                       "encoding": {"x": {"field": "size", "type": "quantitative"}}})
    engine, rest = (show(part, 80) for part in view.label(row.deployment))
    sums = [f"{one.model} {number(sum(one.planned.values()) * factor)} and {number(sum(one.found.values()) * factor)} {unit}"
            for one in found]
    picture = plot.draw({"width": 560, "height": {"step": 34}, "layer": layers},
                        f"{engine}, {PLANNED} and {second}: {'; '.join(sums)}")
    table = Table(head, tuple((one.model, *one.words) for one in found))
    return Picture(f"{engine}: {PLANNED} and {second}", picture, table, f"{rest}: {caption}", tuple(numbers.items()))


def _data(found: Sequence[Expected], second: str, factor: int) -> Iterator[Datum]:
    order = 0
    for one in found:
        for bar, parts in ((PLANNED, one.planned), (second, one.found)):
            for part, size in parts.items():
                order += 1
                yield {"bar": bar, "name": one.model, "shade": PARTS[part], "size": round(size * factor, 3),
                       "order": order}


def _figure(cell: Cell, name: str) -> float | None:
    value = cell.figures[name].value if name in cell.figures else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _tokens(cell: Cell, name: str) -> str:
    value = _figure(cell, name)
    return f"{value:,.0f}" if value is not None else ""


def _span(value: object) -> Span | None:
    if not isinstance(value, list) or len(value) != 2:
        return None
    ends = [float(end) for end in value if isinstance(end, int | float) and not isinstance(end, bool)]
    return (ends[0], ends[1]) if len(ends) == 2 and 0 <= ends[0] <= ends[1] < 1e12 else None


def _mid(span: Span) -> float:
    return (span[0] + span[1]) / 2


def _range(span: Span) -> str:
    low, high = number(span[0]), number(span[1])
    return low if low == high else f"{low} to {high}"
