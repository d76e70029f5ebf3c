"""The pictures of memory: who held how much of the device over time, and what was planned against what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.html import plot
from reports.html.evidence import Evidence
from reports.html.plot import Picture, Table
from reports.html.words import number, show
from reports.matrix import Row, View
from reports.record import Cell

MOMENTS = 120
CLOSE = 0.025  # of the whole time
MIB_PER_GIB = 1024
PLANS = {"memory.plan": ("held_gib", "planned_gib"), "memory.ceiling": ("peak_gib", "")}

Datum = dict[str, Any]
Series = list[tuple[float, float]]


@dataclass(frozen=True)
class Kept:
    """What a meter kept: GiB by model over seconds since the start, and the phases as (seconds, name)."""

    models: Mapping[str, Series]
    phases: tuple[tuple[float, str], ...]
    peaks: Mapping[str, Mapping[str, float]]
    note: str
    what: str = "Device memory"

    @property
    def moments(self) -> list[float]:
        """Every moment at which something changed, thinned to what a picture can show."""
        changes: set[float] = set()
        for series in self.models.values():
            held = 0.0
            for (before, _), (at, size) in zip([(0.0, 0.0), *series], series, strict=False):
                if size != held:
                    changes.update((before, at))
                held = size
        ends = [series[-1][0] for series in self.models.values()]
        ordered = sorted({*changes, *ends, min(series[0][0] for series in self.models.values())})
        if len(ordered) <= MOMENTS:
            return ordered
        return [ordered[round(index * (len(ordered) - 1) / (MOMENTS - 1))] for index in range(MOMENTS)]


def maps(view: View, evidence: Evidence) -> list[Picture]:
    """A stacked map for each deployment whose device was watched."""
    kept = ((name, _kept(content)) for name, content in evidence.devices(view.cells))
    return [_map(name, found, view) for name, found in kept if found]


def plans(rows: Sequence[Row], view: View) -> list[Picture]:
    """For each of these deployments what each model held, what it planned and what it may hold."""
    return [picture for row in rows for check in PLANS if (picture := _plan(view, row, check))]


def growth(rows: Sequence[Row], view: View, evidence: Evidence) -> list[Picture]:
    """For each of these deployments what its models held over rounds of equal load."""
    return [picture for row in rows if (picture := _growth(view, row, evidence))]


def _kept(content: Mapping[str, Any]) -> Kept | None:
    """What can be drawn of a meter's file; None where it is of another shape or has no samples."""
    try:
        models = {show(str(name), 60): [(float(at), float(mib) / MIB_PER_GIB) for at, mib in series]
                  for name, series in content["mib_by_model"].items() if series}
        phases = tuple((float(at), show(str(name), 60)) for at, name in content.get("phases", ()))
        peaks = {show(str(name), 60): {show(str(phase), 60): float(mib) / MIB_PER_GIB for phase, mib in found.items()}
                 for name, found in content.get("peak_mib_by_phase", {}).items()}
        baseline, foreign = float(content.get("baseline_mib", 0)), float(content.get("foreign_peak_mib", 0))
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    if not any(size > 0 for series in models.values() for _, size in series):
        return None  # it was over before anything was sampled
    if content.get("attribution") == "pss":
        words = "PSS of the processes of each server"
        return Kept(models, phases or _starts(models), peaks, words, "Memory")
    note = f"before the first start {number(round(baseline))} MiB were in use, others took {number(round(foreign))} at most"
    return Kept(models, phases or _starts(models), peaks, note)


def _starts(models: Mapping[str, Series]) -> tuple[tuple[float, str], ...]:
    """Where no phases were kept: when each model began to hold memory, and when it gave it back."""
    found = []
    for name, series in models.items():
        if began := next((at for at, size in series if size > 0), None):
            found.append((began, f"{name} begins"))
        if ended := next((at for at, size in series if size == 0 and began and at > began), None):
            found.append((ended, f"{name} is gone"))
    return tuple(sorted(found))


