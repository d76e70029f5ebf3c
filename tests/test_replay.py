"""What a run on a real card recorded, judged again here: by the same code, with the same verdict, unless it was altered."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from fixtures.gpu import device
from fixtures.gpu.meter import Meter
from fixtures.kernels import live
from fixtures.memory import judge as memory
from fixtures.verdict import Verdict
from tests.nvml import MIB, FakeNvml

RECORDED = Path(__file__).resolve().parents[1] / "docs" / "results" / "h200" / "2026-11-21"
CELLS = sorted((RECORDED / "logs" / "cells").glob("*kernels.live.json"))
DEVICE = RECORDED / "logs" / "three-models-loaded.device.json"
FASTER = 20  # than it was


def read(file: Path) -> dict[str, Any]:
    """One recording."""
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("file", CELLS, ids=lambda file: file.name.split("_")[4])
def test_recorded_answers_are_judged_as_they_were(file: Path) -> None:
    """The answers and what the device showed beside them give the verdict and figures that the record holds."""
    recorded = read(file)
    again = live.judge_recorded(recorded["samples"])
    assert (again.verdict, list(again.causes)) == (recorded["verdict"], recorded["causes"])
    assert {name: figure.value for name, figure in again.figures.items()} == {
        name: figure["value"] for name, figure in recorded["figures"].items()}


@pytest.mark.parametrize(("change", "cause"), [
    (lambda samples: samples["residency"].update(utilisation_max=0), "not-on-the-device"),
    (lambda samples: samples["residency"].update(held=0), "not-on-the-device"),
    (lambda samples: samples["residency"]["engine"].update(size_vram=1), "partly-on-the-cpu"),
    (lambda samples: samples["cases"][0]["answers"][0].update(text=""), "no-tokens-prefill-short"),
], ids=["idle", "nothing-held", "partly-offloaded", "an-answer-without-text"])
def test_an_altered_recording_fails(change: Any, cause: str) -> None:
    """The verdict comes from what was recorded: change that, and it is another."""
    samples = read(CELLS[0])["samples"]
    change(samples)
    judgement = live.judge_recorded(samples)
    assert judgement.verdict is Verdict.FAIL
    assert cause in judgement.causes


@contextmanager
def stand_ins(names: list[str]) -> Iterator[dict[str, int]]:
    """A living process for each model, to hold what that model held."""
    with ExitStack() as stack:
        started = {name: stack.enter_context(subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE)) for name in names}
        yield {name: process.pid for name, process in started.items()}
        for process in started.values():
            process.kill()


def played(fake: FakeNvml, series: dict[str, list[list[float]]]) -> dict[str, int | None]:
    """The meter's peaks while the recording is played on a fake device, in bytes."""
    changes = sorted((at, name, size) for name, samples in series.items() for at, size in samples)
    with fake, stand_ins(list(series)) as pids, Meter(device.find().devices, hz=50) as meter:
        for name, pid in pids.items():
            meter.watch(name, lambda pid=pid: [pid])  # type: ignore[misc]
        began, first = time.monotonic(), changes[0][0]
        for at, name, size in changes:
            time.sleep(max(0.0, began + (at - first) / FASTER - time.monotonic()))
            fake.process(pids[name], 0, int(size * MIB))
        return {name: meter.peak(name) for name in series}


def test_a_recorded_device_is_metered_as_it_was(tmp_path: Path) -> None:
    """Three models that were loaded one after another: the meter finds each one's peak again, and the ceiling holds it."""
    series = read(DEVICE)["mib_by_model"]
    fake = FakeNvml(tmp_path)
    fake.gpu(0)
    peaks = played(fake, series)
    for name, samples in series.items():
        highest = max(size for _, size in samples)
        found = peaks[name]
        assert found == int(highest * MIB)
        assert memory.judge_ceiling((found, found), highest / 1024 + 0.01).verdict is Verdict.PASS
        assert memory.judge_ceiling((found, found), highest / 1024 / 1.2).causes == ("above-ceiling",)
