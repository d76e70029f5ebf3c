"""The picture of the boots: how long each start of each engine took, and its phases where they were noted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reports.html import plot
from reports.html.plot import Picture, Table
from reports.html.words import number, show

WHOLE = "start to first token"

Datum = dict[str, Any]


def picture(run: Mapping[str, Any]) -> Picture | None:
    """A bar for each boot, engine by engine in the order of the run; None where the record has no boots."""
    data = [*_data(_each(run))]
    if not data:
        return None
    phases = list(dict.fromkeys(one["phase"] for one in data))
    numbers = plot.palette(phases)
    y = {"field": "boot", "type": "nominal", "title": None, "sort": None,
         "axis": {"domain": False, "ticks": False, "labelLimit": 160}}
    x = {"field": "seconds", "type": "quantitative", "title": "seconds", "stack": "zero", "axis": {"tickCount": 6}}
    channels = {"x": x, "y": y, "color": plot.colour(numbers, "phase"), "order": {"field": "order"}}
    spec = {"width": 620, "height": {"step": 16}, "data": {"values": data}, "mark": {"type": "bar", "height": 11},
            "encoding": channels}
    table = Table(("boot", "phase", "seconds"), tuple((one["boot"], one["phase"], number(one["seconds"])) for one in data))
    caption = "" if phases != [WHOLE] else "each bar is one start until the first token; the record names no phases of it"
    return Picture("Boots", plot.draw(spec, f"Boots: {_ranges(data)}"), table, caption,
                   tuple(numbers.items()) if phases != [WHOLE] else ())


def _each(run: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    runs = run.get("merged") or [run]
    sheets = [one.get("timesheet") for one in runs if isinstance(one, Mapping)]
    boots = [sheet.get("boots") for sheet in sheets if isinstance(sheet, Mapping)]
    lists = [found.get("each") for found in boots if isinstance(found, Mapping)]
    each = [one for found in lists if isinstance(found, list) for one in found if isinstance(one, Mapping)]
    engines = list(dict.fromkeys(str(one.get("engine")) for one in each))
    return sorted(each, key=lambda one: engines.index(str(one.get("engine"))))


def _data(each: Sequence[Mapping[str, Any]]) -> list[Datum]:
    """One datum for each phase of each boot. `phases` is [[name, seconds], …] where a boot has them."""
    data: list[Datum] = []
    counted: dict[str, int] = {}
    for one in each:
        engine = show(str(one.get("engine", "")), 40)
        counted[engine] = counted.get(engine, 0) + 1
        model = f" {show(str(one['model']), 40)}" if one.get("model") else ""
        phases = one.get("phases") or [[WHOLE, one.get("seconds")]]
        for order, (name, seconds) in enumerate(phases):
            if isinstance(seconds, int | float):
                data.append({"boot": f"{engine}{model} {counted[engine]}", "phase": show(str(name), 40),
                             "seconds": float(seconds), "order": order, "engine": engine})
    return data


def _ranges(data: Sequence[Datum]) -> str:
    totals: dict[str, dict[str, float]] = {}
    for one in data:
        boots = totals.setdefault(one["engine"], {})
        boots[one["boot"]] = boots.get(one["boot"], 0.0) + one["seconds"]
    return "; ".join(f"{engine} {len(boots)} from {number(min(boots.values()))} to {number(max(boots.values()))} s"
                     for engine, boots in totals.items())