def _map(file: str, kept: Kept, view: View) -> Picture:
    numbers = plot.palette(list(kept.models))
    planned = _planned(file, kept, view)
    data = [{"t": at, "name": name, "gib": round(_held(series, at), 4), "order": numbers[name]}
            for name, series in kept.models.items() for at in kept.moments]
    seconds = {"field": "t", "type": "quantitative", "title": "seconds since the start", "axis": {"grid": False}}
    size = {"field": "gib", "type": "quantitative", "title": "GiB", "stack": "zero", "axis": {"tickCount": 5}}
    layers: list[Datum] = [{
        "data": {"values": data}, "mark": {"type": "area", "interpolate": "step-after", "opacity": 0.85},
        "encoding": {"x": seconds, "y": size, "color": plot.colour(numbers), "order": {"field": "order"}}}]
    layers += _phase_layers(kept.phases, seconds, kept.moments[-1] - kept.moments[0])
    if planned:
        layers.append({"data": {"values": [{"gib": sum(planned.values())}]}, "encoding": {"y": {**size, "stack": None}},
                       "mark": {"type": "rule", "color": plot.LIMIT, "strokeDash": [6, 3], "strokeWidth": 1.6}})
    peaks = {name: max(size for _, size in series) for name, series in kept.models.items()}
    title = f"{kept.what}: {show(file.removesuffix('device.json').rstrip('-.'), 120)}"
    alt = f"{title}. Peaks: {', '.join(f'{name} {number(peak)} GiB' for name, peak in peaks.items())}"
    dashed = "dashed: all that was planned; " if planned else ""
    return Picture(title, plot.draw({"width": 680, "height": 230, "layer": layers}, alt), _map_table(kept, peaks, planned),
                   f"{dashed}{kept.note}", tuple(numbers.items()))


def _phase_layers(phases: Sequence[tuple[float, str]], seconds: Datum, span: float) -> list[Datum]:
    """A line for each phase with its number; phases too close to tell apart share their numbers."""
    groups: list[list[int]] = []
    for place, (at, _) in enumerate(phases):
        if groups and at - phases[groups[-1][-1]][0] < span * CLOSE:
            groups[-1].append(place)
        else:
            groups.append([place])
    lines = [{"t": at} for at, _ in phases]
    words = [{"t": phases[group[0]][0], "words": "–".join(str(end + 1) for end in dict.fromkeys((group[0], group[-1])))}
             for group in groups]
    rule = {"data": {"values": lines}, "encoding": {"x": seconds},
            "mark": {"type": "rule", "color": plot.SOFT, "strokeWidth": 1, "strokeDash": [1, 3]}}
    text = {"data": {"values": words}, "encoding": {"x": seconds, "text": {"field": "words"}},
            "mark": {"type": "text", "y": -7, "fill": plot.INK}}
    return [rule, text] if phases else []


def _held(series: Series, at: float) -> float:
    """What was held at a moment: the last reading before it."""
    return next((size for moment, size in reversed(series) if moment <= at), 0.0)


def _planned(file: str, kept: Kept, view: View) -> dict[str, float]:
    """The plans of the deployment that the file is of; none where more than one fits."""
    fitting = [row for row in view.rows if set(kept.models) <= {show(cell.model, 60) for cell in row.cells if cell.model}]
    named = [row for row in fitting if row.deployment.engine in file and row.deployment.lineup in file]
    rows = named or fitting
    if len(rows) != 1:
        return {}
    cells = [cell for cell in rows[0].cells if cell.check == "memory.plan"]
    found = {show(cell.model or "", 60): _value(cell, "planned_gib") for cell in cells}
    return {name: value for name, value in found.items() if value is not None and name in kept.models}


def _map_table(kept: Kept, peaks: Mapping[str, float], planned: Mapping[str, float]) -> Table:
    rows = [(f"peak of {name}", f"{number(peak)} GiB", f"planned {number(planned[name])} GiB" if name in planned else "")
            for name, peak in peaks.items()]
    rows += [(f"{place}", f"{number(at)} s", name) for place, (at, name) in enumerate(kept.phases, 1)]
    rows += [(f"{name} in {phase}", f"{number(peak)} GiB", "peak") for name, found in kept.peaks.items()
             for phase, peak in found.items()]
    return Table(("what", "figure", ""), tuple(rows))


