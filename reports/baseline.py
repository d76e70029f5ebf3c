"""The baseline: what five runs or more of one machine said, as a JSON file in the repository to hold later runs against."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reports import busy, facts, gate, measure, place
from reports.measure import Kind
from reports.place import Place
from reports.record import Cell, Matrix, Verdict
from reports.significance import FEWEST
from reports.store import StoreError, timestamp
from reports.text import count, some, visible

BASELINES = Path(__file__).resolve().parent.parent / "baselines"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,79}")
LARGEST_FILE = 256 << 20


class BaselineError(StoreError):
    """A baseline that cannot be made or read as asked, in one sentence that names the cure."""


class Subject(NamedTuple):
    """What is compared from run to run: a cell's key without machine, device and version, which a release changes."""

    profile: str
    launcher: str
    engine: str
    lineup: str
    model: str
    check: str
    variant: str

    @classmethod
    def of(cls, cell: Cell) -> Subject:
        """The subject of a cell."""
        return cls(cell.profile, cell.launcher, cell.engine, cell.lineup, cell.model or "", cell.check, cell.variant)

    @property
    def name(self) -> str:
        """As the cell's own name."""
        return "/".join(part for part in self if part)

    @property
    def deployment(self) -> str:
        """profile/launcher/engine/lineup."""
        return "/".join(self[:4])


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HeldFigure(_Strict):
    """One figure: a value of each run, in their order, and its standard error where the samples within the run tell it."""

    unit: str
    limit: float | None
    kind: Kind
    lower_is_better: bool
    values: tuple[float, ...] = Field(min_length=FEWEST)
    errors: tuple[float | None, ...] = ()


class HeldCell(_Strict):
    """One cell of every run. `figures` are those that can be compared, of cells that always passed."""

    subject: Subject
    verdicts: tuple[Verdict, ...] = Field(min_length=FEWEST)
    figures: dict[str, HeldFigure] = Field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether it passed in every run."""
        return all(verdict is Verdict.PASS for verdict in self.verdicts)


class HeldRun(_Strict):
    """Where one value of each figure is from: the run's id, when it began, the digest of its cells, and the largest share of
    the processors that other work took meanwhile."""

    id: str
    started: str | None
    sha256: str
    busy: float = 0.0


class Baseline(_Strict):
    """The whole file. `not_compared` says of figures by name why they are left out."""

    schema_: Literal[1] = Field(default=1, alias="schema")
    name: str
    saved: str
    place: Place
    runs: tuple[HeldRun, ...] = Field(min_length=FEWEST)
    cells: tuple[HeldCell, ...] = Field(min_length=1)
    not_compared: dict[str, str] = Field(default_factory=dict)

    model_config = ConfigDict(populate_by_name=True)

    @property
    def digest(self) -> str:
        """SHA-256 of the file's text."""
        return hashlib.sha256(text(self).encode()).hexdigest()


def make(name: str, matrices: Mapping[str, Matrix]) -> Baseline:
    """A baseline of these runs, each by the words for where it lies. Raises BaselineError for runs that make none.

    All of one machine, driver, build and lineups, each finished with an open gate, with the same cells, none twice.
    """
    _named(name)
    if len(matrices) < FEWEST:
        raise BaselineError(f"baseline {name}: a baseline takes {FEWEST} runs or more, {len(matrices)} given, "
                            f"{FEWEST - len(matrices)} missing: from fewer nobody knows how much a figure varies by itself")
    for where, matrix in matrices.items():
        _sound(where, matrix)
    _different(matrices)
    by_run = {where: _by_subject(where, matrix) for where, matrix in matrices.items()}
    found = _same_place(matrices)
    _same_cells(by_run)
    left_out: dict[str, str] = {}
    cells = tuple(_held([cells[subject] for cells in by_run.values()], left_out)
                  for subject in sorted(next(iter(by_run.values()))))
    runs = tuple(HeldRun(id=str(matrix.run.get("id") or ""), started=matrix.run.get("started"), sha256=_digest(matrix),
                         busy=round(max((busy.of(cell) or 0.0 for cell in matrix.cells), default=0.0), 4))
                 for matrix in matrices.values())
    return Baseline(name=name, saved=timestamp(), place=found, runs=runs, cells=cells,
                    not_compared=dict(sorted(left_out.items())))


