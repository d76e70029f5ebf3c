"""Every fault of faults.toml, planted into a real run: the cells it names fail for its causes, and nothing else changes.

A run is a pytest of its own over three real llama.cpp servers: launched by it with a program in xllamacpp's place, or
behind proxies, given to it as endpoints. The healthy run of each kind is made once.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from reports import promise
from tests.planted import comparison, lineup
from tests.planted.catalogue import MODELS, PROGRAMS, PlantedFault, faults
from tests.planted.comparison import Cells, Outcome, differences
from tests.planted.proxy import Proxy
from tests.planted.thief import Thief
from tests.planted.wire import WIRE

if TYPE_CHECKING:
    from tests.conftest import LlamaServers

ROOT = Path(__file__).resolve().parent.parent
LIMIT_S = 600


def by_id(where: str) -> list[object]:
    """The faults of one kind, as parameters."""
    return [pytest.param(fault, id=fault.id, marks=[pytest.mark.long] if fault.long else [])
            for fault in faults() if fault.where == where]


class Runs:
    """Runs the suite on the three models and reads what it judged; `kind` is "wire" or "program".

    The healthy run, by limits that any machine keeps, comes first and sets those that a fault is judged by.
    """

    def __init__(self, folder: Path, kind: str, urls: dict[str, str]) -> None:
        self.folder, self.kind, self.urls = folder, kind, urls
        self.healthy = self._run("healthy", lineup.loose(), None)
        assert all(self.healthy[f"{model}/startup.ready"].verdict == "pass" for model in MODELS), "no healthy run"
        self.limits = lineup.calibrated(self.healthy)

    def planted(self, fault: PlantedFault) -> Cells:
        """A run with the fault."""
        return self._run(fault.id, self.limits, fault)

    def _run(self, name: str, limits: dict[str, lineup.Limits], fault: PlantedFault | None) -> Cells:
        folder = self.folder / name
        folder.mkdir()
        with ExitStack() as stack:
            if fault and fault.thief:
                stack.enter_context(Thief(self.urls[fault.model]))
            arguments = self._on_proxies(stack, folder, limits, fault) if self.kind == "wire" else (
                self._launched(folder, limits, fault))
            return self._pytest(folder, [*arguments, "-m", f"cpu and ({fault.only})" if fault and fault.only else "cpu"])

    def _on_proxies(self, stack: ExitStack, folder: Path, limits: dict[str, lineup.Limits],
                    fault: PlantedFault | None) -> list[str]:
        parameters = fault.values(limits[fault.model]) if fault else {}
        if fault and fault.id == "wrong-model":
            parameters = {"other": self.urls[MODELS[0]]}  # type: ignore[dict-item]
        proxies = {
            model: stack.enter_context(Proxy(url, WIRE[fault.id](**parameters) if fault and fault.model == model else None))
            for model, url in self.urls.items()
        }
        path = lineup.write(folder / "planted.toml", limits, {model: proxy.url for model, proxy in proxies.items()})
        return ["--engine=openai", f"--lineup={path}"]

    def _launched(self, folder: Path, limits: dict[str, lineup.Limits], fault: PlantedFault | None) -> list[str]:
        path = lineup.write(folder / "planted.toml", limits)
        program = [f"--engine-env=llamacpp={fault.folder}"] if fault else []
        return ["--engine=llamacpp", f"--lineup={path}", *program]

    def _pytest(self, folder: Path, arguments: list[str]) -> Cells:
        command = [sys.executable, "-m", "pytest", f"--results={folder}", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        said = (done.stdout + done.stderr)[-3000:]
        assert done.returncode in (0, 1), f"{' '.join(command)} ended with {done.returncode}:\n{said}"
        return comparison.read(folder / "latest" / "cells.jsonl")


@pytest.fixture(scope="session")
def wire(tmp_path_factory: pytest.TempPathFactory, llama_server: LlamaServers) -> Runs:
    """Runs on proxies."""
    return Runs(tmp_path_factory.mktemp("wire"), "wire", llama_server.urls)


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory, llama_server: LlamaServers) -> Runs:
    """Runs that launch their servers."""
    return Runs(tmp_path_factory.mktemp("program"), "program", llama_server.urls)


@pytest.mark.parametrize("fault", by_id("wire"))
def test_wire(wire: Runs, fault: PlantedFault) -> None:
    """Planted between the suite and one server."""
    assert differences(fault, wire.healthy, wire.planted(fault)) == []


@pytest.mark.parametrize("fault", by_id("program"))
def test_program(program: Runs, fault: PlantedFault) -> None:
    """Planted in one server's process."""
    assert differences(fault, program.healthy, program.planted(fault)) == []


