"""report html and report compare: a page of a run, and two runs beside each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.text import Text

from reports import terminal
from reports.differences import Change, Differences
from reports.record import Matrix
from reports.text import count, visible

SHOWN = 20


def write(matrix: Matrix, folder: Path, target: Path) -> int:
    """Write the report of a run whose evidence is below `folder`, and say where it is."""
    from reports import html  # what draws pictures is heavy, and other commands need none

    path = html.write(folder, matrix, target)
    print(f"{path}: {count(len(matrix.cells), 'cell')}, {path.stat().st_size / 1e6:.1f} MB")
    return 0


def compare(old: Matrix, new: Matrix, target: Path | None) -> int:
    """Print what changed between two runs and write the page of it where one is asked for."""
    found, out = Differences(old, new), terminal.console()
    for line in _lines(found):
        out.print(line, soft_wrap=True)
    if target:
        from reports.html import compare as beside
        from reports.html import save

        _say(out, f"page: {save(beside.render(found), target)}")
    return 0


def _lines(found: Differences) -> Iterator[Text]:
    same = len(found.pairs) - len(found.changed) - len(found.vanished) - len(found.appeared)
    for name, old, new in found.circumstances:
        was, now = (visible(text, 80) or "not known" for text in (old, new))
        yield Text.assemble((f"{visible(name, 60)}: ", "dim"), f"{was} → {now}")
    for pair in found.changed:
        style, reason = "bold red" if pair.worse else "green", visible(pair.either.reason)
        yield Text.assemble((" → ".join(pair.verdicts), style), f" {visible(pair.name)}", f": {reason}" if reason else "")
    for word, pairs in (("vanished", found.vanished), ("appeared", found.appeared)):
        yield from (Text(f"{word} {visible(pair.name)}") for pair in pairs[:SHOWN])
        if len(pairs) > SHOWN:
            yield Text(f"{word}: {len(pairs) - SHOWN} more")
    apart = [change for change in found.figures if change.apart]
    yield from (_figure(change) for change in apart[:SHOWN])
    if len(apart) > SHOWN:
        yield Text(f"{count(len(apart) - SHOWN, 'other figure')} outside the noise")
    cells = f"{len(found.vanished)} vanished, {len(found.appeared)} appeared, {same} the same"
    figures = f"{count(len(apart), 'figure')} outside the noise of both runs"
    yield Text(f"{count(len(found.changed), 'verdict')} changed, {cells}; {figures}", "bold")


def _figure(change: Change) -> Text:
    ratio = f" ×{change.ratio:.3g}" if change.ratio is not None else ""
    return Text(f"{change.old:.4g} → {change.new:.4g} {visible(change.unit, 40)}{ratio} "
                f"{visible(change.name, 80)} of {visible(change.pair.name)}")


def _say(out: Console, words: str) -> None:
    out.print(words, soft_wrap=True)
