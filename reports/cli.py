"""report, gate and merge: old results read again, without pytest and without any engine."""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from reports import gate, terminal
from reports.merge import merge, relocate
from reports.promise import IDS, PROMISES
from reports.record import Matrix
from reports.store import StoreError, read, write_matrix

OPEN, SHUT, USAGE = 0, 1, 4
LATER = ("compare", "html", "baseline")


class UsageError(Exception):
    """What the user must correct: exit 4 with this sentence."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise instead of leaving with argparse's exit code 2, which means interrupted here."""
        if unknown := message.removeprefix("unrecognized arguments: ").split()[:1]:
            message += near(unknown[0], self._option_string_actions) if message.startswith("unrecognized") else ""
        raise UsageError(f"{self.prog}: {message}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of the commands and return its exit code: 0 gate open or done, 1 gate shut, 4 usage."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(arguments)
    except (UsageError, StoreError) as fault:
        print(f"cotenant: {fault}", file=sys.stderr)
        return USAGE


def near(name: str, known: Iterable[str]) -> str:
    """A hint such as `; did you mean 'gate'?`, or what is known where nothing is near."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(names)}"


def _dispatch(arguments: list[str]) -> int:
    commands: dict[str, Callable[[list[str]], int]] = {"report": _report, "gate": _gate, "merge": _merge}
    name, rest = (arguments or [""])[0], arguments[1:]
    if name == "report" and rest[:1] in [["compare"], ["html"]] and not Path(rest[0]).exists():
        name = rest[0]
    if name in LATER:
        raise UsageError(f"{name}: not in this version")
    if name not in commands:
        raise UsageError((f"no command '{name}'" if name else "no command") + near(name, commands))
    return commands[name](rest)


def _report(arguments: list[str]) -> int:
    parser = _parser("report", "Show the matrix of one run, or of several merged.", results="*")
    parser.add_argument("--json", action="store_true", help="print it as matrix.json has it")
    given = parser.parse_args(arguments[1:] if arguments[:1] == ["show"] else arguments)
    paths = given.results or [Path("results/latest")]
    matrix = _load(paths, Path())
    if given.json:
        print(json.dumps(matrix.model_dump(mode="json", by_alias=True), indent=1))
    else:
        terminal.show(matrix, gate.of(matrix), folder=_folder(paths[0]) if len(paths) == 1 else None)
    return OPEN


def _gate(arguments: list[str]) -> int:
    parser = _parser("gate", "Judge results again: exit 0 where the gate is open, 1 where it is shut.")
    parser.add_argument("--require", action="append", default=[], metavar="NAME",
                        help="a promise or check id that every lineup must have judged; may be given again, or a,b")
    given = parser.parse_args(arguments)
    matrix = _load(given.results, Path())
    require = [name for names in given.require for name in names.split(",")]
    _known(require, matrix)
    judged = gate.of(matrix, require)
    out = terminal.console()
    for cell in judged.deciding:
        terminal.line(cell, out)
    terminal.sentence(judged, out)
    return judged.exit_code


def _merge(arguments: list[str]) -> int:
    parser = _parser("merge", "Write the matrix of several runs; of two cells with the same key the newer stands.")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="the folder to write into")
    given = parser.parse_args(arguments)
    if given.output.exists() and (not given.output.is_dir() or any(given.output.iterdir())):
        raise UsageError(f"merge: {given.output} is there and not empty")
    matrix = _load(given.results, given.output)
    given.output.mkdir(parents=True, exist_ok=True)
    write_matrix(given.output, matrix)
    superseded = len(matrix.run.get("superseded", []))
    print(f"{given.output}: {len(matrix.cells)} cells of {len(given.results)} results, {superseded} superseded")
    return OPEN


def _parser(name: str, description: str, results: str = "+") -> _Parser:
    parser = _Parser(prog=f"cotenant {name}", description=description, allow_abbrev=False)
    parser.add_argument("results", nargs=results, type=Path, metavar="RESULTS",
                        help="a run's folder, its matrix.json or its cells.jsonl")
    return parser


def _load(paths: Sequence[Path], target: Path) -> Matrix:
    """Read the results and merge them; evidence is then named from `target`."""
    matrices = [(_existing(path), read(path)) for path in paths]
    if len(matrices) == 1:
        return matrices[0][1]
    return merge([relocate(matrix, _folder(path), target) for path, matrix in matrices])


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _existing(path: Path) -> Path:
    if path.exists():
        return path
    beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    hint = near(path.name, beside) if 0 < len(beside) <= 10 or difflib.get_close_matches(path.name, beside) else ""
    raise UsageError(f"no results at {path}{hint}")


def _known(require: Sequence[str], matrix: Matrix) -> None:
    known = {*PROMISES, *IDS, *(cell.check for cell in matrix.cells)}
    for name in require:
        if name not in known:
            raise UsageError(f"gate: --require: no promise or check '{name}'{near(name, known)}")
