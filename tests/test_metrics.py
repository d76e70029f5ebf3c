"""metrics.prom is read by Prometheus whatever a record holds, and says what the gate and the cells say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings

from reports import gate, metrics
from reports.comparison import Comparison
from reports.record import Cell, Figure, Matrix
from tests.cells import any_cells, cell, runs, steady
from tests.test_matrix import HOSTILE, TIMES

DOC = Path(__file__).resolve().parent.parent / "docs" / "reports.md"
LINE = re.compile(r'(\w+)(?:\{((?:\w+="(?:[^"\\\n]|\\["\\])*",?)+)\})? (-?[0-9.e+-]+)')


def rendered(*cells: Cell, **run: object) -> str:
    matrix = Matrix(run={"id": "r", "started": "2026-11-21T12:00:00+00:00", "finished": "2026-11-21T12:01:00+00:00", **run},
                    cells=cells)
    return metrics.render(matrix, gate.of(matrix))


def promtool(text: str) -> str:
    """What `promtool check metrics` has to say; nothing of a document that it takes as it is."""
    program = shutil.which("promtool")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("promtool is not on PATH")
        pytest.skip("promtool is not on PATH (Debian: apt install prometheus)")
    done = subprocess.run([program, "check", "metrics"], input=text, capture_output=True, text=True, timeout=20)
    return done.stdout + done.stderr + (f"exit {done.returncode}" if done.returncode else "")


def values(text: str, name: str) -> dict[str, float]:
    """The series of one metric, by their labels."""
    found = (LINE.fullmatch(line) for line in text.splitlines() if not line.startswith("#"))
    return {match[2] or "": float(match[3]) for match in found if match and match[1] == name}


@settings(steady, max_examples=20)
@given(runs(any_cells, 6))
def test_any_record_is_read(cells: list[Cell]) -> None:
    """promtool reads the whole document, no series is there twice."""
    text = rendered(*cells)
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(map(LINE.fullmatch, lines))
    assert len({line.rpartition(" ")[0] for line in lines}) == len(lines)
    assert promtool(text) == ""


def test_what_it_says() -> None:
    """Gate, verdicts, each cell, each figure with its unit and limit, and where the time went."""
    figures = {"ttft_p95_ms": Figure(value=41.5, unit="ms", limit=150), "seed": Figure(value="x"), "ok": Figure(value=True)}
    text = rendered(cell("latency.ttft", figures=figures), cell(verdict="fail"), timesheet=TIMES)
    assert values(text, "cotenant_gate_open") == {"": 0}
    assert values(text, "cotenant_cells")['verdict="fail"'] == 1
    assert sum(values(text, "cotenant_cells").values()) == 2
    (labels,) = values(text, "cotenant_cell_figure")
    assert 'check="latency.ttft"' in labels
    assert labels.endswith('figure="ttft_p95_ms",unit="ms"')
    assert list(values(text, "cotenant_cell_figure").values()) == [41.5]
    assert list(values(text, "cotenant_cell_limit").values()) == [150]
    assert values(text, "cotenant_run_part_seconds")['part="setup"'] == 371
    began, ended = (values(text, f"cotenant_run_{end}_timestamp_seconds")[""] for end in ("start", "end"))
    assert ended - began == 60
    assert "cotenant_regressions" not in text
    compared = Comparison(name="main", sha256="0", runs=5, compared=1)
    assert values(rendered(cell(), baseline=compared.facts()), "cotenant_regressions") == {"": 0}


def test_hostile_labels() -> None:
    """Quotes, backslashes and what cannot be seen stay inside their label, which is cut."""
    text = rendered(cell(model=f'a"b\\c{HOSTILE}{"x" * 900}', figures={'f"}\n': Figure(value=1, unit='"')}))
    assert promtool(text) == ""
    assert max(map(len, text.splitlines())) < 1000


def test_names_are_documented() -> None:
    """Each metric stands in docs/reports.md."""
    said = DOC.read_text(encoding="utf-8")
    assert [name for name in metrics.HELP if f"`{name}`" not in said] == []
