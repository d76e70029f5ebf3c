"""The monitoring files follow from a lineup, and every metric that they name is one that an engine really exposes."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from fixtures import lineup
from fixtures.configuration import ConfigurationError
from fixtures.monitoring import Watched, __main__, compose_services, dashboard, dcgm, files, query, scrape
from fixtures.monitoring.metrics import EXPOSED
from tests import promql
from tests.monitoring import WATCHED, expressions, program, promtool, rules, watched
from tests.scraping import names, recorded

COMPOSE = Path(__file__).resolve().parent.parent / "compose"
COMMITTED = ("study-balanced", "vllm", "rtx5090")
TARGET_LABELS = {"engine", "model", "job"}
GPU_LABELS = {"gpu", "clock_event"}  # dcgm-exporter's, by its documentation


def ids(case: tuple[str, str, str]) -> str:
    """A lineup under an engine on a profile."""
    return "-".join(case)


every = pytest.mark.parametrize("case", WATCHED, ids=ids)


def test_committed_files_are_those_of_their_lineup() -> None:
    """compose/monitoring is what is made from study-balanced now, and holds nothing else."""
    folder = COMPOSE / "monitoring"
    made = files.texts(watched(*COMMITTED))
    there = {str(file.relative_to(folder)): file.read_text(encoding="utf-8") for file in folder.rglob("*") if file.is_file()}
    assert there == made, "make them anew: python -m fixtures.monitoring study-balanced --engine vllm --profile rtx5090"


@every
def test_prometheus_accepts_the_files(case: tuple[str, str, str], tmp_path: Path) -> None:
    """promtool finds configuration and rules sound, and counts the rules that were made."""
    files.write(watched(*case), tmp_path)
    said = promtool("check", "config", tmp_path / "prometheus.yaml")
    assert f"SUCCESS: {len(rules(watched(*case)))} rules found" in said


def test_one_target_for_each_server_that_exposes_metrics() -> None:
    """Three engines side by side: Ollama is not scraped, and named as silent; the exporter is there for a GPU only."""
    mixed = watched("mixed", "mixed", "h200")
    jobs = {job["job_name"]: job["static_configs"] for job in scrape.of(mixed)["scrape_configs"]}
    assert [(target["targets"], target["labels"]["engine"]) for target in jobs[scrape.JOB]] == [
        (["qwen2.5-3b:8000"], "vllm"), (["yi-6b:8000"], "sglang")]
    assert jobs[scrape.GPU_JOB] == [{"targets": ["dcgm-exporter:9400"]}]
    assert [server.name for server in mixed.silent] == ["ollama"]
    on_cpu = scrape.of(watched("trilingual", "vllm", "cpu"))["scrape_configs"]
    assert [job["job_name"] for job in on_cpu] == [scrape.JOB]


def test_an_engine_without_metrics_is_not_watched() -> None:
    """A lineup of Ollama alone makes no target and no rule that could never fire."""
    ollama = watched("trilingual", "ollama", "cpu")
    assert scrape.of(ollama)["scrape_configs"] == []
    assert rules(ollama) == []


@pytest.mark.parametrize("engine", EXPOSED)
def test_every_metric_of_an_engine_is_in_its_scrape(engine: str) -> None:
    """Under its newest name, with the bounds that it really has; older names stand only beside a newer one."""
    text = recorded(engine)
    there = names(text)
    for metric in EXPOSED[engine].all():
        suffixes = ("_bucket", "_count") if metric.bounds else ("",)
        assert {metric.name + suffix for suffix in suffixes} <= there
        assert not {older + suffix for older in metric.older for suffix in suffixes} & there
        if metric.bounds:
            found = re.findall(rf'^{re.escape(metric.name)}_bucket{{.*?le="([^"]+)".*}}', text, re.MULTILINE)
            assert [bound for bound in dict.fromkeys(found) if bound != "+Inf"] == [str(bound) for bound in metric.bounds]


@every
def test_every_name_in_every_expression_exists(case: tuple[str, str, str]) -> None:
    """Dashboard and rules: each name is in a real scrape of the engine asked, an older name of one that is, or one of the
    exporter's documented fields."""
    shown = watched(*case)
    older = {name + suffix for exposed in EXPOSED.values() for metric in exposed.all() for name in metric.older
             for suffix in ("", "_bucket", "_count")}
    for expression in expressions(shown):
        for name, labels in promql.selected(expression):
            engine = dict(labels).get("engine", "")
            known = name == "up" or name in dcgm.COUNTERS or name in older
            assert known or (engine and name in names(recorded(engine))), expression


