"""Each alert fires on what it is for, and is quiet on the nearest thing that is healthy: judged by promtool."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from fixtures.monitoring import alerts, dcgm
from tests.monitoring import WATCHED, promtool, rules, watched

MIXED, SHAPES, STUDY = ("mixed", "mixed", "h200"), ("shapes", "sglang", "rtx5090"), ("study-balanced", "vllm", "rtx5090")
VLLM = {"engine": "vllm", "model": "qwen2.5-3b"}
SGLANG = {"engine": "sglang", "model": "yi-6b"}
MINUTES = 20


@dataclass(frozen=True)
class Case:
    """Series by selector in promtool's notation, one value a minute; `says` is the description of the one alert that then
    fires after 20 minutes, empty where none may. `own` are the labels of the series that it is about."""

    alert: str
    what: str
    series: Mapping[str, str]
    says: str = ""
    own: Mapping[str, str] | None = None
    case: tuple[str, str, str] = MIXED

    def __str__(self) -> str:
        return f"{self.alert}-{'fires' if self.says else 'quiet'}-{self.what}".replace(" ", "-")


def of(name: str, labels: Mapping[str, str], **more: str) -> str:
    """A series of one server; vLLM's own label `engine` comes as exported_engine."""
    inside = ",".join(f'{key}="{value}"' for key, value in {**labels, **more}.items())
    return f"{name}{{{inside}}}"


def steady(value: float) -> str:
    """A gauge that stays."""
    return f"{value:g}x{MINUTES}"


def rising(by: float) -> str:
    """A counter that rises by so much a minute."""
    return f"0+{by:g}x{MINUTES}"


def latency(name: str, labels: Mapping[str, str], bound: str, each: float, slow: float) -> dict[str, str]:
    """A histogram: `each` observations a minute, of which `slow` above the bound."""
    return {of(f"{name}_bucket", labels, le=bound): rising(each - slow),
            of(f"{name}_bucket", labels, le="+Inf"): rising(each), of(f"{name}_count", labels): rising(each)}


def gpu(used: float, free: float) -> dict[str, str]:
    """What GPU 0 holds, in MiB."""
    return {f'{dcgm.USED}{{gpu="0"}}': steady(used), f'{dcgm.FREE}{{gpu="0"}}': steady(free)}


TTFT, OLD_ITL = "vllm:time_to_first_token_seconds", "vllm:time_per_output_token_seconds"
ITL, S_ITL, S_E2E = ("vllm:inter_token_latency_seconds", "sglang:inter_token_latency_seconds",
                     "sglang:e2e_request_latency_seconds")
