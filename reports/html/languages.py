"""The table of languages: for each language, engine and model the share of its script and one answer as it came."""

from __future__ import annotations

from dataclasses import dataclass

from reports.html.evidence import Evidence
from reports.html.words import show
from reports.matrix import View
from reports.record import Cell, Figure

# Only these become a `lang` attribute: a variant may be any word, and a wrong one makes a screen reader misread.
KNOWN = frozenset((
    *("ar", "bn", "cs", "da", "de", "el", "en", "es", "fa", "fi", "fr", "he", "hi", "hu", "id", "it", "ja", "ko", "nl"),
    *("no", "pl", "pt", "ro", "ru", "sv", "th", "tr", "uk", "vi", "zh"),
))
ANSWER = 160


@dataclass(frozen=True)
class Line:
    """One row: a model of a deployment asked in one language. `share` is from 0 to 1, None where it was not measured."""

    engine: str
    model: str
    lang: str
    script: Cell
    others: tuple[Cell, ...]
    share: float | None
    of: str
    strayed: Figure | None
    prompts: str
    prompt: str
    answer: str


@dataclass(frozen=True)
class Language:
    """One language with its rows; `code` as the lineup names it."""

    code: str
    lines: tuple[Line, ...]


def table(view: View, evidence: Evidence) -> list[Language]:
    """The languages in the order of their first cell, empty where none was judged."""
    found: dict[str, list[Line]] = {}
    for row in view.rows:
        engine = view.label(row.deployment)[0]
        kin: dict[tuple[str | None, str], list[Cell]] = {}
        for cell in row.cells:
            if cell.promise == "languages":
                kin.setdefault((cell.model, cell.variant), []).append(cell)
        for (_, code), cells in kin.items():
            script = next((cell for cell in cells if cell.check == "languages.script"), None)
            if script:
                found.setdefault(code, []).append(_line(engine, script, cells, evidence))
    return [Language(show(code, 40), tuple(lines)) for code, lines in found.items()]


def _line(engine: str, script: Cell, cells: list[Cell], evidence: Evidence) -> Line:
    figure = script.figures.get("share")
    share = figure.value if figure else None
    prompt, answer = _sample(script, evidence)
    prompts = script.figures.get("prompts")
    return Line(engine, script.model or "", script.variant if script.variant in KNOWN else "", script,
                tuple(cell for cell in cells if cell is not script),
                float(share) if isinstance(share, int | float) and 0 <= share <= 1 else None,
                figure.unit.removeprefix("of letters ") if figure else "", script.figures.get("strayed"),
                str(prompts.value) if prompts else "", show(prompt, ANSWER), show(answer, ANSWER))


def _sample(cell: Cell, evidence: Evidence) -> tuple[str, str]:
    """A prompt that was asked in the language itself, and its answer; of the short answers none where there is a longer."""
    answers = evidence.document(cell).samples.get("answers")
    pairs = [(str(one.get("prompt", "")), str(one.get("streamed", ""))) for one in answers if isinstance(one, dict)
             and one.get("kind", "native") == "native"] if isinstance(answers, list) else []
    told = [pair for pair in pairs if pair[1].strip()]
    return next((pair for pair in told if len(pair[1]) >= 12), told[0] if told else ("", ""))