@every
def test_every_label_in_every_expression_exists(case: tuple[str, str, str]) -> None:
    """A selector by a label that no series has would answer nothing for ever."""
    models = {model.name for model in watched(*case).lineup.models}
    for expression in expressions(watched(*case)):
        for name, labels in promql.selected(expression):
            own = {label: value for label, value in labels if label not in TARGET_LABELS}
            assert set(own) <= (GPU_LABELS if name in dcgm.COUNTERS else {"le"}), expression
            assert dict(labels).get("model", next(iter(models))) in models


def test_the_reader_of_promql_misses_no_selector() -> None:
    """Names in every kind of node that PromQL has."""
    expression = ("histogram_quantile(scalar(a), sum by (le) (rate(b{x='1'}[5m] offset 1m))) > 0.1 unless on (m) "
                  "(-c + (d or sum_over_time(max(e)[5m:1m]))) and topk(scalar(f), g @ 1) > bool 0")
    assert promql.names(expression) == set("abcdefg")


def test_limits_in_the_rules_are_the_lineups() -> None:
    """TTFT, ITL and e2e of each model, each in milliseconds as the lineup states it; no limit, no rule."""
    mixed = watched("mixed", "mixed", "h200")
    stated = {(server.models[0].name, key): value for server in mixed.scraped
              for key, value in mixed.limits(server.models[0]).items() if key.endswith("_p95_ms")}
    assert len(stated) == 6
    told = {(rule["labels"].get("model"), rule["alert"]): rule["annotations"]["description"] for rule in rules(mixed)}
    for (model, key), limit_ms in stated.items():
        assert f"the limit of the p95 is {limit_ms:g} ms" in told[model, f"{key.split('_')[0].upper()}p95Above"]
    without = watched("study-balanced", "vllm", "rtx5090")
    assert not [rule for rule in rules(without) if "p95" in rule["alert"]]


def test_a_limit_beyond_the_last_bound_makes_no_rule() -> None:
    """A rule that can never fire is none."""
    metric = EXPOSED["sglang"].latency["itl"]
    assert metric.bound(0.09) == 0.1
    assert metric.bound(0.1) == 0.1
    assert metric.bound(9.0) is None


@every
def test_dashboard_is_one_that_grafana_takes(case: tuple[str, str, str]) -> None:
    """A row for each server, panels with numbers of their own that lie beside each other, data by the variable alone."""
    shown = watched(*case)
    made = json.loads(json.dumps(dashboard.of(shown)))
    panels = made["panels"]
    numbers = [panel["id"] for panel in panels]
    assert len(numbers) == len(set(numbers))
    assert [row["title"] for row in panels if row["type"] == "row"] == list(dashboard.rows(shown))
    taken = [(x, y) for panel in panels for box in [panel["gridPos"]] for x in range(box["x"], box["x"] + box["w"])
             for y in range(box["y"], box["y"] + box["h"])]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24
    variables = {variable["name"] for variable in made["templating"]["list"]}
    sources = {panel["datasource"]["uid"] for panel in panels if panel["type"] != "row"}
    assert sources == {"${datasource}"}
    assert variables == {"datasource"}


def test_every_server_has_the_panels_of_what_its_engine_has() -> None:
    """vLLM and SGLang: latencies, tokens, requests, KV cache; llama.cpp means in the place of percentiles."""
    rows = dashboard.rows(watched("mixed", "mixed", "h200"))
    titles = {title: {panel.title for panel in panels} for title, panels in rows.items()}
    common = {"Time to first token", "Time between tokens", "Whole answer", "Tokens per second", "Requests",
              "KV cache in use"}
    assert common <= titles["qwen2.5-3b (vllm)"]
    assert common <= titles["yi-6b (sglang)"]
    assert titles["tinyllama (ollama: no metrics)"] == set()
    assert {"Memory of GPU 0", "Power", "Temperature"} <= titles["GPUs (dcgm-exporter)"]
    llama = {panel.title for panel in dashboard.rows(watched("trilingual", "llamacpp", "cpu"))["trilingual-2m (llamacpp)"]}
    assert llama == {"Mean time per token, prompt", "Mean time per token, generation", "Tokens per second", "Requests"}