UP = {"job": "cotenant", **VLLM, "instance": "qwen2.5-3b:8000"}
EXPORTER = {"job": "dcgm", "instance": "dcgm-exporter:9400"}
STUDY_MODEL = {"engine": "vllm", "model": "tinyllama"}
FULL = "are in use, more than 95% for five minutes: requests wait or are put back."
# 77 % of an H200's 143771 MiB and three times 2.5 GiB.
PLANNED = 118384
CASES = [
    Case("ServerDown", "gone for two minutes", {of("up", UP): f"1x{MINUTES - 2} 0x5"},
         "vllm at qwen2.5-3b:8000, which serves qwen2.5-3b, gave no metrics for a minute.", UP),
    Case("ServerDown", "one scrape missed", {of("up", UP): f"1x{MINUTES - 2} 0 1x5"}),
    Case("GPUExporterDown", "gone", {of("up", EXPORTER): steady(0)},
         "dcgm-exporter:9400 gave no metrics for a minute: no GPU is watched.", EXPORTER),
    Case("GPUExporterDown", "there", {of("up", EXPORTER): steady(1)}),
    Case("KVCacheFull", "one of two engines", {of("vllm:kv_cache_usage_perc", VLLM, exported_engine="0"): steady(0.2),
                                               of("vllm:kv_cache_usage_perc", VLLM, exported_engine="1"): steady(0.98)},
         f"98% of the KV cache of qwen2.5-3b {FULL}", VLLM),
    Case("KVCacheFull", "by its older name", {of("vllm:gpu_cache_usage_perc", VLLM): steady(0.99)},
         f"99% of the KV cache of qwen2.5-3b {FULL}", VLLM),
    Case("KVCacheFull", "SGLang", {of("sglang:token_usage", SGLANG): steady(1)},
         f"100% of the KV cache of yi-6b {FULL}", SGLANG),
    Case("KVCacheFull", "at the limit", {of("vllm:kv_cache_usage_perc", VLLM): steady(0.95)}),
    Case("KVCacheFull", "full for four minutes", {of("vllm:kv_cache_usage_perc", VLLM): f"0.5x{MINUTES - 4} 1x5"}),
    Case("RequestsWaiting", "two engines", {of("vllm:num_requests_waiting", VLLM, exported_engine="0"): steady(2),
                                            of("vllm:num_requests_waiting", VLLM, exported_engine="1"): steady(3)},
         "5 requests wait for qwen2.5-3b; its queue was not empty for five minutes.", VLLM),
    Case("RequestsWaiting", "SGLang", {of("sglang:num_queue_reqs", SGLANG): steady(1)},
         "1 requests wait for yi-6b; its queue was not empty for five minutes.", SGLANG),
    Case("RequestsWaiting", "bursts", {of("vllm:num_requests_waiting", VLLM): "9 9 9 0 " * 5 + "9"}),
    Case("ServerStalled", "no token", {of("vllm:num_requests_running", VLLM): steady(2),
                                       of("vllm:generation_tokens_total", VLLM): f"0+100x5 500x{MINUTES}"},
         "2 requests run on qwen2.5-3b, and it made no token for five minutes.", VLLM),
    Case("ServerStalled", "its very first request", {of("sglang:num_running_reqs", SGLANG): steady(1)},
         "1 requests run on yi-6b, and it made no token for five minutes.", SGLANG),
    Case("ServerStalled", "slow", {of("vllm:num_requests_running", VLLM): steady(2),
                                   of("vllm:generation_tokens_total", VLLM): rising(1)}),
    Case("ServerStalled", "idle", {of("vllm:num_requests_running", VLLM): steady(0),
                                   of("vllm:generation_tokens_total", VLLM): steady(500)}),
    Case("KVCacheSmall", "one token short", {of("sglang:max_total_num_tokens", SGLANG): steady(8191)},
         "The KV cache of yi-6b holds 8191 tokens, the lineup needs 8192.", SGLANG),
    Case("KVCacheSmall", "as planned", {of("sglang:max_total_num_tokens", SGLANG): steady(8192)}),
    Case("TTFTp95Above", "51 of 1000", latency(TTFT, VLLM, "1.0", 1000, 51),
         "5.1% of the first tokens of qwen2.5-3b took longer than 1 s in the last 15m; the limit of the p95 is 1000 ms.",
         VLLM),
    Case("TTFTp95Above", "49 of 1000", latency(TTFT, VLLM, "1.0", 1000, 49)),
    Case("TTFTp95Above", "too few to say", latency(TTFT, VLLM, "1.0", 3, 3)),
    Case("TTFTp95Above", "no request", latency(TTFT, VLLM, "1.0", 0, 0)),
    Case("TTFTp95Above", "another model is slow", latency(TTFT, {**VLLM, "model": "other"}, "1.0", 100, 50)),
    Case("ITLp95Above", "all slow", latency(ITL, VLLM, "0.075", 100, 100),
         "100% of the gaps between tokens of qwen2.5-3b took longer than 0.075 s in the last 15m; the limit of the p95 is "
         "60 ms.", VLLM),
    Case("ITLp95Above", "by its older name", latency(OLD_ITL, VLLM, "0.075", 100, 50),
         "50% of the gaps between tokens of qwen2.5-3b took longer than 0.075 s in the last 15m; the limit of the p95 is "
         "60 ms.", VLLM),
    Case("ITLp95Above", "both names, few slow",
         {**latency(ITL, VLLM, "0.075", 100, 4), **latency(OLD_ITL, VLLM, "0.075", 100, 4)}),
    Case("ITLp95Above", "SGLang", latency(S_ITL, SGLANG, "0.1", 100, 20),
         "20% of the gaps between tokens of yi-6b took longer than 0.1 s in the last 15m; the limit of the p95 is 90 ms.",
         SGLANG),
    Case("ITLp95Above", "SGLang, few slow", latency(S_ITL, SGLANG, "0.1", 100, 4)),
    Case("E2Ep95Above", "SGLang", latency(S_E2E, SGLANG, "10.0", 10, 1),
         "10% of the answers of yi-6b took longer than 10 s in the last 15m; the limit of the p95 is 9000 ms.", SGLANG),
    Case("E2Ep95Above", "SGLang, none slow", latency(S_E2E, SGLANG, "10.0", 10, 0)),
    *(Case(f"{figure}p95Unwatched", "another bound",
           {of("vllm:generation_tokens_total", VLLM): steady(700), of(f"{name}_bucket", VLLM, le="3.3"): rising(1)},
           f"qwen2.5-3b has made 700 tokens, and exposes no {name} with a bound at {bound} s.", VLLM)
      for figure, name, bound in (("TTFT", TTFT, "1.0"), ("ITL", ITL, "0.075"),
                                  ("E2E", "vllm:e2e_request_latency_seconds", "10.0"))),
    *(Case(f"{figure}p95Unwatched", "there", {of("vllm:generation_tokens_total", VLLM): steady(700),
                                              of(f"{name}_bucket", VLLM, le=bound): rising(1)})
      for figure, name, bound in (("TTFT", TTFT, "1.0"), ("ITL", OLD_ITL, "0.075"),
                                  ("E2E", "vllm:e2e_request_latency_seconds", "10.0"))),
    Case("TTFTp95Unwatched", "nothing asked yet", {of("vllm:generation_tokens_total", VLLM): steady(0)}),
    Case("GPUMemoryAbovePlan", "above the shares", gpu(PLANNED + 1, 143771 - PLANNED),
         f"{PLANNED + 1} MiB of GPU 0 are in use; planned are {PLANNED} MiB: shares of 77% in all and "
         "2.5 GiB beside each of 3.",
         {"gpu": "0"}),
    Case("GPUMemoryAbovePlan", "at the plan", gpu(PLANNED, 143771 - PLANNED)),
    Case("GPUMemoryAbovePlan", "above the stated limits", gpu(31233, 1000),
         "31233 MiB of GPU 0 are in use; planned are 31232 MiB: the memory limits of 3 models.", {"gpu": "0"}, SHAPES),
    Case("GPUMemoryAbovePlan", "at the stated limits", gpu(31232, 1000), case=SHAPES),
    Case("GPUMemoryFull", "nothing left", gpu(32000, 100),
         "0.3115% of the memory of GPU 0 are free; planned are 35396 MiB: shares of 85% in all and "
         "2.5 GiB beside each of 3.",
         {"gpu": "0"}, STUDY),
    Case("GPUMemoryFull", "as the study had it", gpu(31500, 589), case=STUDY),
    Case("GPUXid", "one", {f'{dcgm.XIDS}{{gpu="0",xid="79"}}': steady(1)},
         "GPU 0 reported Xid 79 1 times in five minutes.", {"gpu": "0", "xid": "79"}),
    Case("GPUXid", "none", {f'{dcgm.XIDS}{{gpu="0",xid="0"}}': steady(0)}),
    Case("GPUXid", "a card that is not the lineup's", {f'{dcgm.XIDS}{{gpu="1",xid="79"}}': steady(1)}),
    Case("GPUSlowed", "heat", {f'{dcgm.CLOCK_EVENTS}{{gpu="0",clock_event="hw_thermal"}}': steady(4)},
         "GPU 0 lowered its clocks 4 times in five minutes: hw_thermal.", {"gpu": "0", "clock_event": "hw_thermal"}),
    Case("GPUSlowed", "a busy card", {f'{dcgm.CLOCK_EVENTS}{{gpu="0",clock_event="power_cap"}}': steady(100)}),
]


