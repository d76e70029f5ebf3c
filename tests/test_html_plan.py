"""The plan in the page: beside what was measured, whatever a record's evidence holds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from reports.html import plan
from reports.html.evidence import Evidence
from reports.html.plot import Picture
from reports.matrix import View
from reports.record import Cell
from tests.cells import cell
from tests.pages import figures, keep, seat


def drawn(folder: Path, *cells: Cell) -> list[Picture]:
    """The pictures of a run of these cells."""
    view = View(cells)
    return plan.pictures(view.rows, view, Evidence(folder))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run's folder."""
    (tmp_path / "logs" / "cells").mkdir(parents=True)
    (tmp_path / "run.json").write_text("{}")
    return tmp_path


def held(folder: Path, sample: Any, model: str = "small") -> Cell:
    """What was measured of a model on a card, with what was expected of it."""
    measured = figures(held_gib=(0.9, "GiB", 3.0), planned_gib=(0.8, "GiB", None))
    return keep(folder, cell("memory.plan", model=model, figures=measured), {"plan": sample})


def test_a_plan_stands_beside_the_measurement(folder: Path) -> None:
    """Each model's parts as planned, the whole as measured, the card's memory as a line, ranges and tokens in the table."""
    [picture] = drawn(folder, held(folder, seat(0.8)), held(folder, seat(2.0), "large"))
    assert picture.table.rows == (
        ("small", "0.4", "0.2", "0.1 to 0.3", "0.72 to 0.88", "0.9", "14,400 to 16,200", ""),
        ("large", "1", "0.5", "0.25 to 0.75", "1.8 to 2.2", "0.9", "14,400 to 16,200", ""))
    assert "3.6 GiB that programs can have of the RTX 9090" in picture.caption
    assert set(re.findall(r'fill-opacity="([\d.]+)"', picture.svg)) == {"1", "0.6", "0.3", "0.8"}
    assert "small 0.8 and 0.9 GiB; large 2 and 0.9 GiB" in picture.svg


@pytest.mark.parametrize("sample", [
    None, [], "x", {}, {**seat(0.8), "own_gib": [2.0, 1.0]}, {**seat(0.8), "held_gib": "much"},
    {**seat(0.8), "weights_gib": [1]}, {**seat(0.8), "kv_cache_gib": [float("nan"), 1.0]},
    {**seat(0.8), "kv_cache_gib": [True, True]},
])
def test_what_is_no_plan_is_not_drawn(folder: Path, sample: Any) -> None:
    """A record of others, or of an older version: the page is made without the picture."""
    assert drawn(folder, held(folder, sample)) == []


@pytest.mark.parametrize("gpu", [None, "x", {}, {"title": "X", "usable_gib": [1]}])
def test_without_the_card_the_line_is_missing(folder: Path, gpu: Any) -> None:
    """The bars are still there."""
    [picture] = drawn(folder, held(folder, {**seat(0.8), "gpu": gpu}))
    assert "programs can have" not in picture.caption


def test_on_a_cpu_the_servers_own_words_are_drawn() -> None:
    """By the parts that it tells; who tells tokens alone has no bar."""
    parts = figures(weights_mib=(30.5, "MiB", 31.0), planned_weights_mib=(30.0, "MiB", None), cache_mib=(48.0, "MiB", 25.0),
                    planned_cache_mib=(24.0, "MiB", None), kv_tokens=(8192, "tokens", None),
                    planned_tokens=(8192, "tokens", None))
    whole = figures(cache_mib=(13.0, "MiB", 14.0), planned_cache_mib=(13.2, "MiB", None))
    view = View([cell("memory.plan", model="small", figures=parts), cell("memory.plan", model="large", figures=whole),
                 cell("memory.plan", model="other", figures=figures(kv_tokens=(8192, "tokens", None)))])
    [picture] = plan.pictures(view.rows, view, Evidence(Path("nowhere")))
    assert picture.table.rows == (("small", "54", "78.5", "8,192", "8,192"), ("large", "13.2", "13", "", ""))
    assert "small 54 and 78.5 MiB" in picture.svg
