"""Documented claims in runs: judged where they are asked for, from records as from servers, and told on their page."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from fixtures import plan, setup
from fixtures.findings import cells, decision, document, hub, keeper, on_gpu, own, recorded
from fixtures.findings import claim as claims
from fixtures.findings.cells import Cells
from fixtures.findings.decision import OUTCOMES
from fixtures.findings.own import Wish
from fixtures.launchers.handle import Command
from fixtures.place import Place
from fixtures.plan import Asked
from fixtures.verdict import Unavailable
from reports.record import Matrix
from reports.store import StoreError
from tests.cells import cell

CHECKOUT = Path(__file__).resolve().parent.parent
CLAIMS = claims.committed()
RUNS = cells.RECORDS / "h200" / "2026-11-21" / "runs"


# --- in a run --------------------------------------------------------------------------------------------------------------


def _collected(*arguments: str) -> list[str]:
    """The ids that a run with these arguments would judge."""
    words = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(words, cwd=CHECKOUT, capture_output=True, text=True, timeout=120, check=False,
                          env={name: text for name, text in os.environ.items() if not name.startswith("PYTEST")})
    return [line for line in done.stdout.splitlines() if "::" in line]


def test_a_run_of_a_profile_judges_no_claim() -> None:
    """Nobody's release waits for them unless he asks."""
    found = _collected("-m", "cpu", "suites")
    assert found
    assert not [line for line in found if "finding" in line]


def test_claims_are_judged_where_they_are_asked_for() -> None:
    """By -m; every claim has a cell on a CPU or one that starts nothing."""
    found = _collected("-m", "findings and (cpu or static)", "suites")
    names = {line.rpartition("finding.")[2].rstrip("]").partition("/")[0] for line in found}
    assert names == set(CLAIMS)


# --- the page --------------------------------------------------------------------------------------------------------------


def test_the_page_is_what_the_records_make() -> None:
    """docs/findings.md is written by nobody, and says of every claim what it came to or waits for."""
    page = document.page(CLAIMS, recorded.matrices())
    assert document.FILE.read_text(encoding="utf-8") == page
    for name in CLAIMS:
        assert f"### {name}\n" in page
        assert f"| [`{name}`]" in page


def test_the_page_follows_the_cells() -> None:
    """Another outcome in a cell is another in the table and beside the evidence; without a cell a claim waits."""
    claim = {"log-requests": CLAIMS["log-requests"]}
    for outcome in OUTCOMES:
        one = cell("finding.log-requests", reason=f"{outcome}: because", model=None,
                   figures={"outcome": {"value": outcome, "unit": "", "limit": None}})
        page = document.page(claim, [("day/run", Matrix(run={"arguments": ["-m", "findings"]}, cells=(one,)))])
        assert f"| {outcome} |" in page
        assert f"**{outcome.capitalize()}** (" in page
        assert "because." in page
    assert "| not measurable here |" in document.page(claim, [])


def test_a_run_is_kept_without_the_machine_it_was_made_on(tmp_path: Path) -> None:
    """Its findings alone, with their figures; paths are shortened; a run without any is refused, as is what is no run."""
    run = tmp_path / "run"
    (run / "logs" / "cells").mkdir(parents=True)
    (run / "logs" / "cells" / "a.json").write_text(f'{{"command": "{run}/logs/x"}}', encoding="utf-8")
    judged = cell("finding.trouble-kv", model=None, reason=f"see {CHECKOUT}/suites",
                  evidence=("logs/cells/a.json", "logs/b.log"))
    (run / "run.json").write_text('{"id": "a", "started": "2026-01-02T03:04:05+00:00"}', encoding="utf-8")
    (run / "cells.jsonl").write_text("".join(f"{one.model_dump_json()}\n" for one in (judged, cell())), encoding="utf-8")
    kept = keeper.keep(run, "cpu", tmp_path / "records")
    assert kept == tmp_path / "records" / "2026-01-02" / "cpu"
    ((name, matrix),) = recorded.matrices(tmp_path / "records")
    assert (name, [one.check for one in matrix.cells]) == ("2026-01-02/cpu", ["finding.trouble-kv"])
    assert matrix.cells[0].reason == "see checkout/suites"
    assert (kept / "logs" / "cells" / "a.json").read_text(encoding="utf-8") == '{"command": "run/logs/x"}'
    (run / "cells.jsonl").write_text(f"{cell().model_dump_json()}\n", encoding="utf-8")
    with pytest.raises(StoreError, match="no finding"):
        keeper.keep(run, "cpu", tmp_path / "records")


# --- from records ------------------------------------------------------------------------------------------------------


def _place(engine: str, profile: str = "h200") -> Place:
    """The place of a claim about GPUs."""
    asked = Asked(engines=((engine, ""),), lineups=("shapes",))
    return next(place for place in plan.deployments(asked, setup.default_versions({})) if place.profile.name == profile)


def _outcome(name: str, engine: str, kept: Path) -> str:
    """What a claim comes to by the records of a folder."""
    claim = CLAIMS[name]
    way = next(way for way in claim.way if way.procedure in on_gpu.READERS and engine in way.engines)
    _, measured = cells.told(_place(engine), way.evidence, on_gpu.READERS[way.procedure], kept=kept)
    return decision.decide(claim, way, measured).outcome


