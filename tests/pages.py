"""A run with evidence as a run leaves it, small but with every part that the page has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reports.record import Cell, Figure, Matrix
from tests.cells import cell

SCRIPT = "<script>document.title='owned'</script>"
HOSTILE = (SCRIPT, "<img src=x onerror=document.title='owned'>", "<svg onload=document.title='owned'>",
           "\u202egnp.exe\u2066", "\x1b[31mred\x1b[0m", "\x00null", "{{ 7*7 }}",
           "</style></script></title>", "javascript:alert(1)", "&amp;lt;")
RUN = {"id": "20261121T120000Z-0001", "started": "2026-11-21T12:00:00+00:00", "finished": "2026-11-21T12:20:00+00:00",
       "machine": "desk", "cpu": "Some CPU, 8 cores", "memory_gib": 31.2, "driver": "580.1",
       "arguments": ["-c", "pyproject.toml", "-p", "fixtures.plugin", "-m", "cpu"],
       "timesheet": {"total": 60.0, "generation": 30.0, "boots": {"count": 2, "seconds": 21.0, "each": [
           {"engine": "vllm", "seconds": 20.0}, {"engine": "sglang", "seconds": 1.0}]}}}


def a_page_run(folder: Path, **run: Any) -> Matrix:
    """Cells of two engines with samples, answers, a log, a device over time, plans and growth, below this folder."""
    (folder / "logs" / "cells").mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    cells = [*_latency(folder), *_languages(folder), *_memory(folder), *_failed(folder)]
    return Matrix(run={**RUN, **run}, cells=tuple(cells))


def keep(folder: Path, found: Cell, samples: Mapping[str, Any] | None = None, *, log: str = "") -> Cell:
    """The cell with its evidence written beside it."""
    name = f"logs/cells/{found.name.replace('/', '_').replace(chr(0), '')[:120]}.json"
    (folder / name).write_text(json.dumps({
        "cell": found.name, "samples": samples or {}, "command": ["python -m vllm --port 1"],
        "how_to_repeat": f"./cotenant run -m cpu --engine {found.engine} -k {found.check}"}))
    paths = [name]
    if log:
        paths.append("logs/01-server.log")
        (folder / paths[1]).write_text(log, encoding="utf-8", errors="surrogatepass")
    return found.model_copy(update={"evidence": tuple(paths)})


def figures(**values: tuple[float, str, float | None]) -> dict[str, Figure]:
    """Figures from (value, unit, limit)."""
    return {name: Figure(value=value, unit=unit, limit=limit) for name, (value, unit, limit) in values.items()}


def _latency(folder: Path) -> list[Cell]:
    cells = []
    for engine in ("vllm", "sglang"):
        for model in ("small", "large"):
            for what in ("ttft", "itl"):
                samples = [5.0 + (7 * place) % 23 for place in range(64)]
                found = figures(**{f"{what}_p95_ms": (26.0, "ms", 60.0), f"{what}_p95_low_ms": (24.0, "ms", None),
                                   f"{what}_p95_high_ms": (28.0, "ms", None), "requests": (64, "answers", None)})
                one = cell(f"latency.{what}", model=model, engine=engine, figures=found)
                # SGLang's cells hold percentiles only.
                cells.append(keep(folder, one, {what: samples} if engine == "vllm" else {}))
    return cells


def _languages(folder: Path) -> list[Cell]:
    answers = {"ko": "가을이 오면 나뭇잎이 붉고 노랗게 물들어요", "ar": "السماء زرقاء اليوم"}
    cells = []
    for code, answer in answers.items():
        found = {"share": Figure(value=0.97, unit="of letters Hangul"), **figures(strayed=(0, "prompts", 1))}
        script = cell("languages.script", variant=code, figures=found)
        pairs = [{"kind": "native", "prompt": "안녕하세요!", "streamed": answer}]
        cells += [keep(folder, script, {"answers": pairs}), cell("languages.utf8", variant=code)]
    return cells


def seat(held: float) -> dict[str, Any]:
    """What `./cotenant plan --json` says of a model that is to hold so many GiB, half of it its weights."""
    return {"weights_gib": [held / 2, held / 2], "kv_cache_gib": [held / 4, held / 4], "own_gib": [held / 8, held * 3 / 8],
            "held_gib": [held * 0.9, held * 1.1], "kv_tokens": [14_400, 16_200], "source": "a record",
            "gpu": {"title": "RTX 9090", "usable_gib": [3.5, 3.7]}}


def _memory(folder: Path) -> list[Cell]:
    device = {"mib_by_model": {"small": [[1.0, 100.0], [2.0, 900.0], [9.0, 0.0]], "large": [[4.0, 0.0], [5.0, 2000.0]]},
              "baseline_mib": 10.0, "foreign_peak_mib": 0.0, "phases": [[1.0, "boot of small"], [4.5, "boot of large"]],
              "peak_mib_by_phase": {"small": {"alone": 900.0}}}
    (folder / "logs" / "cpu-vllm-trilingual-device.json").write_text(json.dumps(device))
    held = {"small": (0.9, 0.8), "large": (2.0, 2.2)}
    plans = [keep(folder, cell("memory.plan", model=name, figures=figures(
        held_gib=(now, "GiB", 3.0), planned_gib=(then, "GiB", None))), {"plan": seat(then)})
             for name, (now, then) in held.items()]
    return [*plans, keep(folder, cell("memory.growth"), {"pss_mib": [50.0 + place / 4 for place in range(11)]})]


def _failed(folder: Path) -> list[Cell]:
    log = "\n".join(["INFO loading", "INFO loaded", "torch.OutOfMemoryError: CUDA out of memory. Tried 2 GiB", "INFO bye"])
    failed = cell("startup.ready", "fail", engine="sglang", causes=("out-of-memory",), cure="lower the model's share",
                  reason="the server ended with exit code 1: CUDA out of memory", figures=figures(ready_s=(12.0, "s", 9.0)))
    waived = cell("api.errors", "waived", "large", reason="waived until 2027-03-31 by somebody: known")
    return [keep(folder, failed, log=log), waived, cell("startup.ready"), cell("coexistence.leave", model=None)]
