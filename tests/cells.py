"""Cells for the tests of the reports: one by hand, any by hypothesis."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from reports.promise import IDS
from reports.record import Cell, Figure, Verdict


def cell(check: str = "api.contract", verdict: str = "pass", model: str | None = "small", **fields: Any) -> Cell:
    """A cell of a CPU run of vLLM unless the fields say otherwise."""
    key = {
        **{"machine": "desk", "device": "CPU", "profile": "cpu", "engine": "vllm", "version": "1.0", "build": ""},
        **{"launcher": "process", "lineup": "trilingual", "variant": ""},
    }
    return Cell(**{**key, "model": model, "check": check, "verdict": Verdict(verdict), **fields})


# The same examples every time, however busy the machine: a test that fails means the change before it.
steady = settings(derandomize=True, deadline=None, database=None)

words = st.text(max_size=12)
numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers()
limits = numbers | st.none() | words
figures = st.builds(Figure, value=limits | st.booleans(), unit=words, limit=limits)
verdicts = st.sampled_from(list(Verdict))
checks = st.sampled_from([*IDS, "finding.x1"])

any_cells = st.builds(
    Cell,
    **dict.fromkeys(("machine", "device", "profile", "engine", "version", "build", "launcher", "lineup"), words),
    **dict.fromkeys(("variant", "reason", "cure"), words),
    model=words | st.none(),
    check=checks | words,
    verdict=verdicts,
    causes=st.lists(words, max_size=3).map(tuple),
    figures=st.dictionaries(words, figures, max_size=3),
    evidence=st.lists(words, max_size=3).map(tuple),
)


def _plain(engine: str, lineup: str, model: str | None, check: str, verdict: Verdict) -> Cell:
    return cell(check, verdict, model, engine=engine, lineup=lineup)


plain_cells = st.builds(
    _plain,
    st.sampled_from(["vllm", "sglang"]),
    st.sampled_from(["a", "b"]),
    st.sampled_from(["m", "n", None]),
    st.sampled_from(["startup.ready", "api.contract", "api.errors", "languages.script"]),
    verdicts,
)


def runs(cells: st.SearchStrategy[Cell], max_size: int = 12) -> st.SearchStrategy[list[Cell]]:
    """Cells as a run may hold them: no key twice."""
    return st.lists(cells, max_size=max_size, unique_by=lambda one: one.key)
