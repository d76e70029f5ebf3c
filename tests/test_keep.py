"""What was sampled of a deployment is kept whole: every change, when phases began, and models that never started."""

from __future__ import annotations

import json
import time
from itertools import groupby
from pathlib import Path

from fixtures.gpu import keep
from fixtures.memory.sampler import Sampler
from reports import schema
from tests.metering import SETTLED_S, Metering, Servers, pids_of
from tests.nvml import GIB, FakeNvml


def test_of_a_device(tmp_path: Path, fake: FakeNvml, metering: Metering, servers: Servers) -> None:
    """Sizes step by step, peaks by phase, each phase's beginning between the samples beside it; as the schema says."""
    meter, (one, _) = metering(), servers
    meter.watch("one", pids_of(one))
    with meter.phase("boot one"):
        time.sleep(SETTLED_S)
        fake.process(one.pid, 0, 5 * GIB)
        time.sleep(SETTLED_S)
    time.sleep(SETTLED_S)
    with meter.phase("load one"):
        fake.process(one.pid, 0, 7 * GIB)
        time.sleep(SETTLED_S)
    meter.stop()
    keep.keep(meter, ["one", "never"], tmp_path / "logs" / "x-device.json")
    found = json.loads((tmp_path / "logs" / "x-device.json").read_text())
    schema.validate(found, "device")
    assert [size for size, _ in groupby(size for _, size in found["mib_by_model"]["one"])][-2:] == [5 * 1024, 7 * 1024]
    assert found["mib_by_model"]["never"] == []
    assert found["peak_mib_by_phase"]["one"] == {"boot one": 5 * 1024, "load one": 7 * 1024}
    (boot, first), (load, second) = found["phases"]
    assert (first, second) == ("boot one", "load one")
    assert 0 <= boot < load - 2 * SETTLED_S
    assert load <= next(at for at, size in found["mib_by_model"]["one"] if size == 7 * 1024) + 0.01


def test_of_processes(tmp_path: Path, servers: Servers) -> None:
    """Without a device it is the PSS of each server; samples between two of the same size are left out, no others."""
    with Sampler(interval_s=0.05) as sampler:
        sampler.watch("one", pids_of(servers[0]))
        time.sleep(0.6)
    keep.keep(sampler, ["one", "never"], tmp_path / "x-device.json")
    found = json.loads((tmp_path / "x-device.json").read_text())
    schema.validate(found, "device")
    assert (found["attribution"], found["devices"], found["mib_by_model"]["never"]) == ("pss", [], [])
    whole = [[round(at, 2), round(size / keep.MIB, 1)] for at, size in sampler.samples("one")]
    kept = found["mib_by_model"]["one"]
    assert kept[0] == whole[0]
    assert kept[-1] == whole[-1]
    assert len(kept) < len(whole)
    changes, of_all = ([size for size, _ in groupby(size for _, size in some)] for some in (kept, whole))
    assert changes == of_all
