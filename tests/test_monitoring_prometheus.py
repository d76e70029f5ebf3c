"""A real Prometheus with the generated files, before servers that repeat what real engines answered."""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from fixtures.launchers.handle import Command
from fixtures.launchers.process import launch
from fixtures.monitoring import alerts, dashboard, dcgm, scrape
from fixtures.monitoring.watched import Watched
from tests.monitoring import (
    RATE_INTERVAL,
    Replay,
    idle_gpu,
    program,
    replaying,
    rules,
    watched,
    with_observations,
    with_value,
)
from tests.scraping import recorded

PATIENCE_S = 15.0
TTFT = "vllm:time_to_first_token_seconds"
CASES = (("mixed", "mixed", "h200"), ("trilingual", "llamacpp", "cpu"))


@dataclass
class Running:
    """Prometheus at `url` and the servers that it scrapes, by name."""

    url: str
    shown: Watched
    servers: dict[str, Replay]

    def get(self, path: str, **parameters: str) -> Any:
        """The data of one answer of its API, which must be a success."""
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=10)
        assert answer.json()["status"] == "success", answer.text
        return answer.json()["data"]

    def firing(self) -> dict[str, dict[str, Any]]:
        """The alerts that fire, by name."""
        found = self.get("alerts")["alerts"]
        return {alert["labels"]["alertname"]: alert for alert in found if alert["state"] == "firing"}

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for something to come true. Fails the test if it does not."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"not within {PATIENCE_S:g} s: {what}"
            time.sleep(0.2)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[str, str, str], Running]]:
    """One for each case, every target scraped: Prometheus takes five seconds to look at its first one."""
    with ExitStack() as stack:
        found = {case: _start(case, tmp_path_factory.mktemp("prometheus"), stack) for case in CASES}
        for running in found.values():
            running.until(lambda running=running: _ready(running), "Prometheus scrapes")  # type: ignore[misc]
        yield found


@pytest.fixture(params=CASES, ids="-".join)
def running(request: pytest.FixtureRequest, started: dict[tuple[str, str, str], Running]) -> Running:
    """Each of them."""
    return started[request.param]


@pytest.fixture
def mixed(started: dict[tuple[str, str, str], Running]) -> Running:
    """vLLM, SGLang and a GPU."""
    return started[CASES[0]]


def _start(case: tuple[str, str, str], root: Path, stack: ExitStack) -> Running:
    path = program("prometheus", "prometheus")
    servers = {server.name: stack.enter_context(replaying(recorded(server.engine))) for server in watched(*case).scraped}
    exporter = stack.enter_context(replaying(idle_gpu()))
    shown = watched(*case, addresses={name: server.address for name, server in servers.items()}, exporter=exporter.address)
    _write(shown, root)
    command = Command((path, f"--config.file={root}/prometheus.yaml", "--storage.tsdb.path={scratch}/data",
                       "--web.listen-address=127.0.0.1:{port}"))
    handle = stack.enter_context(launch(command, name="prometheus", log=root / "log", scratch_root=root, run_id="tests"))
    return Running(handle.url, shown, {**servers, **({"gpu": exporter} if shown.gpus else {})})


def _write(shown: Watched, root: Path) -> None:
    """The files as they are generated, but for their pace: every second, and an alert fires without waiting."""
    made = copy.deepcopy(alerts.of(shown))
    for rule in (rule for group in made["groups"] for rule in group["rules"]):
        rule["for"] = "0s"
    (root / "alerts.yaml").write_text(yaml.safe_dump(made), encoding="utf-8")
    (root / "prometheus.yaml").write_text(yaml.safe_dump(scrape.of(shown, interval_s=1)), encoding="utf-8")


def _ready(running: Running) -> bool:
    try:
        if httpx.get(f"{running.url}/-/ready").status_code != 200:
            return False
    except httpx.TransportError:
        return False
    up = running.get("query", query="sum_over_time(up[1m])")["result"]
    return len(up) == len(running.servers) and all(float(target["value"][1]) >= 2 for target in up)