def test_every_alert_has_a_firing_and_a_quiet_case() -> None:
    """An alert that nobody saw fire, or that fires always, is none."""
    made = {rule["alert"] for case in WATCHED for rule in rules(watched(*case))}
    assert {case.alert for case in CASES if case.says} == made
    assert {case.alert for case in CASES if not case.says} == made


@pytest.mark.parametrize("case", CASES, ids=str)
def test_alert(case: Case, tmp_path: Path) -> None:
    """What fires, with its labels and its words."""
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(alerts.of(watched(*case.case))), encoding="utf-8")
    told = {"eval_time": f"{MINUTES}m", "alertname": case.alert, "exp_alerts": [_expected(case)] if case.says else []}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump({
        "rule_files": ["alerts.yaml"], "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "alert_rule_test": [told],
                   "input_series": [{"series": name, "values": values.strip()} for name, values in case.series.items()]}],
    }), encoding="utf-8")
    promtool("test", "rules", "test.yaml", cwd=tmp_path)


def _expected(case: Case) -> dict[str, Mapping[str, str]]:
    """As promtool writes a firing alert: the rule's labels and those of the series, every text filled in."""
    own = dict(case.own or {})
    rule = next(rule for rule in rules(watched(*case.case)) if rule["alert"] == case.alert
                and all(own.get(key, rule["labels"][key]) == rule["labels"][key] for key in ("model", "gpu")
                        if key in rule["labels"]))
    summary = re.sub(r"{{ \$labels\.(\w+) }}", lambda found: own[found[1]], rule["annotations"]["summary"])
    return {"exp_labels": {**own, **rule["labels"]},
            "exp_annotations": {"summary": summary, "description": case.says, "runbook": rule["annotations"]["runbook"]}}
