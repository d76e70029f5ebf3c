"""report, gate, merge and baseline: old results read again, without pytest and without any engine."""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from reports import cli_baseline, cli_gate, cli_html, gate, terminal
from reports.facts import FactsError
from reports.merge import merge, relocate
from reports.promise import IDS, PROMISES
from reports.record import Matrix
from reports.store import StoreError, new_id, read, write_matrix

OPEN, SHUT, USAGE = 0, 1, 4


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
    except (UsageError, StoreError, FactsError) as fault:
        print(f"cotenant: {fault}", file=sys.stderr)
        return USAGE


def near(name: str, known: Iterable[str]) -> str:
    """A hint such as `; did you mean 'gate'?`, or what is known where nothing is near."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(names)}"


def _dispatch(arguments: list[str]) -> int:
    commands: dict[str, Callable[[list[str]], int]] = {"report": _report, "gate": _gate, "merge": _merge,
                                                       "baseline": _baseline}
    name, rest = (arguments or [""])[0], arguments[1:]
    kinds = {"html": _html, "compare": _compare}
    if name == "report" and rest and rest[0] in kinds and not Path(rest[0]).exists():
        return kinds[rest[0]](rest[1:])
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


def _html(arguments: list[str]) -> int:
    parser = _parser("report html", "Write the page of a run, or of several merged: matrix.html.", results="*")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: matrix.html in the run's folder")
    given = parser.parse_args(arguments)
    paths = given.results or [Path("results/latest")]
    if len(paths) > 1 and given.output is None:
        raise UsageError("report html: say with --output where the page of several results goes")
    matrix = _load(paths, Path())
    folder = _folder(paths[0]) if len(paths) == 1 else Path()
    return cli_html.write(matrix, folder, given.output or folder / "matrix.html")


def _compare(arguments: list[str]) -> int:
    parser = _parser("report compare", "Show what changed from one run to another.")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the page of it, too")
    given = parser.parse_args(arguments)
    if len(given.results) != 2:
        raise UsageError(f"report compare: name two results, an older and a newer; there are {len(given.results)}")
    old, new = (_load([path], Path()) for path in given.results)
    return cli_html.compare(old, new, given.html)


def _gate(arguments: list[str]) -> int:
    parser = _parser("gate", "Judge results again: exit 0 where the gate is open, 1 where it is shut.", results="*")
    cli_gate.add(parser)
    given = parser.parse_args(arguments)
    if given.verify:
        return cli_gate.verify(_existing(given.verify))
    if not given.results:
        raise UsageError("gate: name RESULTS: a run's folder, its matrix.json or its cells.jsonl")
    require = [name for names in given.require for name in names.split(",")]
    _known(require, _load(given.results, Path()))
    return cli_gate.judge(given, require)


def _baseline(arguments: list[str]) -> int:
    parser = _Parser(prog="cotenant baseline", description="Save runs to hold later ones against.", allow_abbrev=False)
    cli_baseline.add(parser)
    given = parser.parse_intermixed_args(arguments)
    if given.what == "show":
        return cli_baseline.show(given.name)
    if not given.name:
        raise UsageError("baseline save: write a NAME and RESULTS, five runs or more")
    return cli_baseline.save(given.name, [_existing(path) for path in given.results], replace=given.replace)


def _merge(arguments: list[str]) -> int:
    parser = _parser("merge", "Write the matrix of several runs; of two cells with the same key the newer stands.")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="the folder to write into (results/<a new id>)")
    given = parser.parse_args(arguments)
    given.output = given.output or Path("results") / new_id()
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