def test_services_are_confined_and_pinned() -> None:
    """No tag that moves, loopback only, nothing written but volumes and memory, no capability."""
    made = compose_services(watched(*COMMITTED), "/somewhere")
    assert set(made["services"]) == {"prometheus", "grafana", "dcgm-exporter"}
    for service in made["services"].values():
        assert re.search(r":v?\d+\.\d+", service["image"])
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        written = [volume for volume in service["volumes"] if not volume.endswith(":ro")]
        assert written in ([], ["prometheus-data:/prometheus"])
    assert "dcgm-exporter" not in compose_services(watched("trilingual", "vllm", "cpu"))["services"]


def test_services_mount_files_that_are_there(tmp_path: Path) -> None:
    """Docker makes an empty folder of a file that is missing, and the service fails on it."""
    files.write(watched(*COMMITTED), tmp_path)
    for service in compose_services(watched(*COMMITTED), tmp_path)["services"].values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source == "prometheus-data" or Path(source).is_file()


@pytest.mark.parametrize("preset", sorted(path.name for path in COMPOSE.glob("*.yaml")))
def test_compose_takes_it_beside_a_preset(preset: str) -> None:
    """`docker compose -f … -f compose/monitoring/compose.yaml config` resolves, and every mounted file is there."""
    given = [word for file in (COMPOSE / preset, COMPOSE / "monitoring" / "compose.yaml") for word in ("-f", str(file))]
    done = subprocess.run([program("docker", "docker.io and its Compose plugin"), "compose", *given, "config"],
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    assert {"prometheus", "grafana", "dcgm-exporter"} <= set(services)
    bound = [volume["source"] for name in ("prometheus", "grafana", "dcgm-exporter")
             for volume in services[name]["volumes"] if volume["type"] == "bind"]
    assert bound
    assert all(Path(source).is_file() for source in bound)


def test_targets_of_the_committed_files_are_services_of_the_preset() -> None:
    """What Prometheus is to reach is what the preset of the same lineup starts."""
    started = yaml.safe_load((COMPOSE / "vllm-balanced.yaml").read_text(encoding="utf-8"))["services"]
    targets = yaml.safe_load((COMPOSE / "monitoring" / "prometheus.yaml").read_text(encoding="utf-8"))["scrape_configs"]
    addresses = [target for config in targets[0]["static_configs"] for target in config["targets"]]
    assert sorted(address.partition(":")[0] for address in addresses) == sorted(started)


@pytest.mark.parametrize(("engine", "profile", "said"), [
    ("vlm", "rtx5090", "did you mean 'vllm'?"), ("vllm", "h20", "did you mean 'h200'?")])
def test_what_a_lineup_is_not_for_is_refused(engine: str, profile: str, said: str) -> None:
    """With the nearest name that it is for."""
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        Watched.of(lineup.load("study-balanced"), engine, profile)


def test_the_command_names_what_it_wrote_and_what_is_not_watched(tmp_path: Path,
                                                                 capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 0 with a list, exit 4 with a sentence."""
    assert __main__.main(["mixed", "--engine", "mixed", "--profile", "h200", "--to", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert str(tmp_path / "alerts.yaml") in said.out
    assert "ollama exposes no metrics" in said.err
    assert __main__.main(["mixd", "--engine", "mixed", "--profile", "h200", "--to", str(tmp_path)]) == 4
    assert "did you mean 'mixed'?" in capsys.readouterr().err


def test_older_names_are_asked_for_only_where_the_newer_is_missing() -> None:
    """`or`, not a sum: vLLM 0.10.2 to 0.11 exposes both names of one figure."""
    server = watched("study-balanced", "vllm", "rtx5090").servers[0]
    asked = query.series(EXPOSED["vllm"].latency["itl"], server, suffix="_bucket", window="1m")
    newer, older = asked.split(" or ")
    assert promql.names(newer) == {"vllm:inter_token_latency_seconds_bucket"}
    assert promql.names(older) == {"vllm:time_per_output_token_seconds_bucket"}
