"""The page: one file with everything in it, which asks nothing of anybody and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from reports import facts, gate, timesheet
from reports.html import boots, languages, latency, memory, plan, squares
from reports.html.evidence import Evidence
from reports.html.words import finalize, number, show
from reports.matrix import Row, View
from reports.record import Matrix
from reports.text import count, seconds

HERE = Path(__file__).parent
SHUT_SHOWN = 8
COMMANDS_SHOWN = 4
DRAWN = 12  # deployments of which pictures are made, those with the worst verdicts
RUNNER = ["-c", "pyproject.toml", "-p", "fixtures.plugin"]  # what ./cotenant run puts before the user's own words


def render(matrix: Matrix, folder: Path) -> str:
    """The report of one run, whose evidence is relative to `folder`."""
    view, evidence, known, judged = View(matrix.cells), Evidence(folder), facts.of(matrix.run), gate.of(matrix)
    return page("report.html.j2", {
        "title": f"{'Gate open' if judged.open else 'Gate shut'} · {known.id or 'cotenant'}",
        "gate": judged, "commands": _commands(matrix.run), "facts": _facts(matrix, view), "notes": known.notes, "view": view,
        "deciding": [(cell, squares.anchor(cell)) for cell in judged.deciding[:SHUT_SHOWN]],
        "more_deciding": max(len(judged.deciding) - SHUT_SHOWN, 0),
        "lines": squares.lines(view, evidence), "untold": max(len(view.cells) - squares.TOLD, 0),
        "languages": languages.table(view, evidence), "boots": boots.picture(matrix.run),
        "timesheet": timesheet.lines(known.timesheet) if known.timesheet else [], **_pictures(view, evidence)})


def _pictures(view: View, evidence: Evidence) -> dict[str, Any]:
    held, timed = _judged(view, "memory"), _judged(view, "latency")
    return {"maps": memory.maps(view, evidence), "seats": plan.pictures(held[:DRAWN], view, evidence),
            "plans": memory.plans(held[:DRAWN], view),
            "growth": memory.growth(held[:DRAWN], view, evidence),
            "latency": latency.pictures(timed[:DRAWN], view, evidence),
            "memory_undrawn": len(held[DRAWN:]), "undrawn": len(timed[DRAWN:])}


def _judged(view: View, promise: str) -> list[Row]:
    """The deployments of which this promise was judged; where not all can be drawn, those with the worst verdicts first."""
    rows = [row for row in view.rows if promise in row.promises]
    return rows if len(rows) <= DRAWN else sorted(rows, key=lambda row: row.promises[promise].verdict.rank)


def page(template: str, content: Mapping[str, Any]) -> str:
    """The template with its style sheet and script inside, and a policy that allows these two and nothing else."""
    style, script = (_asset(name) for name in ("style.css", "report.js"))
    policy = (f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}; "
              "base-uri 'none'; form-action 'none'")
    return _environment().get_template(template).render(
        **content, style=Markup(style), script=Markup(script), policy=Markup(policy))


def when(text: str | None) -> str:
    """`2026-11-21 14:23 UTC`; what is no time is shown as it is."""
    try:
        return f"{datetime.fromisoformat(text or ''):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return text or ""


def command(run: Mapping[str, Any]) -> str:
    """What the user typed, as far as the record tells."""
    words = run.get("arguments")
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        return ""
    if words[: len(RUNNER)] == RUNNER:
        return shlex.join(["./cotenant", "run", *words[len(RUNNER) :]])
    return shlex.join(["pytest", *words]) if words else ""


def _facts(matrix: Matrix, view: View) -> list[tuple[str, str]]:
    runs = [run for run in matrix.run.get("merged") or [matrix.run] if isinstance(run, dict)]
    known = facts.of(matrix.run)
    rows = [row.deployment for row in view.rows]
    models = sorted({cell.model for cell in view.cells if cell.model})
    ended = when(known.finished) if known.finished else "not finished"
    found = [
        ("Machine", _listed([*(_machine(run) for run in runs)])),
        ("Device", _listed([*(row.device for row in rows), *(_driver(run) for run in runs)])),
        ("Engines", _listed([f"{row.engine} {row.version}" for row in rows])),
        ("Builds", _listed([cell.build for cell in view.cells])),
        ("Lineups", _listed([f"{row.lineup} ({row.launcher}, profile {row.profile})" for row in rows])),
        ("Models", _listed(models)),
        ("When", f"{when(known.started)} to {ended}" if known.started else ""),
        ("Run", _listed([str(run.get("id", "")) for run in runs])),
    ]
    return [(name, text) for name, text in found if text]


def _commands(run: Mapping[str, Any]) -> list[str]:
    runs = [one for one in run.get("merged") or [run] if isinstance(one, dict)]
    return [words for words in dict.fromkeys(map(command, runs)) if words][:COMMANDS_SHOWN]


def _machine(run: Mapping[str, Any]) -> str:
    memory_gib = run.get("memory_gib")
    parts = (run.get("machine"), run.get("cpu"), f"{number(memory_gib)} GiB" if memory_gib else "",
             f"Linux {run['kernel']}" if run.get("kernel") else "")
    return ", ".join(str(part) for part in parts if part)


def _driver(run: Mapping[str, Any]) -> str:
    parts = [f"{name} {run[key]}" for key, name in (("driver", "driver"), ("cuda", "CUDA")) if run.get(key)]
    return ", ".join(parts)


def _listed(names: Sequence[str], limit: int = 12) -> str:
    unique = [show(name, 160) for name in dict.fromkeys(names) if name]
    more = len(unique) - limit
    return "; ".join(unique[:limit]) + (f"; and {more} more" if more > 0 else "")


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True, finalize=finalize)
    environment.filters |= {"cut": show, "number": number, "seconds": seconds, "count": count}
    environment.globals |= {"sign": squares.sign, "command": command}
    return environment


@lru_cache(maxsize=4)
def _asset(name: str) -> str:
    return (HERE / "assets" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
