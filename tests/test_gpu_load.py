"""The meter tells what the devices did in a stretch of time, and what it cost to look."""

from __future__ import annotations

import time
from pathlib import Path

import pynvml
import pytest

from fixtures.gpu import device, unified
from fixtures.gpu.meter import BUDGET, Meter
from fixtures.gpu.xid import Xid
from tests.launching import eventually
from tests.metering import SETTLED_S, Metering, Servers, pids_of
from tests.nvml import GB10, GIB, MIB, FakeNvml


@pytest.mark.parametrize("energy", ["auto", "N/A"])
def test_a_stretch_tells_what_the_devices_did(fake: FakeNvml, metering: Metering, servers: Servers, energy: str) -> None:
    """Energy by the counter, or by power over time; two cards together take what both take."""
    for index, power in ((0, 300_000), (1, 200_000)):
        fake.gpu(index, power=power, utilisation=90, clock_sm=1500, throttle=4, energy=energy)
    fake.process(servers[0].pid, 0, GIB)
    meter = metering()
    with meter.stretch() as stretch:
        time.sleep(0.5)
        fake.gpu(1, utilisation=10, clock_sm=1400, throttle=0)
        time.sleep(0.3)
    fake.gpu(0, utilisation=100, throttle=0x40)
    assert 0.8 <= stretch.seconds < 1.5
    assert stretch.energy_j == pytest.approx(500 * stretch.seconds, rel=0.03)
    assert stretch.power_w == pytest.approx(500)
    assert (stretch.utilisation_max, stretch.sm_clock_min, stretch.throttle) == (90, 1400, ("power cap",))
    assert stretch.utilisation_mean is not None
    assert 50 < stretch.utilisation_mean < 90
    assert (stretch.processes, stretch.used_peak) == (frozenset({servers[0].pid}), meter.used())


def test_energy_follows_a_load_that_changes(fake: FakeNvml, metering: Metering) -> None:
    """Of each phase its own, not the mean of all."""
    meter = metering()
    with meter.phase("idle"):
        time.sleep(0.6)
    fake.gpu(0, power=600_000)
    with meter.phase("busy"):
        time.sleep(0.6)
    idle, busy = meter.during("idle"), meter.during("busy")
    assert idle.energy_j == pytest.approx(76 * idle.seconds, rel=0.1)
    assert busy.energy_j == pytest.approx(600 * busy.seconds, rel=0.1)
    assert idle.power_w == pytest.approx(76)
    assert busy.power_w == pytest.approx(600)


def test_what_the_driver_does_not_tell_stays_open(fake: FakeNvml, metering: Metering) -> None:
    """No load known is not no load."""
    fake.gpu(0, utilisation="N/A", power="N/A", energy="N/A", clock_sm="N/A")
    meter = metering()
    with meter.stretch() as stretch:
        time.sleep(0.1)
    assert (stretch.utilisation_max, stretch.utilisation_mean, stretch.power_w, stretch.energy_j) == (None,) * 4
    assert (stretch.sm_clock_mean, stretch.sm_clock_min) == (None, None)


def test_shared_memory_is_counted_by_the_kernel(fake: FakeNvml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                servers: Servers) -> None:
    """What programs take of it is no more available; by process NVML still tells."""
    meminfo = tmp_path / "meminfo"
    monkeypatch.setattr(unified, "MEMINFO", meminfo)
    meminfo.write_text(f"MemTotal: {100 * MIB} kB\nMemFree: {10 * MIB} kB\nMemAvailable: {90 * MIB} kB\n")
    fake.gpu(1, GB10)
    with Meter(device.find().devices[1:]) as meter:
        meter.watch("tiny", pids_of(servers[0]))
        fake.process(servers[0].pid, 1, 8 * GIB)
        meminfo.write_text(f"MemTotal: {100 * MIB} kB\nMemFree: {2 * MIB} kB\nMemAvailable: {80 * MIB} kB\n")
        time.sleep(SETTLED_S)
        assert (meter.baseline, meter.used(), meter.free()) == (10 * GIB, 20 * GIB, 80 * GIB)
        assert meter.peak("tiny") == 8 * GIB


@pytest.mark.parametrize("hz", [0, 9, 51])
def test_it_samples_10_to_50_times_a_second(hz: float) -> None:
    """Slower misses peaks, faster costs what is measured."""
    with pytest.raises(ValueError, match="10 to 50"):
        Meter([], hz=hz)


def test_its_own_cost_is_measured_and_small(fake: FakeNvml, metering: Metering, servers: Servers) -> None:
    """It keeps its pace, and to its budget of a core."""
    meter = metering()
    meter.watch("tiny", pids_of(servers[0]))
    fake.process(servers[0].pid, 0, GIB)
    time.sleep(2)
    meter.stop()
    assert 20 <= meter.cost.full_readings <= 45
    assert 0 < meter.cost.share < BUDGET


def test_nothing_that_changes_takes_no_room(fake: FakeNvml, metering: Metering, servers: Servers) -> None:
    """Hours of the same are two samples."""
    meter = metering()
    fake.process(servers[0].pid, 0, GIB)
    meter.watch("tiny", pids_of(servers[0]))
    time.sleep(1.2)
    assert len(meter.samples("tiny")) <= 4


def test_it_stops_once_and_keeps_what_it_saw(fake: FakeNvml, servers: Servers) -> None:
    """And leaves no session open."""
    with Meter(device.find().devices) as meter:
        meter.watch("tiny", pids_of(servers[0]))
        fake.process(servers[0].pid, 0, GIB)
        assert meter.held([servers[0].pid]) == GIB
    meter.stop()
    assert (meter.peak("tiny"), meter.fault) == (GIB, "")
    with pytest.raises(pynvml.NVMLError_Uninitialized):
        pynvml.nvmlDeviceGetCount()


def test_xid_errors_are_collected_since_the_start(fake: FakeNvml, metering: Metering) -> None:
    """Each with its device; earlier ones are in the kernel's log."""
    fake.xid(0, 13)
    meter = metering()
    assert meter.xids == ()
    fake.xid(0, 79)
    assert eventually(lambda: meter.xids == (Xid(meter.devices[0].uuid, 79),), 2)


def test_xid_errors_that_are_not_reported_are_not_none(fake: FakeNvml, metering: Metering) -> None:
    """Unknown is something else than clean."""
    fake.fail("nvmlDeviceRegisterEvents", pynvml.NVML_ERROR_NOT_SUPPORTED)
    assert metering().xids is None
