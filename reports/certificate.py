"""The certificate: what a release is judged by, on one page, with the digests by which anybody can tell later changes."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports import audit, facts, gate, place, waived
from reports.comparison import Regression
from reports.gate import OPEN_QUESTIONS, Gate
from reports.record import Cell, Matrix
from reports.redact import redact
from reports.store import StoreError, read, timestamp
from reports.text import count, markdown, some, visible
from reports.waived import Waived

NAME = "certificate.md"
NAMES_SHOWN = 200
_LINE = re.compile(r"^([0-9a-f]{64})  (.+)$")
_SEAL = re.compile(r"^Seal: `sha256:([0-9a-f]{64})`$", re.MULTILINE)
_FENCE = "```"


@dataclass(frozen=True)
class Check:
    """Whether what a certificate names is as it was. `altered` are sentences about what is not, `added` files it does not
    name; `sentence` says it in one, the gate's own words included."""

    altered: tuple[str, ...]
    added: tuple[str, ...]
    sentence: str
    open: bool

    @property
    def exit_code(self) -> int:
        """0 where nothing was altered and the gate is open, else 1."""
        return 0 if self.open and not self.altered else 1


def write(folder: Path, matrix: Matrix, gate: Gate) -> Path:
    """Write certificate.md into the run's folder, last of all: it holds the digest of every other file there."""
    target = folder / NAME
    body = render(folder, matrix, gate)
    fresh = target.with_name(f".{NAME}.new")
    sealed = f"{body}\nSeal: `sha256:{_digest_of(body)}`\n"
    fresh.write_text(sealed, encoding="utf-8", errors="backslashreplace", newline="\n")
    fresh.replace(target)
    return target


def render(folder: Path, matrix: Matrix, gate: Gate) -> str:
    """The page without its seal."""
    parts = [
        f"# cotenant: certificate, gate {'open' if gate.open else 'shut'}",
        f"**{markdown(gate.reason, 2000)}**",
        "\n".join(_run(matrix)),
        "\n".join(_engines(matrix)),
        "\n".join(_list("Held against a baseline", (markdown(note, 500) for note in gate.notes), "no baseline was named")),
        "\n".join(_list("Regressions", map(_regression, gate.regressions), "none")),
        "\n".join(_waivers(matrix)),
        "\n".join(_list("Not judged", _not_judged(matrix, gate), "nothing: every cell was judged")),
        "\n".join(_list("Notes", (markdown(note, 500) for note in facts.of(matrix.run).notes), "none")),
        _digests(folder),
    ]
    return "\n\n".join(parts) + "\n"


def verify(path: Path) -> Check:
    """Look whether the results beside a certificate are as it says, and judge them again. Raises StoreError."""
    path = path / NAME if path.is_dir() else path
    try:
        page = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise StoreError(f"{path}: no certificate that can be read: {fault}") from None
    named = {match[2]: match[1] for line in page.splitlines() if (match := _LINE.match(line))}
    if not named:
        raise StoreError(f"{path}: not a certificate: it names no file")
    now = dict(_files(path.parent))
    altered = [*_unsealed(page), *(f"{visible(name, 200)} {'is gone' if name not in now else 'was altered'}"
                                   for name, digest in named.items() if now.get(name) != digest)]
    judged, words = _again(path.parent)
    if words and markdown(words, 2000) not in page:
        altered.append(f"the results are judged otherwise than it says: {words}")
    added = tuple(sorted(now.keys() - named.keys()))
    return Check(tuple(altered), added, _sentence(path, altered, named, words), bool(judged and judged.open))


def _again(folder: Path) -> tuple[Gate | None, str]:
    """The gate of the results as they lie there; nothing where they cannot be read, which is then said of their files."""
    try:
        judged = gate.of(read(folder), also=audit.contradictions(folder))
    except (StoreError, facts.FactsError) as fault:
        return None, f"cannot be read: {fault}"
    return judged, judged.reason


def _sentence(path: Path, altered: list[str], named: Mapping[str, str], words: str) -> str:
    if altered:
        return f"{path}: altered since it was written: {some(altered, 3)}."
    return f"{path}: {count(len(named), 'file')} as when it was written. {words}"


def _unsealed(page: str) -> Iterator[str]:
    match = _SEAL.search(page)
    if match is None:
        yield "the certificate has no seal"
    elif _digest_of(page[: match.start() - 1]) != match[1]:
        yield "the certificate itself was altered"