def _plan(view: View, row: Row, check: str) -> Picture | None:
    held_name, planned_name = PLANS[check]
    data = [*_plan_data([cell for cell in row.cells if cell.check == check], held_name, planned_name)]
    if not data:
        return None
    engine, rest = (show(part, 80) for part in view.label(row.deployment))
    y = {"field": "name", "type": "nominal", "title": None, "sort": None, "axis": {"labelLimit": 130, "domain": False}}
    x = {"type": "quantitative", "title": "GiB", "axis": {"tickCount": 5}}
    bar = {"type": "bar", "color": plot.COLOURS[0], "height": 12}
    bars: Datum = {"mark": bar, "encoding": {"x": {**x, "field": "held"}}}
    ticks = [{"transform": [{"filter": f"isValid(datum.{field})"}], "encoding": {"x": {**x, "field": field}},
              "mark": {"type": "tick", "color": colour, "thickness": 3, "size": 20}}
             for field, colour in (("planned", plot.INK), ("limit", plot.LIMIT))]
    spec = {"width": 270, "height": {"step": 26}, "data": {"values": data}, "encoding": {"y": y}, "layer": [bars, *ticks]}
    words = [f"{one['name']} {number(one['held'])} GiB" for one in data]
    table = Table(("model", "measured GiB", "planned GiB", "limit GiB"),
                  tuple((one["name"], *(number(one[name]) if one[name] is not None else ""
                                        for name in ("held", "planned", "limit"))) for one in data))
    what = "held against planned" if check == "memory.plan" else "peak against the limit"
    return Picture(f"{engine}: {what}", plot.draw(spec, f"{engine}, {check}: {', '.join(words)}"), table, rest)


def _plan_data(cells: Sequence[Cell], held: str, planned: str) -> Iterator[Datum]:
    for cell in cells:
        value = _value(cell, held)
        limit = cell.figures[held].limit if held in cell.figures else None
        if value is not None and cell.model:
            yield {"name": show(cell.model, 60), "held": value, "planned": _value(cell, planned),
                   "limit": limit if isinstance(limit, int | float) else None}


def _value(cell: Cell, name: str) -> float | None:
    value = cell.figures[name].value if name in cell.figures else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _growth(view: View, row: Row, evidence: Evidence) -> Picture | None:
    cells = [cell for cell in row.cells if cell.check == "memory.growth" and cell.model]
    found = {show(cell.model or "", 60): evidence.document(cell).numbers("pss_mib") for cell in cells}
    found = {name: values for name, values in found.items() if len(values) > 1}
    if not found:
        return None
    numbers = plot.palette(list(found))
    data = [{"round": place, "mib": value, "name": name} for name, values in found.items()
            for place, value in enumerate(values, 1)]
    engine, rest = (show(part, 80) for part in view.label(row.deployment))
    x = {"field": "round", "type": "quantitative", "title": "round of equal load", "axis": {"grid": False, "format": "d"}}
    y = {"field": "mib", "type": "quantitative", "title": "MiB", "axis": {"tickCount": 4}}
    channels = {"x": x, "y": y, "color": plot.colour(numbers), "strokeDash": plot.dash(numbers)}
    spec = {"width": 320, "height": 130, "data": {"values": data}, "mark": {"type": "line", "strokeWidth": 1.8},
            "encoding": channels}
    ends = [(name, number(values[0]), number(values[-1]), number(max(values))) for name, values in found.items()]
    words = "; ".join(f"{name} from {first} to {last} MiB" for name, first, last, _ in ends)
    return Picture(f"{engine}: memory over rounds", plot.draw(spec, f"{engine}, memory of the servers: {words}"),
                   Table(("model", "first MiB", "last MiB", "most MiB"), tuple(ends)), rest, tuple(numbers.items()))
