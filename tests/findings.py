"""What each procedure measures, as it was seen once: for tests that alter it."""

from __future__ import annotations

from typing import Any

from fixtures.findings.decision import Measured
from fixtures.verdict import Figure

SEEN: dict[str, dict[str, Any]] = {
    "arithmetic": {},
    "driver": {"branch": 570, "card_branch": 570, "toolkit_of_driver": "12.3"},
    "remote-code": {"own_code": 0, "model_type": "qwen2", "config": "acme/model/config.json"},
    "kernels": {"holds": True, "seen": "all of them run", "wheels": "vllm==1"},
    "dcgm": {"memory": 1, "use": 1},
    "memory": {"held_gib": [16.34, 34.18, 60.23], "budget_gib": [15.44, 32.29, 58.97], "share": [0.11, 0.23, 0.42],
               "total_gib": 140.4, "weights_gib": [2.05, 5.79, 11.29], "cache_gib": [12.66, 25.45, 46.42],
               "cache_tokens": [603440, 741264, 760528]},
    "starts": {"models": 3, "ready": 3, "sized": 3, "kv_tokens": [603440, 741264, 760528], "good_tries": 0, "tries": 3},
    "together": {"models": 3, "ready": 3, "sized": 3, "kv_tokens": [603440, 741264, 760528], "good_tries": 0, "tries": 3},
    "sglang-pool": {"free_gb": [139.7, 123.0, 89.63], "fraction": [0.1107, 0.2624, 0.6545], "static_gb": [15.5, 32.3, 58.5],
                    "total_gb": 140.4},
    "spread": {"spread": [1.14, 1.01, 1.08], "spread_of_vllm": [1.73, 1.05, 1.1]},
    "started-without": {"qwen_ready": True, "qwen_ready_s": 76.0, "trusted": False, "model_type": "qwen2"},
    "plain-sglang": {"models": 3, "ready": 3, "generated": 3, "flags": 0},
    "partly": {"models": 3, "some_on_cpu": 1, "seen": 1, "cpu_mib": [512.0]},
    "prefix-of-cells": {"cold_ms": [32.9, 63.5, 54.9], "warm_ms": [16.4, 25.4, 30.9]},
    "words": {"words_per_token": [0.73, 0.12, 0.44]},
    "languages": {"same_ms": [196.0, 210.0, 187.0], "same_tokens": [48, 48, 48], "free_tokens": [50.0, 38.0, 61.0],
                  "free_ms_per_token": [4.3, 4.3, 3.9]},
    "prefix": {"cold_ms": 275.1, "warm_ms": 23.6, "pairs": 10, "prefix_tokens": 720},
    "methods": {"get_status": "405", "get_good": 0, "post_good": 100, "post_mean_ms": 87.0},
    "gateway": {"models": 3, "routes": "pass", "streams": "pass", "outlives": "pass", "remarks": "none"},
    "race": {"alone_tokens": 1_150_000, "beside_tokens": 1_040_000, "together_tokens": [1_100_000, 0, 900_000],
             "causes": "neighbour-took-memory", "race_tries": 1},
    "sglang-fraction": {"fraction": 0.1, "free_gib": 14.0, "total_gib": 23.5, "static_gib": 1.39},
    "flag": {"started": False, "cause": "bad-flag", "words": "it does not know the flag", "tokens_with": 0,
             "tokens_without": 0},
    "dtypes": {"float16_tokens": 10240, "float16_mib": 1000, "bfloat16_tokens": 10240, "bfloat16_mib": 1000, "rate": 380.0,
               "other_rate": 381.0, "gain": 0.0, "gain_low": -0.02, "gain_high": 0.01},
    "log-requests": {"known": False, "cause": "bad-flag", "rate": 380.0, "other_rate": 379.0, "gain": 0.003,
                     "gain_low": -0.02, "gain_high": 0.02},
    "limited": {"limit": 4, "asked": 12, "answered": 12, "ran": 4.0},
    "port-taken": {"second_ready": False, "cause": "port-in-use", "words": "the port is taken", "first_answers": True},
    "no-memory": {"ready": False, "cause": "kv-cache-too-small", "words": "no room", "cure": "give it more"},
    "restarts": {"starts": 3, "ended": 3, "causes": ["bad-flag"] * 3, "kinds": 1, "unnamed": 0, "seconds": [0.2, 0.2, 0.3]},
    "gated": {"cause_401": "gated-no-token", "cause_403": "gated-no-grant", "cure_401": "a token", "cure_403": "a grant",
              "asked_401": 3, "asked_403": 3},
    "ollama-three": {"models": 3, "answered": 3, "resident": 3},
    "ollama-cold": {"cold_ms": [331.0, 418.0, 588.0], "warm_ms": [37.0, 102.0, 242.0]},
    "ollama-idle": {"kept_s": 300, "left_s": 1.0, "left": True, "swapped": True},
}


# What figures would have to be for another outcome, where no simple change of one of them gets there.
OTHERWISE: dict[str, dict[str, list[Any]]] = {
    "race": {"together_tokens": [[1_100_000] * 3]},
    "sglang-pool": {"static_gb": [[15.54, 36.84, 91.89]]},
    "lang-latency": {"latency_ms": [[254.9, 246.5, 209.8]], "rate": [[232.7, 379.7, 374.2]],
                     "tokens": [[149.6, 76.5, 45.1]]},
    "latency-ratios": {"percents": [[26.6, 61.4, 33.6]], "latencies": [[261.73, 393.94, 262.0, 192.1, 447.2]]},
    "mem-ollama-8.5": {"held_gib": [[2.5, 5.1, 7.6]], "loaded": [[2.2, 8.4, 20.5], [3, 9, 13.5]]},
    "mem-real-2.5x": {"held_gib": [[4.2, 12.0, 24.0]], "weights_gib": [[7.0, 15.0, 27.0]]},
    "mem-single-0.9": {"held_gib": [[10.0, 20.0, 30.0]]},
    "ratio-ollama-vllm": {"ollama": [[427.77, 1268.0, 1268.0]], "vllm": [[112, 112, 31.4]]},
    "ratio-vllm-sglang": {"vllm": [[332.03, 368.5]], "sglang": [[69.38, 37.09]], "ratios": [[4.79, 4.79]],
                          "sglang_counts": ["tokens"]},
    "tput-guide": {"rate": [[2000, 2000, 2000]], "ttft_ms": [[2, 2, 2]], "whole_ms": [[200, 400, 500]]},
    "tput-vllm-112": {"rates": [[112, 112, 112]]},
    "tput-sglang-373": {"answered": ["sglang"]},
}


def measured(seen: dict[str, Any]) -> Measured:
    """As a procedure gives it."""
    return {name: value if isinstance(value, list) else Figure(value=value) for name, value in seen.items()}
