"""The waivers of a run, as its facts hold them: which were in force, which had expired, which excused nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from reports.facts import FactsError
from reports.record import Cell, Verdict
from reports.text import count, some, visible

FACT = "waivers"  # the key of a run's facts under which they stand
NAMES_SHOWN = 3


class State(StrEnum):
    """What became of a waiver: it excused or could have excused a cell, its day is over, or it matches no cell."""

    IN_FORCE = "in force"
    EXPIRED = "expired"
    UNUSED = "unused"


class Waived(BaseModel):
    """One waiver as it stood when the run was judged; `waived` names the cells that it excused, `unseen` causes that no
    matching cell had."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    cells: str
    causes: tuple[str, ...]
    reason: str
    owner: str
    link: str
    expires: str
    state: State
    waived: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()

    @property
    def identity(self) -> tuple[object, ...]:
        """What makes two records of one waiver the same."""
        return self.cells, self.causes, self.expires, self.owner


def recorded(run: Mapping[str, Any]) -> tuple[Waived, ...] | None:
    """The waivers of a run, of merged runs all of them; None where the facts do not tell. Raises FactsError.

    They decide and not the files of today: a waiver that was changed or removed since changes no old result.
    """
    merged = run.get("merged")
    if isinstance(merged, list | tuple) and merged:
        each = [recorded(one) for one in merged]
        return None if any(one is None for one in each) else _together([one for some in each for one in some or ()])
    if run.get(FACT) is None:
        return None
    try:
        return tuple(Waived.model_validate(one) for one in run[FACT])
    except (TypeError, ValidationError) as fault:
        words = fault.errors()[0]["msg"] if isinstance(fault, ValidationError) else str(fault)
        raise FactsError(f"run.{FACT}: {words}") from None


def clauses(waivers: Sequence[Waived] | None, cells: Iterable[Cell]) -> Iterator[str]:
    """Why waivers shut the gate: one that expired, one that excuses nothing, a cell that is waived by none of them."""
    if waivers is None:
        return
    for state, words in ((State.EXPIRED, "has expired"), (State.UNUSED, "matches no cell")):
        if found := [waiver for waiver in waivers if waiver.state is state]:
            named = [f"'{visible(one.cells, 100)}' of {visible(one.owner, 40)}, {one.expires}" for one in found]
            heads = f"{count(len(found), 'waiver')} {words if len(found) == 1 else _many(words)}"
            yield f"{heads} ({some(named, NAMES_SHOWN)}): remove or renew it"
    known: dict[str, set[str]] = {}
    for waiver in waivers:
        for name in waiver.waived:
            known.setdefault(name, set()).update(waiver.causes)
    waived = [cell for cell in cells if cell.verdict is Verdict.WAIVED]
    if bare := [cell.name for cell in waived if not cell.causes or set(cell.causes) - known.get(cell.name, set())]:
        yield f"{count(len(bare), 'cell')} waived by no waiver of the run ({some([visible(name, 120) for name in bare], 1)})"


def _many(words: str) -> str:
    return {"has expired": "have expired", "matches no cell": "match no cell"}[words]


def _together(waivers: Sequence[Waived]) -> tuple[Waived, ...]:
    """Each waiver once: expired where it had for any run, used where any other used it."""
    rank = {State.EXPIRED: 0, State.IN_FORCE: 1, State.UNUSED: 2}
    found: dict[tuple[object, ...], Waived] = {}
    for one in waivers:
        other = found.get(one.identity, one)
        best = min((one, other), key=lambda waiver: rank[waiver.state])
        names = tuple(dict.fromkeys((*other.waived, *one.waived)))
        unseen = tuple(cause for cause in other.unseen if cause in one.unseen)
        found[one.identity] = best.model_copy(update={"waived": names, "unseen": unseen})
    return tuple(found.values())
