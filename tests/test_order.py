"""What starts nothing comes first, and each deployment is one stretch of the run, so that it boots once."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from fixtures import lineup
from fixtures.check import Check
from fixtures.engines.registry import engine
from fixtures.gpu import profile
from fixtures.order import Order
from fixtures.place import Place
from suites import test_coexistence, test_faults, test_kernels, test_startup

TRILINGUAL = lineup.load("trilingual")
PROFILES = profile.committed()
PLACES = [Place(PROFILES[name], "process", engine(served), "1", TRILINGUAL)
          for name in ("cpu", "h200") for served in ("llamacpp", "ollama", "vllm")]
TESTS: list[Any] = [test_faults.test_kill, test_coexistence.test_crash, test_startup.test_ready, test_kernels.test_static]


def ordered(ranks: Order, places: list[Place]) -> list[tuple[str, str, str]]:
    """The cells of these deployments in their order: profile, engine and check."""
    checks: list[Check] = [test.check for test in TESTS]
    cells = [(place.at(check.id, model), check) for place in reversed(places) for check in checks
             for model in (TRILINGUAL.models if check.per_model else (None,))]
    cells.sort(key=lambda cell: ranks.rank(*cell))
    return [(place.profile.name, place.engine.name, place.check) for place, _ in cells]


@pytest.fixture
def set_up(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The engines that are set up on this machine."""
    found = {"llamacpp", "vllm"}
    monkeypatch.setattr("fixtures.order.setup.find", lambda name, version: name if name in found else None)
    return found


def test_static_cells_before_the_first_start(set_up: set[str]) -> None:
    """Of all deployments whose files are at hand; each deployment's other cells then follow in one stretch."""
    cells = ordered(Order(PLACES, {}), PLACES)
    static = [("cpu", "llamacpp"), ("cpu", "vllm"), ("h200", "llamacpp"), ("h200", "ollama"), ("h200", "vllm")]
    assert cells[:5] == [(*one, "kernels.static") for one in static]
    stretches = [one for one, _ in itertools.groupby(cells[5:], key=lambda cell: cell[:2])]
    assert stretches == [(place.profile.name, place.engine.name) for place in PLACES]
    assert [check for _, _, check in cells[5:10]] == ["startup.ready"] * 3 + ["coexistence.crash", "faults.kill"]


def test_nothing_is_set_up_for_a_static_cell_before_its_turn(set_up: set[str]) -> None:
    """An engine that is missing keeps no other waiting; one whose environment the user named is at hand."""
    cells = ordered(Order(PLACES, {}), PLACES)
    assert cells.index(("cpu", "ollama", "kernels.static")) > cells.index(("cpu", "llamacpp", "faults.kill"))
    given = ordered(Order(PLACES, {"ollama": "/usr"}), PLACES)
    assert ("cpu", "ollama", "kernels.static") in given[:6]


def test_two_versions_are_two_deployments(set_up: set[str]) -> None:
    """They do not mix."""
    places = [replace(PLACES[2], version=version, several=True) for version in ("1", "2")]
    ranks = Order(places, {})
    cells = [(place.at(test.check.id), test.check) for test in TESTS for place in places]
    cells.sort(key=lambda cell: ranks.rank(*cell))
    assert [place.version for place, check in cells if not check.static] == ["1"] * 3 + ["2"] * 3
    assert max(ranks.rank(*cell) for cell in cells) < ranks.last
