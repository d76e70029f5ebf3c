"""The lineups of the planted runs: three models, with limits that are loose at first and then set from a healthy run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.planted.catalogue import MODELS
from tests.planted.comparison import Cells

Limits = dict[str, float]
FOLDER = Path(__file__).resolve().parents[2] / "fixtures" / "models"
LOOSE: Limits = {"ttft_p95_ms": 3000, "itl_p95_ms": 1000, "e2e_p95_ms": 10_000, "throughput_min_tok_s": 5}
OTHERS: Limits = {"memory_gib": 2.5, "kv_tokens_min": 6144, "ready_s": 12}
# Below these a limit would be about the scheduler of the machine.
FLOORS: Limits = {"ttft_p95_ms": 200, "itl_p95_ms": 80, "e2e_p95_ms": 1000}
FACTOR = 3
LEAST_SHARE = 0.1  # of the throughput: an answer that is late by a limit at its floor costs most of it


def write(path: Path, limits: Mapping[str, Limits], endpoints: Mapping[str, str] | None = None) -> Path:
    """Write a lineup: on `endpoints` (model: URL) for engine openai, else of the repository's models for llama.cpp."""
    engine, orders = ("openai", ["sequential"]) if endpoints else ("llamacpp", ["sequential", "concurrent"])
    lines = [f'name = "planted"\nprofiles = ["cpu"]\nengines = ["{engine}"]\nstart = {json.dumps(orders)}']
    for model in MODELS:
        where = {"endpoint": endpoints[model]} if endpoints else {"source": str(FOLDER / model)}
        entry = {"name": model, **where, "languages": ["en", "zh", "ko"], "context": 1024, "share": 0.1}
        lines += ["[[models]]", *(f"{key} = {json.dumps(value)}" for key, value in entry.items())]
        lines += ["[models.limits]", *(f"{key} = {value}" for key, value in {**limits[model], **OTHERS}.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def loose() -> dict[str, Limits]:
    """Limits that any machine keeps."""
    return dict.fromkeys(MODELS, LOOSE)


def calibrated(healthy: Cells) -> dict[str, Limits]:
    """Three times what the healthy run measured for each model, alone or beside busy neighbours; of tokens, a tenth."""
    return {model: {name: _limit(name, _measured(healthy, model, name)) for name in LOOSE} for model in MODELS}


def _measured(healthy: Cells, model: str, name: str) -> list[float]:
    figures = [cell.figures for cell in healthy.values() if cell.model == model and cell.figures]
    found: list[dict[str, Any]] = [table[name] for table in figures if name in table]
    return [figure["value"] for figure in found if figure["value"] is not None]


def _limit(name: str, measured: list[float]) -> float:
    if "_min" in name:
        return round(min(measured) * LEAST_SHARE, 1)
    return round(max(FACTOR * max(measured), FLOORS[name]), 1)