def test_every_plant_is_in_the_catalogue_once() -> None:
    """No fault without its code, no code without its fault, each promise id known."""
    ids = [fault.id for fault in faults()]
    assert len(set(ids)) == len(ids)
    assert {fault.id for fault in faults() if fault.where == "wire"} == set(WIRE)
    folders = {folder.name for folder in PROGRAMS.iterdir() if (folder / "xllamacpp.py").is_file()}
    assert {fault.folder.name for fault in faults() if fault.where == "program"} == folders
    for fault in faults():
        for pattern in (*fault.fails, *fault.becomes, *fault.may_change):
            check = pattern.removeprefix(f"{fault.model}/").split("/")[-2 if pattern.count("/") > 1 else 0]
            assert any(character in check for character in "*-") or check in promise.IDS, f"{fault.id}: {pattern}"


FAULT = PlantedFault(id="x", where="wire", breaks="", model="trilingual-8m", fails={"api.errors": ("mute",)},
                     becomes={"latency.*": "unavailable"}, may_change=("trilingual-2m/coexistence.busy",))


def cells(*outcomes: Outcome) -> Cells:
    """Cells by their names."""
    return {outcome.name: outcome for outcome in outcomes}


def outcome(name: str, verdict: str, *causes: str, model: str | None = "trilingual-8m") -> Outcome:
    """A cell of the broken model unless another is named."""
    return Outcome(model, name, verdict, frozenset(causes))


HEALTHY = cells(
    outcome("api.errors", "fail", "known"), outcome("latency.ttft", "pass"), outcome("startup.ready", "pass"),
    outcome("coexistence.busy", "pass", model="trilingual-2m"), outcome("coexistence.leave", "pass", model=None))
EXPECTED = (outcome("api.errors", "fail", "known", "mute"), outcome("latency.ttft", "unavailable", "not-started"))


def test_what_the_catalogue_says_is_no_difference() -> None:
    """A new cause beside a known one, a dependent that is unavailable, a cell that may change."""
    touched = outcome("coexistence.busy", "fail", "slow-tokens", model="trilingual-2m")
    assert differences(FAULT, HEALTHY, cells(*EXPECTED, outcome("startup.ready", "pass"), touched)) == []


@pytest.mark.parametrize(("instead", "word"), [
    ((outcome("api.errors", "fail", "known"),), "must fail of mute"),
    ((outcome("api.errors", "waived", "mute"),), "must fail of mute"),
    ((outcome("latency.ttft", "pass"),), "must be unavailable"),
    ((outcome("startup.ready", "fail", "exit-0"),), "healthy it was pass"),
    ((outcome("coexistence.leave", "error", "suite-broke", model=None),), "healthy it was pass"),
    ((outcome("api.robust", "pass"),), "the healthy run has no such cell"),
])
def test_anything_else_is_a_difference(instead: tuple[Outcome, ...], word: str) -> None:
    """A cause that was there before, a waived fault, a dependent that is judged, a healthy cell that changes."""
    (sentence,) = differences(FAULT, HEALTHY, cells(*EXPECTED, *instead))
    assert word in sentence


def test_an_expectation_without_its_cell_is_a_difference() -> None:
    """What was not judged proves nothing."""
    assert differences(FAULT, HEALTHY, {}) == ["no cell api.errors was judged", "no cell latency.* was judged"]
