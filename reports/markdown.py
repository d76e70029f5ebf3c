"""matrix.md: the matrix for a pull request or a job's summary page; every word of others in it is escaped."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

from reports import facts, timesheet
from reports.facts import Facts
from reports.gate import Gate
from reports.matrix import SIGNS, Entry, Row, Tally, View
from reports.record import Matrix
from reports.text import count, markdown, seconds, visible
from reports.timesheet import Timesheet


def render(matrix: Matrix, gate: Gate, *, links: bool = True) -> str:
    """The whole page: matrix, what is not pass or worse than it was, where the time went, and the gate's sentence last.

    `links` lead to the evidence, which lies beside matrix.md and nowhere else.
    """
    view, known = View(matrix.cells), facts.of(matrix.run)
    parts = [
        f"# cotenant: gate {'open' if gate.open else 'shut'}",
        _place(known, view),
        *(f"> {markdown(note)}" for note in known.notes),
        "\n".join(_table(view)),
        *(part for row in view.rows for part in _row_entries(view, row, links)),
        "\n".join(_against_baseline(gate)),
        "\n".join(_timesheet(known.timesheet)),
        f"**{markdown(gate.reason, 2000)}**",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _place(facts: Facts, view: View) -> str:
    run = [part for part in (facts.id, facts.started) if part]
    cells = ", ".join(f"{number} {verdict}" for verdict, number in view.verdicts.items())
    counted = f"{count(len(view.cells), 'cell')}: {cells}" if cells else "no cells"
    return " · ".join(markdown(part) for part in (*run, *view.shared, counted))


def _table(view: View) -> Iterator[str]:
    if not view.rows:
        yield "No cell was judged."
        return
    yield _line("engine", "launcher, lineup", *map(markdown, view.columns))
    yield _line(*["---"] * (2 + len(view.columns)))
    for row in view.rows:
        tallies = row.promises
        engine, rest = view.label(row.deployment)
        yield _line(f"**{markdown(engine)}**", markdown(rest), *(_cell(tallies.get(name)) for name in view.columns))


def _line(*fields: str) -> str:
    return f"| {' | '.join(fields)} |"


def _cell(tally: Tally | None) -> str:
    return f"{markdown(SIGNS[tally.verdict])} {tally.verdict} {tally.share}" if tally else ""


def _row_entries(view: View, row: Row, links: bool) -> Iterator[str]:
    entries = view.entries(row)
    if entries:
        yield f"### {' · '.join(markdown(part) for part in view.label(row.deployment))}"
        yield "\n".join(_entry(entry, row, links) for entry in entries)


def _entry(entry: Entry, row: Row, links: bool) -> str:
    cell = entry.first
    what, subjects = entry.named_in(row)
    aside = f" ({markdown(subjects, 1000)})" if subjects else ""
    head = f"- **{cell.verdict}** {markdown(what, 1000)}{aside}"
    details = [
        ("why", markdown(cell.reason)),
        ("causes", markdown(", ".join(cell.causes))),
        ("cure", markdown(cell.cure)),
        ("evidence", ", ".join((_link if links else markdown)(path) for path in entry.evidence)),
    ]
    return "\n".join([head, *(f"  - {name}: {text}" for name, text in details if text)])


def _against_baseline(gate: Gate) -> Iterator[str]:
    if gate.regressions or gate.notes:
        yield "### Against the baseline\n"
        yield from (f"- **regression** {markdown(bad.cell, 300)}: {markdown(bad.sentence, 500)}" for bad in gate.regressions)
        yield from (f"- {markdown(note, 600)}" for note in gate.notes)


def _link(path: str) -> str:
    # Quoted, a path can be no other scheme and cannot end the link early.
    return f"[{markdown(path)}]({quote(visible(path, 1000), safe='/')})"


def _timesheet(sheet: Timesheet | None) -> Iterator[str]:
    if sheet:
        yield _line("where the time went", "", "")
        yield _line("---", "---:", "---")
        for what, value, remark in timesheet.lines(sheet):
            yield _line(what, seconds(value), markdown(remark))
