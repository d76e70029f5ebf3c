"""Runs of a noisy system, to make baselines of and to hold against them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy

from reports.record import Cell, Figure, Matrix
from tests.cells import cell

MODELS = ("small", "middle", "large")
HERE: dict[str, Any] = {"machine": "desk", "cpu": "a processor, 8 cores", "memory_gib": 31.2, "driver": "580.10"}
# check, figure, unit, limit, usual value, noise from run to run as a share
FIGURES = (
    ("latency.ttft", "ttft_p95_ms", "ms", 500.0, 60.0, 0.04),
    ("latency.itl", "itl_p95_ms", "ms", 60.0, 11.0, 0.015),
    ("latency.itl", "itl_token_p50_ms", "ms", None, 8.0, 0.01),
    ("latency.e2e", "e2e_p95_ms", "ms", 4000.0, 290.0, 0.03),
    ("latency.throughput", "throughput_min_tok_s", "tok/s", 100.0, 410.0, 0.02),
    ("startup.ready", "ready_s", "s", 300.0, 3.1, 0.08),
    ("memory.capacity", "kv_tokens", "tokens", 4096.0, 8192.0, 0.0),
    ("memory.plan", "held_gib", "GiB", 4.0, 1.51, 0.003),
    ("coexistence.busy", "ttft_p95_ms", "ms", 500.0, 110.0, 0.25),
    ("kernels.live", "decode_tok_s", "tok/s", None, 570.0, 0.02),
    ("kernels.live", "prefix_cold_ttft_ms", "ms", None, 82.0, 0.1),
)

Noise = Callable[[numpy.random.Generator], float]


def normal(random: numpy.random.Generator) -> float:
    """Logarithms spread as most textbooks have it."""
    return float(random.standard_normal())


def heavy(random: numpy.random.Generator) -> float:
    """The same spread with the tail of Student's t of three degrees of freedom."""
    return float(random.standard_t(3)) / 3**0.5


def run(random: numpy.random.Generator, name: str, *, noise: Noise = normal,
        slower: dict[tuple[str, str], float] | None = None, models: Sequence[str] = MODELS, all_of_it: float = 0.0,
        **facts: Any) -> Matrix:
    """One run of every figure of each model; `slower` multiplies times (and divides rates) of a model's check.

    `all_of_it` is the spread of what is common to all figures of a run, such as a machine that is warmer.
    """
    common = all_of_it * noise(random)
    cells: dict[tuple[str, str], Cell] = {}
    for model in models:
        for check, figure, unit, limit, usual, spread in FIGURES:
            factor = (slower or {}).get((model, check), 1.0)
            factor = 1 / factor if unit in ("tok/s", "tokens") else factor
            common_here = common if spread else 0.0
            value = round(usual * factor * float(numpy.exp(spread * noise(random) + common_here)), 3)
            old = cells.get((model, check)) or cell(check, model=model)
            figures = {**old.figures, figure: Figure(value=value, unit=unit, limit=limit)}
            cells[model, check] = old.model_copy(update={"figures": figures})
    known = {"id": name, "started": f"2026-11-21T{len(name) % 24:02d}:00:00+00:00", "finished": "later", **HERE, **facts}
    return Matrix(run=known, cells=tuple(cells.values()))


def several(random: numpy.random.Generator, number: int = 5, **how: Any) -> dict[str, Matrix]:
    """So many runs by name, as a baseline is made of."""
    return {f"run-{one}": run(random, f"run-{one}", **how) for one in range(number)}


def changed(matrix: Matrix, change: Callable[[Cell], Cell | None]) -> Matrix:
    """The matrix with each cell as `change` leaves it; None takes it out."""
    return matrix.model_copy(update={"cells": tuple(new for old in matrix.cells if (new := change(old)) is not None)})