def test_it_scrapes_every_target_and_loads_every_rule(running: Running) -> None:
    """As many targets as servers, all up, with the labels of the lineup; every rule evaluated without an error."""
    targets = running.get("targets")["activeTargets"]
    assert {target["health"] for target in targets} == {"up"}
    models = {target["labels"].get("model") for target in targets if target["labels"]["job"] == scrape.JOB}
    assert models == {server.models[0].name for server in running.shown.scraped}
    expected = len(rules(running.shown))
    running.until(lambda: len([rule for group in running.get("rules")["groups"] for rule in group["rules"]
                               if rule["health"] == "ok"]) == expected, "all rules are healthy")


def test_every_query_of_the_dashboard_has_an_answer(running: Running) -> None:
    """No error and no empty graph, from what the engines really say."""
    asked = [target["expr"] for panel in dashboard.of(running.shown)["panels"] for target in panel.get("targets", ())]
    assert asked
    empty = [expr for expr in asked
             if not running.get("query", query=expr.replace(RATE_INTERVAL, "1m"))["result"]]
    assert not empty


def test_nothing_fires_while_all_is_well(running: Running) -> None:
    """Also not after requests that were fast enough."""
    for server in running.shown.scraped:
        if "ttft" in server.exposed.latency:  # type: ignore[union-attr]
            replay, name = running.servers[server.name], server.exposed.latency["ttft"].name  # type: ignore[union-attr]
            replay.text = with_observations(replay.text, name, 200, 0.05)
    before = _evaluated(running)
    running.until(lambda: _evaluated(running) >= before + 3, "rules are evaluated three times more")
    assert running.firing() == {}


def _evaluated(running: Running) -> float:
    result = running.get("query", query="count_over_time(up[1h])")["result"]
    return min(float(target["value"][1]) for target in result)


def test_alerts_fire_when_a_limit_is_crossed_and_end_with_it(mixed: Running) -> None:
    """KV cache, queue, TTFT, memory of the GPU, Xid: each with a description that holds its figure and no template."""
    vllm, gpu = mixed.servers["qwen2.5-3b"], mixed.servers["gpu"]
    slow = with_observations(vllm.text, TTFT, 100, 3.0)
    vllm.text = with_value(with_value(slow, "vllm:kv_cache_usage_perc", 0.99), "vllm:num_requests_waiting", 7)
    gpu.text = with_value(idle_gpu(used_mib=142_900, free_mib=100), dcgm.XIDS, 2)
    wanted = {"KVCacheFull", "RequestsWaiting", "TTFTp95Above", "GPUMemoryAbovePlan", "GPUMemoryFull", "GPUXid"}
    mixed.until(lambda: set(mixed.firing()) == wanted, f"{sorted(wanted)} fire and nothing else does")
    told = {name: alert["annotations"]["description"] for name, alert in mixed.firing().items()}
    assert all(re.search(r"\d", words) and "{{" not in words and "expanding" not in words for words in told.values()), told
    assert told["RequestsWaiting"].startswith("7 requests wait for qwen2.5-3b;")
    vllm.text, gpu.text = with_observations(slow, TTFT, 5000, 0.05), idle_gpu()
    mixed.until(lambda: not mixed.firing(), "they end")


# SGLang without --enable-metrics answers that there is no such page: it must not look as if all were well.
@pytest.mark.parametrize("status", [0, 404], ids=["gone", "without its metrics flag"])
def test_a_server_that_gives_no_metrics_is_named(mixed: Running, status: int) -> None:
    """That model and no other, until it gives some again."""
    mixed.servers["yi-6b"].status = status
    mixed.until(mixed.firing, "an alert fires")
    assert {name: alert["labels"]["model"] for name, alert in mixed.firing().items()} == {"ServerDown": "yi-6b"}
    mixed.servers["yi-6b"].status = 200
    mixed.until(lambda: not mixed.firing(), "it ends")