def path_of(name: str, folder: Path | None = None) -> Path:
    """The file of a baseline by its name, or the path itself where a path was given."""
    return Path(name) if "/" in name or name.endswith(".json") else (folder or BASELINES) / f"{_named(name)}.json"


def names(folder: Path | None = None) -> list[str]:
    """The baselines that are there."""
    return sorted(file.stem for file in (folder or BASELINES).glob("*.json"))


def load(name: str, folder: Path | None = None) -> Baseline:
    """Read one by its name or path. Raises BaselineError."""
    file = path_of(name, folder)
    if not file.is_file():
        there = some(names(folder), 8) or "none"
        raise BaselineError(f"no baseline at {file}; there: {there}; "
                            f"make one with ./cotenant baseline save {file.stem} RESULTS…")
    if file.stat().st_size > LARGEST_FILE:
        raise BaselineError(f"{file}: larger than any baseline")
    try:
        found = Baseline.model_validate_json(file.read_bytes())
    except ValidationError as fault:
        problem = fault.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise BaselineError(f"{file}: not a baseline of this version: {where}: {problem['msg']}") from None
    _whole(file, found)
    return found


def save(baseline: Baseline, folder: Path | None = None, *, replace: bool = False) -> Path:
    """Write it, into a file that is not there or is to be replaced. Raises BaselineError."""
    folder = folder or BASELINES
    file = folder / f"{_named(baseline.name)}.json"
    if file.exists() and not replace:
        raise BaselineError(f"{file} is there; --replace writes it anew")
    folder.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f".{file.name}.new")
    fresh.write_text(text(baseline), encoding="utf-8", newline="\n")
    fresh.replace(file)
    return file


def text(baseline: Baseline) -> str:
    """The file's text: in a stable order and with one line for each run and each figure, so that a diff can be read."""
    document = baseline.model_dump(mode="json", by_alias=True)
    return "".join(_lines(document, 0)) + "\n"