def _altered(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Records in which every cell was changed."""
    shutil.copytree(RUNS, folder / "h200" / "2026-01-01" / "runs")
    for file in folder.glob("h200/*/runs/*/cells.jsonl"):
        documents = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        for document_ in documents:
            change(document_)
        file.write_text("".join(json.dumps(document_) + "\n" for document_ in documents), encoding="utf-8")
    return folder


def _figure(check: str, name: str, change: Callable[[Any], Any]) -> Callable[[dict[str, Any]], object]:
    """A change of one figure of every cell of a check."""
    def act(document_: dict[str, Any]) -> None:
        if document_["check"] == check and name in document_["figures"]:
            document_["figures"][name]["value"] = change(document_["figures"][name]["value"])
    return act


def _verdict(check: str, verdict: str) -> Callable[[dict[str, Any]], object]:
    """Another verdict of every cell of a check."""
    return lambda document_: document_.update(verdict=verdict) if document_["check"] == check else None


@pytest.mark.parametrize(("name", "engine", "change"), [
    ("mem-formula", "vllm", _figure("memory.plan", "held_gib", lambda held: held * 1.11)),
    ("mem-single-0.9", "vllm", _figure("memory.plan", "held_gib", lambda held: held / 2)),
    ("mem-reserve", "vllm", _figure("memory.plan", "held_gib", lambda held: held - 1)),
    ("mem-ollama-8.5", "ollama", _figure("memory.plan", "held_gib", lambda held: held * 2)),
    ("preset-balanced", "vllm", _figure("memory.plan", "planned_gib", lambda planned: planned + 3)),
    ("coexist-vllm-3", "vllm", _verdict("startup.ready", "fail")),
    ("coexist-sglang-1", "sglang", _verdict("startup.ready", "fail")),
    ("start-order", "vllm", _figure("coexistence.concurrent", "good_tries", lambda tries: 3)),
    ("latency-consistency", "sglang", _figure("latency.e2e", "normalised_p95_ms", lambda p95: 7.0)),
    ("prefix-cache", "vllm", _figure("kernels.live", "prefix_again_ttft_ms", lambda ttft: 70.0)),
    ("qwen-remote-code", "vllm", _verdict("startup.ready", "fail")),
])
def test_another_record_comes_to_another_outcome(tmp_path: Path, name: str, engine: str,
                                                 change: Callable[[dict[str, Any]], object]) -> None:
    """One measured figure of a committed run changed, the claim comes to something else."""
    assert _outcome(name, engine, cells.RECORDS) in OUTCOMES
    assert _outcome(name, engine, _altered(tmp_path, change)) != _outcome(name, engine, cells.RECORDS)


def test_what_no_record_tells_waits(tmp_path: Path) -> None:
    """Without a run of the card, or one that judged it, nothing is said."""
    with pytest.raises(Unavailable, match="is recorded here"):
        cells.told(_place("vllm"), "shapes", on_gpu.memory, kept=tmp_path)
    with pytest.raises(Unavailable, match="is recorded here"):
        cells.told(_place("vllm", "rtx5090"), "shapes", on_gpu.memory)
    records = _altered(tmp_path, _verdict("memory.plan", "error"))
    with pytest.raises(Unavailable, match=r"has no memory\.plan"):
        cells.told(_place("vllm"), "shapes", on_gpu.memory, kept=records)


def test_a_run_of_this_machine_comes_before_kept_records(tmp_path: Path) -> None:
    """The newest that tells it; one that does not is passed over."""
    shutil.copytree(RUNS / "vllm-shapes", tmp_path / "20260101T000000Z-aaaa")
    shutil.copytree(RUNS / "vllm-concurrent", tmp_path / "20260102T000000Z-bbbb")
    found: Cells
    found, _ = cells.told(_place("vllm"), "shapes", on_gpu.memory, own=tmp_path)
    assert found.source == "run 20260101T000000Z-aaaa"


# --- servers of a claim's own --------------------------------------------------------------------------------------------


def test_flags_are_taken_off_with_their_values() -> None:
    """Those of the suite that would hide what a claim is about; the claim's own come last, where later words win."""
    command = Command(("server", "--total", "64", "--share", "0.4", "--eager", "--port", "{port}"), {"A": "1", "B": "2"})
    wish = Wish(("--share", "0.1"), ("--total", "--eager"), {"A": None, "C": "3"})
    altered = own.altered(command, wish)
    assert altered.argv == ("server", "--share", "0.4", "--port", "{port}")
    assert altered.env == {"B": "2", "C": "3"}


@pytest.mark.parametrize("status", [401, 403])
def test_the_stand_in_refuses_as_the_hub_does(status: int) -> None:
    """Status, the hub's own header and words; what it was asked for is known."""
    with hub.gated(status) as (url, asked):
        reply = httpx.head(f"{url}/acme/gated-model/resolve/main/config.json", trust_env=False)
        assert (reply.status_code, reply.headers["x-error-code"]) == (status, "GatedRepo")
        assert "restricted" in httpx.get(f"{url}/api/models/acme/gated-model", trust_env=False).text
    assert asked == ["/acme/gated-model/resolve/main/config.json", "/api/models/acme/gated-model"]
