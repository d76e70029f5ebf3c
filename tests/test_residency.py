"""Where a model lives: what NVML and the engine say comes to a verdict, and what nobody says to none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fixtures.kernels import residency
from fixtures.kernels.residency import EngineReport, Found, Residency, judge

GIB = 1 << 30
LOGS = Path(__file__).with_name("engine_logs")
GOOD = Residency(held=16 * GIB, used=20 * GIB, used_before=GIB, utilisation_max=71.0, weights=6 * GIB)


def causes(found: Found) -> tuple[str, ...]:
    """The causes of its faults."""
    return tuple(cause for cause, _ in found.faults)


@pytest.mark.parametrize(("seen", "expected"), [
    (GOOD, ()),
    (replace(GOOD, weights=None), ()),
    (replace(GOOD, held=int(0.8 * 6 * GIB) + 1), ()),
    (replace(GOOD, held=int(0.8 * 6 * GIB) - 1), ("partly-on-the-cpu",)),
    (replace(GOOD, held=0), ("not-on-the-device",)),
    (replace(GOOD, utilisation_max=0.0), ("not-on-the-device",)),
    (replace(GOOD, held=0, utilisation_max=0.0), ("not-on-the-device", "not-on-the-device")),
    (replace(GOOD, held=None), ()),
    (replace(GOOD, held=None, used=3 * GIB), ("partly-on-the-cpu",)),
    (replace(GOOD, held=None, used=GIB), ("not-on-the-device",)),
    (replace(GOOD, held=None, used=GIB - 1), ("not-on-the-device",)),
    (replace(GOOD, utilisation_max=None), ()),
    (replace(GOOD, engine=EngineReport(size=GIB, size_vram=GIB)), ()),
    (replace(GOOD, engine=EngineReport(size=GIB, size_vram=GIB - 1)), ("partly-on-the-cpu",)),
    (replace(GOOD, engine=EngineReport(size=GIB, size_vram=0)), ("on-the-cpu",)),
    (replace(GOOD, engine=EngineReport(layers=(23, 23))), ()),
    (replace(GOOD, engine=EngineReport(layers=(22, 23))), ("partly-on-the-cpu",)),
    (replace(GOOD, engine=EngineReport(layers=(0, 23))), ("on-the-cpu",)),
    (replace(GOOD, engine=EngineReport(fallback="Falling back to CPU")), ("on-the-cpu",)),
    (replace(GOOD, engine=EngineReport(size=GIB)), ()),
])
def test_what_was_seen_and_what_it_comes_to(seen: Residency, expected: tuple[str, ...]) -> None:
    """Each of NVML's figures and the engine's words is enough to fail; none of them makes up for another."""
    assert causes(judge(seen)) == expected


@pytest.mark.parametrize(("seen", "shown"), [
    (Residency(), False),
    (Residency(weights=GIB), False),
    (Residency(engine=EngineReport(layers=(23, 23))), False),  # a log is the engine's own word, and may be an old one
    (Residency(used=GIB, used_before=2 * GIB), False),
    (Residency(held=GIB), True),
    (Residency(utilisation_max=3.0), True),
    (Residency(engine=EngineReport(size=GIB, size_vram=GIB)), True),
])
def test_something_must_show_it_there(seen: Residency, shown: bool) -> None:
    """No fault is no proof."""
    assert judge(seen).seen == shown


def test_what_cannot_be_had_is_said() -> None:
    """Which figure it is, and what stands for it."""
    notes = " ".join(judge(replace(GOOD, held=None, utilisation_max=None)).notes)
    assert "the driver tells of no process here, so the device's total is judged, less what it had before" in notes
    assert "utilisation could not be seen" in notes
    assert judge(replace(GOOD, held=None, used_before=None)).notes[0].endswith("whoever holds it")
    assert "could not be seen" in judge(Residency(utilisation_max=1.0)).notes[0]
    assert judge(GOOD).notes == ()


def test_the_figures_stand_beside_what_they_are_judged_by() -> None:
    """In MiB, with the least that must be there."""
    figures = judge(replace(GOOD, engine=EngineReport(GIB, GIB, (7, 7)))).figures
    assert (figures["held_mib"].value, figures["held_mib"].limit) == (16 * 1024, round(0.8 * 6 * 1024, 1))
    assert figures["utilisation_max"].value == 71.0
    assert (figures["size_mib"].value, figures["size_vram_mib"].value) == (1024, 1024)
    assert figures["layers_on_gpu"].value == "7 of 7"
    assert judge(replace(GOOD, held=None)).figures["device_used_mib"].value == 19 * 1024


@pytest.mark.parametrize(("log", "layers", "falls_back"), [
    ("ollama-0.17.4-mixed-tinyllama.log", (23, 23), False),
    ("ollama-0.17.4-cpu-load-faults.log", None, True),
    ("vllm-0.26.0-alone-healthy.log", None, False),
    ("sglang-0.5.15-sequential-yi.log", None, False),
])
def test_real_logs(log: str, layers: tuple[int, int] | None, *, falls_back: bool) -> None:
    """Of servers on an H200 and of one on a CPU."""
    (file,) = LOGS.rglob(log)
    report = EngineReport.of_log(file.read_text(encoding="utf-8", errors="replace"))
    assert (report.layers, bool(report.fallback)) == (layers, falls_back)


def test_the_last_start_in_a_log_counts() -> None:
    """A server that first had no room for all layers and then did has them."""
    assert EngineReport.of_log("offloaded 3/23 layers to GPU\n...\noffloaded 23/23 layers to GPU\n").layers == (23, 23)


def test_it_goes_through_json() -> None:
    """And comes back as it was, the layers too."""
    for seen in (GOOD, replace(GOOD, engine=EngineReport(GIB, 0, (1, 2), "words")), Residency()):
        assert Residency.from_json(json.loads(json.dumps(seen.as_json()))) == seen


def test_without_a_device_nothing_is_watched() -> None:
    """On a CPU there is nothing to judge."""
    watch = residency.Watch(None)
    with watch.stretch() as joules:
        pass
    assert (watch.residency, joules) == (None, [])
