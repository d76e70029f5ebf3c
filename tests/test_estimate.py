"""What a run would start and how long it takes is told from figures that name their source, and starts nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from fixtures import configuration, estimate, lineup, plan
from fixtures.check import Step
from fixtures.course import Course
from fixtures.deployment.script import Script
from fixtures.engines.registry import ENGINES, engine
from fixtures.figures import DEFAULTS, Figures, Table
from fixtures.gpu import profile
from fixtures.place import Place
from fixtures.plan import SERVING
from fixtures.spending import Spending, read
from tests import runs
from tests.runs import Ended, several
from tests.small import Deployments, Shared

TRILINGUAL = lineup.load("trilingual")
PROFILES = profile.committed()
VLLM = Place(PROFILES["cpu"], "process", engine("vllm"), "0.32.0", TRILINGUAL)

NAMES = ("a", "b", "c")
DEEDS: dict[Step, Callable[[Script, str | None], object]] = {
    Step.START: lambda script, name: script.first_start(name) if name else script.sequential(),
    Step.TOGETHER: lambda script, name: script.model(name or ""),
    Step.SLEEP: lambda script, name: script.sleep(),
    Step.CRASH: lambda script, name: script.crash(),
    Step.LEAVE: lambda script, name: script.leave(),
    Step.BESIDE: lambda script, name: script.in_company(name) if name else script.beside(),
    Step.COMPANY: lambda script, name: script.in_company(name or ""),
    Step.RETURN: lambda script, name: script.in_company(name) if name else script.returns(),
    Step.SHUTDOWN: lambda script, name: script.shutdown(),
    Step.EAGER: lambda script, name: script.eager(),
    Step.CONCURRENT: lambda script, name: script.concurrent(),
    Step.ROBUST: lambda script, name: script.deployment.tenant(name or ""),
    Step.KILL: lambda script, name: script.killed(),
    Step.AFTER: lambda script, name: script.all_stops(),
}
WHOLE = [(Step.START, "a"), (Step.START, "b"), (Step.START, "c"), (Step.START, None), (Step.TOGETHER, "b"),
         (Step.COMPANY, "a"), (Step.CRASH, None), (Step.LEAVE, None), (Step.BESIDE, "b"), (Step.BESIDE, None),
         (Step.RETURN, "c"), (Step.RETURN, None), (Step.SHUTDOWN, None), (Step.CONCURRENT, None), (Step.ROBUST, "a"),
         (Step.KILL, None), (Step.AFTER, None)]


@pytest.fixture
def deployments(tmp_path: Path) -> Iterator[Deployments]:
    found = Deployments(tmp_path)
    yield found
    found.close()


@pytest.mark.parametrize(("wanted", "cells"), [
    ((), [(Step.START, "a")]),
    ((), [(Step.CRASH, None), (Step.LEAVE, None)]),
    ((), [(Step.BESIDE, None), (Step.SHUTDOWN, None), (Step.KILL, None)]),
    ((), [(Step.CONCURRENT, None), (Step.ROBUST, "b"), (Step.AFTER, None)]),
    ((), [(Step.LEAVE, None), (Step.ROBUST, "a"), (Step.KILL, None), (Step.AFTER, None)]),
    ((), [(Step.SHUTDOWN, None), (Step.ROBUST, "a"), (Step.ROBUST, "c"), (Step.KILL, None)]),
    ((), [(Step.KILL, None), (Step.AFTER, None)]),
    ((), [(Step.EAGER, None), (Step.EAGER, None), (Step.CONCURRENT, None)]),
    (("coexistence.isolation",), [(Step.BESIDE, "b"), (Step.RETURN, "c")]),
    (("coexistence.isolation",), WHOLE),
])
def test_a_course_is_that_of_the_script(deployments: Deployments, wanted: tuple[str, ...],
                                        cells: list[tuple[Step, str | None]]) -> None:
    """Cell by cell a course starts what the script starts of real servers, and leaves the same models running."""
    script, course = deployments.script(*NAMES, wanted=wanted), Course(NAMES)
    for step, model in cells:
        before = len(script.deployment.boots)
        DEEDS[step](script, model)
        foreseen = sum(len(names) for names in course.take(step, model))
        assert foreseen == len(script.deployment.boots) - before, (step, model)
        assert course.running == set(script.deployment.running()), (step, model)


def test_a_course_of_a_shared_server(deployments: Deployments) -> None:
    """Loads of models count as starts; one that sleeps is loaded again."""
    script, course = deployments.script(*NAMES, engine=Shared()), Course(NAMES)
    for step in (Step.SLEEP, Step.CRASH, Step.BESIDE):
        before = len(script.deployment.boots)
        DEEDS[step](script, None)
        assert sum(map(len, course.take(step, None))) == len(script.deployment.boots) - before, step


def run(results: Path, name: str, *shares: Mapping[str, object]) -> None:
    """A run that noted what it spent."""
    (results / name).mkdir(parents=True)
    known: dict[str, object] = {"profile": "cpu", "engine": "vllm", "lineup": "trilingual", "check": "api.contract"}
    (results / name / "run.json").write_text(json.dumps({"spent": [{**known, **share} for share in shares]}))


def test_a_run_is_more_than_the_table(tmp_path: Path) -> None:
    """Its means and longest, named by its id; what it did not judge is still from the table."""
    run(tmp_path, "20260101T000000Z-0001", {"cells": 4, "seconds": 20, "longest": 9, "boots": 2, "boot_seconds": 30,
                                            "boot_longest": 16})
    figures = Figures(tmp_path)
    contract, boot = figures.cell(VLLM.at("api.contract")), figures.boot(VLLM)
    assert (contract.mean, contract.longest, contract.source) == (5, 9, "run 20260101T000000Z-0001")
    assert (boot.mean, boot.longest) == (15, 16)
    assert "AMD EPYC" in figures.cell(VLLM.at("api.errors")).source


def test_the_newest_run_of_the_lineup(tmp_path: Path) -> None:
    """Another lineup's only where there is none of this one; never another engine's, profile's, or a damaged run's."""
    shares: list[dict[str, object]] = [
        {"lineup": "trilingual"}, {"lineup": "other"}, {"engine": "sglang"}, {"profile": "h200"},
        {"lineup": "trilingual", "cells": 0}, {"lineup": "trilingual", "seconds": "many"}]
    for day, share in enumerate(shares, 1):
        run(tmp_path, f"2026010{day}T000000Z-0000", {"cells": 1, "seconds": day, "longest": day, **share})
    (tmp_path / "20260109T000000Z-0000").mkdir()
    (tmp_path / "20260109T000000Z-0000" / "run.json").write_text("{")
    assert Figures(tmp_path).cell(VLLM.at("api.contract")).mean == 1
    (tmp_path / "20260101T000000Z-0000" / "run.json").unlink()
    assert Figures(tmp_path).cell(VLLM.at("api.contract")).mean == 2


def test_the_table(tmp_path: Path) -> None:
    """Every engine has its row, a mean is no more than its longest, and every figure says where it was seen."""
    table = configuration.read(DEFAULTS, Table)
    assert set(table.cpu) == set(table.gpu) == set(SERVING)
    for seen in (*table.cpu.values(), *table.gpu.values()):
        pairs = [pair for pair in (getattr(seen, name) for name in type(seen).model_fields) if isinstance(pair, tuple)]
        assert all(0 < mean <= longest for mean, longest in pairs)
        assert seen.source
    h200 = Place(PROFILES["h200"], "process", engine("vllm"), "0.26.0", TRILINGUAL)
    assert "H200" in Figures(tmp_path).boot(h200).source
    assert Figures(tmp_path).cell(h200.at("api.contract")).mean == table.cpu["vllm"].cell("api")[0]  # type: ignore[index]


def test_servers_of_others_are_not_started(tmp_path: Path) -> None:
    """An endpoint costs no boot, and its checks are taken as those of the slowest engine."""
    place = Place(PROFILES["cpu"], "endpoint", engine("openai"), "", TRILINGUAL)
    assert Figures(tmp_path).boot(place).longest == Figures(tmp_path).stop(place).longest == 0
    assert "the slowest engine" in Figures(tmp_path).cell(place.at("api.contract")).source


def test_every_engine_and_promise_is_known(tmp_path: Path) -> None:
    """Whatever the committed lineups put on a machine without GPU has figures."""
    figures = Figures(tmp_path)
    for place in plan.deployments(plan.Asked(lineups=("trilingual",)), dict.fromkeys(ENGINES, "1")):
        for promise in ("startup", "kernels", "api", "coexistence", "memory", "latency", "languages", "faults"):
            assert figures.cell(place.at(f"{promise}.x")).mean > 0


def test_spending_goes_on(tmp_path: Path) -> None:
    """Cells add up, boots stand apart, set-up counts nowhere; the second part of a run adds to the first."""
    place = VLLM.at("api.contract")
    first = Spending()
    first.add(place, [("setup", "vllm", 99.0), ("boot", "vllm", 12.0), ("generation", "vllm", 3.0), ("wait", "port", 1.0)])
    second = Spending(json.loads(json.dumps(first.rows())))
    second.add(place, [("generation", "vllm", 6.0)])
    (share,) = read(second.rows())
    assert (share.cells, share.seconds, share.longest) == (2, 10.0, 6.0)
    assert (share.boots, share.boot_seconds, share.boot_longest) == (1, 12.0, 12.0)
    assert read("nonsense") == read([{"engine": "vllm"}]) == []


def words(tmp_path: Path, minutes: float | None = None) -> str:
    """The estimate of four cells."""
    checks = {test.check.id: test.check for test in _tests()}
    cells = [(place, checks[name]) for name in ("kernels.static", "startup.ready", "coexistence.concurrent")
             for place in plan.cells(checks[name], [VLLM])]
    return "\n".join(estimate.lines(cells, Figures(tmp_path), minutes))


def _tests() -> list[Any]:
    from suites import test_coexistence, test_kernels, test_startup

    return [test_kernels.test_static, test_startup.test_ready, test_coexistence.test_concurrent]


def test_the_words(tmp_path: Path) -> None:
    """Deployments, starts, boots, minutes by kind, and every source; what a budget would make of it."""
    took: dict[str, object] = {"cells": 1, "seconds": 30, "boots": 1, "boot_seconds": 60, "boot_longest": 70}
    shares = [{"check": check, **took} for check in ("kernels.static", "startup.ready", "coexistence.concurrent")]
    run(tmp_path, "20260101T000000Z-0001", *shares)
    found = words(tmp_path, 4)
    for part in ("would run: 5 cells of 1 deployment; nothing is started now", "1 static cell among them",
                 "vllm 0.32.0 · cpu · process · trilingual: trilingual-2m, trilingual-4m, trilingual-8m",
                 "kernels 1, startup 3, coexistence 1", "6 starts of models in 4 boots",
                 "checks 2.5, boots 4.0", "a boot of 60.0 s, 70.0 at the longest", "from run 20260101T000000Z-0001",
                 "budget: 4 minutes a run: about 2 runs, all but the first with --continue"):
        assert part in found, found
    assert "budget: 60 minutes a run: enough" in words(tmp_path, 60)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Ended]]:
    folder = tmp_path_factory.mktemp("estimate")
    gpu = runs.lineup(folder / "gpu.toml", engines=["vllm"], profiles=["rtx5090"])
    results = f"--results={folder / 'results'}"
    lines = [["-m", "cpu"], ["-m", "rtx5090", f"--lineup={gpu}"], ["-m", "cpu", "-k", "nothing-of-that-name"]]
    return folder, several([[*line, "--estimate", results] for line in lines], folder,
                           {"COTENANT_HOME": str(folder / "home")})


def test_it_starts_nothing(asked: tuple[Path, list[Ended]]) -> None:
    """Exit code 0 and the total; no record, nothing set up. Of a card that is not here it can be told as well."""
    folder, (cpu, card, nothing) = asked
    assert (cpu.code, card.code, nothing.code) == (0, 0, 5), cpu.output + card.output
    assert "total: about " in cpu.output
    assert "GPU minutes" not in cpu.output
    assert "GPU minutes" in card.output
    assert not (folder / "results").exists()
    assert not (folder / "home").exists()