def _lines(value: Any, depth: int) -> Iterator[str]:
    inner = [*value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    if not inner or (depth > 1 and not any(_deep(one) for one in inner)):
        yield json.dumps(value, ensure_ascii=False)
        return
    pairs = [(f"{json.dumps(key, ensure_ascii=False)}: ", one) for key, one in value.items()] if isinstance(value, dict) \
        else [("", one) for one in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    yield opening
    for number, (head, one) in enumerate(pairs):
        yield f"{',' if number else ''}\n{' ' * (depth + 1)}{head}"
        yield from _lines(one, depth + 1)
    yield f"\n{' ' * depth}{closing}"


def _deep(value: Any) -> bool:
    return isinstance(value, dict) and any(isinstance(one, dict | list) for one in value.values())


def _named(name: str) -> str:
    if not NAME.fullmatch(name):
        raise BaselineError(f"baseline '{visible(name, 80)}': write a name of letters, digits, dots, dashes and underscores")
    return name


def _sound(where: str, matrix: Matrix) -> None:
    """A run that its own gate refuses is nothing to hold another against."""
    if facts.of(matrix.run).merged:
        raise BaselineError(f"{where} is a merge of runs: give the runs themselves")
    judged = gate.of(matrix)
    if not judged.open:
        raise BaselineError(f"{where}: its own gate is shut, so nothing can be held against it: {judged.reason}")


def _different(matrices: Mapping[str, Matrix]) -> None:
    """One run given twice varies by nothing, and everything would look worse than that."""
    seen: dict[str, str] = {}
    for where, matrix in matrices.items():
        for mark in (f"id {matrix.run.get('id') or where}", _times(matrix)):
            if mark and mark in seen:
                raise BaselineError(f"{seen[mark]} and {where} are the same run: each counts once")
            seen[mark] = where


def _same_place(matrices: Mapping[str, Matrix]) -> Place:
    (first, found), *others = ((where, place.of(matrix)) for where, matrix in matrices.items())
    for where, other in others:
        if differs := place.differences(found, other):
            raise BaselineError(f"{first} and {where} were not made in the same place: {'; '.join(differs)}")
    return found


def _by_subject(where: str, matrix: Matrix) -> dict[Subject, Cell]:
    found: dict[Subject, Cell] = {}
    for cell in matrix.cells:
        if found.setdefault(subject := Subject.of(cell), cell) is not cell:
            raise BaselineError(f"{where} has {subject.name} of several versions or devices: make a baseline for each")
    return found


def _same_cells(by_run: Mapping[str, Mapping[Subject, Cell]]) -> None:
    """A narrowed run among them would quietly take its cells out of every later comparison."""
    first, *others = by_run
    for other in others:
        for here, there in ((first, other), (other, first)):
            if lacking := sorted(by_run[here].keys() - by_run[there].keys()):
                raise BaselineError(f"{there} lacks {count(len(lacking), 'cell')} that {here} has, the first is "
                                    f"{lacking[0].name}: make all runs with the same command")


def _held(cells: Sequence[Cell], left_out: dict[str, str]) -> HeldCell:
    figures = {}
    verdicts = tuple(cell.verdict for cell in cells)
    if all(verdict is Verdict.PASS for verdict in verdicts):
        for name, _, _ in measure.numbers(cells[0].figures):
            if isinstance(held := _figure(name, cells), HeldFigure):
                figures[name] = held
            else:
                left_out.setdefault(name.rpartition(" ")[2], held)
    return HeldCell(subject=Subject.of(cells[0]), verdicts=verdicts, figures=dict(sorted(figures.items())))


def _figure(name: str, cells: Sequence[Cell]) -> HeldFigure | str:
    """The figure of all runs, or why it is not compared."""
    found = [cell.figures[name] for cell in cells if name in cell.figures]
    values = [value for figure in found if (value := measure.number(figure.value)) is not None]
    if len(values) < len(cells) or len({figure.unit for figure in found}) > 1:
        return "not every run has it"
    limit = measure.number(found[0].limit)
    known = measure.of(name, found[0].unit, limit, values)
    if known is None:
        return "which way is better is not known"
    if min(values) <= 0:
        return "it was 0 in the baseline, and a share of that says nothing"
    errors = tuple(None if (error := measure.error(name, cell.figures)) is None else round(error, 6) for cell in cells)
    return HeldFigure(unit=found[0].unit, limit=limit, kind=known.kind, lower_is_better=known.lower_is_better,
                      values=tuple(values), errors=errors if any(error is not None for error in errors) else ())


def _whole(file: Path, found: Baseline) -> None:
    """A file edited by hand may pair values with no run."""
    rows = {len(found.runs), *(len(cell.verdicts) for cell in found.cells)}
    rows |= {len(figure.values) for cell in found.cells for figure in cell.figures.values()}
    values = [value for cell in found.cells for figure in cell.figures.values() for value in figure.values]
    if len(rows) > 1:
        raise BaselineError(f"{file}: its cells and figures are of different numbers of runs ({sorted(rows)}): save it anew")
    if not all(0 < value < float("inf") for value in values):
        raise BaselineError(f"{file}: a figure is not a number above 0: save it anew")
    if len({cell.subject for cell in found.cells}) < len(found.cells):
        raise BaselineError(f"{file}: a cell is there twice: save it anew")


def _times(matrix: Matrix) -> str:
    """Every measured time and rate: no two runs have the same. Empty where nothing was timed."""
    known = (Kind.TIME, Kind.RATE)
    found = [f"{cell.name} {name} {value}" for cell in matrix.cells for name, figure, value in measure.numbers(cell.figures)
             if (kind := measure.of(name, figure.unit, None, ())) and kind.kind in known and value > 0]
    return "\n".join(found)


def _digest(matrix: Matrix) -> str:
    cells = [cell.model_dump_json() for cell in matrix.cells]
    return hashlib.sha256("\n".join(cells).encode()).hexdigest()