def _run(matrix: Matrix) -> Iterator[str]:
    """A line for each fact that a reader of a release asks for."""
    runs = matrix.run.get("merged") or [matrix.run]
    known, where = facts.of(matrix.run), place.of(matrix)
    rows = {
        "run": known.id, "began": known.started, "ended": known.finished, "written": timestamp(),
        "machine": ", ".join(where.machines), "processor": where.cpu,
        "memory": f"{where.memory_gib} GiB" if where.memory_gib else "",
        "devices": "; ".join(f"{profile}: {', '.join(devices)}" for profile, devices in where.devices.items()),
        "GPU UUIDs": ", ".join(where.gpus), "driver": where.driver, "CUDA": where.cuda, "kernel": where.kernel,
        "Python": ", ".join(sorted({str(run["python"]) for run in runs if run.get("python")})),
    }
    yield "## What was judged"
    yield ""
    yield from (f"- {name}: {markdown(value, 500)}" for name, value in rows.items() if value)
    for run in runs:
        yield f"- command: {markdown(_command(run), 2000)}"
    digests = {(name, str(value)) for run in runs for name, value in (run.get("circumstances") or {}).items()}
    for name, digest in sorted(digests):
        if digest.startswith("sha256:"):
            yield f"- {markdown(name, 200)}: {markdown(digest, 100)}"


def _command(run: Mapping[str, Any]) -> str:
    arguments = run.get("arguments")
    if not isinstance(arguments, list):
        return "not known"
    return redact(shlex.join(["./cotenant", "run", *map(str, arguments)]))


def _regression(bad: Regression) -> str:
    return f"{markdown(bad.cell, 200)}: {markdown(bad.sentence, 500)}"


def _engines(matrix: Matrix) -> Iterator[str]:
    yield "## Engines"
    yield ""
    engines = place.of(matrix).engines
    yield from (f"- {markdown(name, 80)}: {markdown('; '.join(builds), 1000)}" for name, builds in engines.items())
    if not engines:
        yield "None told its version."


def _waivers(matrix: Matrix) -> Iterator[str]:
    known = waived.recorded(matrix.run)
    if known is None:
        cells = [cell for cell in matrix.cells if cell.verdict == "waived"]
        yield from _list("Waivers", (f"{markdown(cell.name, 200)}: {markdown(cell.reason, 500)}" for cell in cells), "none")
        return
    yield from _list("Waivers", map(_waiver, known), "none")


def _waiver(one: Waived) -> str:
    excused = some([markdown(name, 120) for name in one.waived], NAMES_SHOWN) or "nothing"
    return (f"{markdown(one.cells, 200)} ({markdown(', '.join(one.causes), 400)}), {one.state}, until "
            f"{markdown(one.expires, 40)}, owner {markdown(one.owner, 100)}: {markdown(one.reason, 400)}; excused {excused}")


def _not_judged(matrix: Matrix, gate: Gate) -> Iterator[str]:
    for cell in matrix.cells:
        if cell.verdict in (*OPEN_QUESTIONS, "error"):
            yield _unjudged(cell)
    yield from (markdown(missing, 300) for missing in gate.missing)


def _unjudged(cell: Cell) -> str:
    return f"{markdown(cell.name, 200)}: {cell.verdict}{f', {markdown(cell.reason, 300)}' if cell.reason else ''}"


def _list(title: str, lines: Iterator[str], empty: str) -> Iterator[str]:
    found = list(lines)
    yield f"## {title}"
    yield ""
    yield from (f"- {line}" for line in found[:NAMES_SHOWN])
    if len(found) > NAMES_SHOWN:
        yield f"- and {len(found) - NAMES_SHOWN} more"
    if not found:
        yield f"{empty[0].upper()}{empty[1:]}."


def _digests(folder: Path) -> str:
    lines = [f"{digest}  {name}" for name, digest in _files(folder)]
    intro = (f"`./cotenant gate --verify {NAME}` tells whether one of these files was altered since, as `sha256sum --check` "
             "does.\nA page cannot vouch for itself: keep its seal where nobody can change it, such as a signed tag.")
    return "\n".join(["## Digests (SHA-256)", "", intro, "", f"{_FENCE}text", *lines, _FENCE])


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    """Every file of the result but the certificate, with its digest; links are not followed."""
    for file in sorted(folder.rglob("*")):
        name = str(file.relative_to(folder))
        own = name == NAME or file.name.startswith(".") or not name.isprintable()
        if not own and file.is_file() and not file.is_symlink():
            with file.open("rb") as opened:
                yield name, hashlib.file_digest(opened, "sha256").hexdigest()


def _digest_of(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
