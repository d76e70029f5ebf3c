"""The meter counts what NVML says by process, and NVML's faults are told from memory given back."""

from __future__ import annotations

import time

import pynvml
import pytest

from fixtures.gpu import device
from fixtures.gpu.meter import Meter, NvmlFault
from tests.launching import eventually
from tests.metering import SETTLED_S, STRANGER, Metering, Servers, end, pids_of
from tests.nvml import GIB, MIB, FakeNvml


def test_what_a_process_holds_is_its_groups(fake: FakeNvml, metering: Metering, servers: Servers) -> None:
    """Now, at its peak, and over time, beside another group."""
    meter, (one, other) = metering(), servers
    meter.watch("one", pids_of(one))
    meter.watch("other", pids_of(other))
    fake.process(one.pid, 0, 5 * GIB)
    fake.process(other.pid, 0, 7 * GIB)
    time.sleep(SETTLED_S)
    fake.process(one.pid, 0, 4 * GIB)
    time.sleep(SETTLED_S)
    assert (meter.held([one.pid]), meter.held([other.pid]), meter.held([one.pid, other.pid])) == (4 * GIB, 7 * GIB, 11 * GIB)
    assert (meter.peak("one"), meter.peak("other")) == (5 * GIB, 7 * GIB)
    assert meter.used() - meter.baseline == 11 * GIB
    assert meter.free() == device.find().devices[0].memory_bytes - meter.used()
    assert [size for _, size in meter.samples("one") if size][:1] == [5 * GIB]
    assert (meter.attribution, meter.uncertainty_bytes, meter.peak_bounds("one")) == ("process", 0, (5 * GIB, 5 * GIB))


def test_a_leak_is_seen_step_by_step(fake: FakeNvml, metering: Metering, servers: Servers) -> None:
    """100 MiB more each time are 100 MiB more each time."""
    meter, (server, _) = metering(), servers
    meter.watch("leaky", pids_of(server))
    held = []
    for round_ in range(5):
        fake.process(server.pid, 0, GIB + round_ * 100 * MIB)
        held.append(meter.held([server.pid]))
    assert [after - before for before, after in zip(held, held[1:], strict=False)] == [100 * MIB] * 4
    assert meter.peak("leaky") == held[-1]


def test_a_short_peak_is_caught_in_its_own_phase(fake: FakeNvml, metering: Metering, servers: Servers) -> None:
    """A tenth of a second is two samples; another phase knows nothing of it."""
    meter, (server, _) = metering(), servers
    meter.watch("tiny", pids_of(server))
    fake.process(server.pid, 0, 2 * GIB)
    with meter.phase("boot"):
        time.sleep(SETTLED_S)
    with meter.phase("capture"):
        time.sleep(0.07)
        fake.process(server.pid, 0, 9 * GIB)
        time.sleep(0.12)
        fake.process(server.pid, 0, 3 * GIB)
    with meter.phase("load"):
        pass
    assert meter.peaks("tiny") == {"boot": 2 * GIB, "capture": 9 * GIB, "load": 3 * GIB}
    assert meter.peak("tiny", "never") is None
    with pytest.raises(KeyError):
        meter.samples("nobody")


def test_a_server_that_is_still_starting_is_ours(fake: FakeNvml, metering: Metering, servers: Servers) -> None:
    """Its group learns of it when it answers, and then its boot counts as well; it never was a stranger."""
    meter, (server, _) = metering(), servers
    ready: list[int] = []
    meter.watch("tiny", lambda: ready)
    with meter.phase("boot"):
        fake.process(server.pid, 0, 12 * GIB)
        time.sleep(SETTLED_S)
        fake.process(server.pid, 0, 6 * GIB)
    assert (meter.foreign([]), meter.foreign_peak, meter.peak("tiny", "boot")) == ((), 0, None)
    ready.append(server.pid)
    assert eventually(lambda: meter.peak("tiny", "boot") == 12 * GIB, 3)
    assert meter.foreign_peak == 0


def test_a_neighbour_that_grows_is_named_and_not_ours(fake: FakeNvml, metering: Metering, servers: Servers) -> None:
    """Neither in the peak of a group nor in what is left."""
    fake.process(STRANGER, 0, GIB)
    meter, (server, _) = metering(), servers
    meter.watch("tiny", pids_of(server))
    fake.process(server.pid, 0, 2 * GIB)
    time.sleep(SETTLED_S)
    fake.process(STRANGER, 0, 30 * GIB)
    time.sleep(SETTLED_S)
    (stranger,) = meter.foreign([server.pid])
    assert (stranger.pid, stranger.bytes) == (STRANGER, 30 * GIB)
    assert stranger.name != "?"
    assert (meter.peak("tiny"), meter.foreign_peak) == (2 * GIB, 30 * GIB)
    end(server)
    assert meter.left() == 0


def test_a_neighbour_of_another_namespace_is_a_neighbour(fake: FakeNvml, metering: Metering, servers: Servers) -> None:
    """A pid that is not here might be ours, until ours is listed."""
    meter, (server, _) = metering(), servers
    meter.watch("tiny", pids_of(server))
    fake.process(4_000_000, 0, 9 * GIB, "keep")
    assert eventually(lambda: meter.attribution == "device", 2)
    fake.process(server.pid, 0, 2 * GIB)
    time.sleep(SETTLED_S)
    assert [(one.pid, one.bytes, one.name) for one in meter.foreign([])] == [(4_000_000, 9 * GIB, "?")]
    assert (meter.attribution, meter.peak("tiny"), meter.left()) == ("process", 2 * GIB, 2 * GIB)


def test_what_has_ended_gives_its_memory_back(fake: FakeNvml, metering: Metering, servers: Servers) -> None:
    """And what does not come back is seen, whoever holds it."""
    meter, (server, _) = metering(), servers
    meter.watch("tiny", pids_of(server))
    fake.process(server.pid, 0, 5 * GIB)
    time.sleep(SETTLED_S)
    end(server)
    assert (meter.held([server.pid]), meter.used(), meter.left()) == (0, meter.baseline, 0)
    fake.gpu(0, extra=300 * MIB)
    assert meter.left() == 300 * MIB


def test_memory_that_outlives_its_process_is_still_its_own(fake: FakeNvml, metering: Metering, servers: Servers) -> None:
    """For as long as NVML lists it, also after its group has been looked at again."""
    meter, (server, _) = metering(), servers
    meter.watch("tiny", pids_of(server))
    fake.process(server.pid, 0, 5 * GIB, "keep")
    time.sleep(SETTLED_S)
    end(server)
    meter.watch("other", list)
    time.sleep(SETTLED_S)
    assert meter.held([server.pid]) == 5 * GIB
    assert meter.foreign([]) == ()
    assert meter.left() == 5 * GIB


def test_two_devices_are_summed_and_told_apart(fake: FakeNvml, metering: Metering, servers: Servers) -> None:
    """A model over two cards holds what it holds on both; the fuller one says what is free."""
    second = fake.gpu(1)
    meter, (server, _) = metering(), servers
    first = meter.devices[0].uuid
    meter.watch("wide", pids_of(server))
    fake.processes(server.pid, {0: 4 * GIB, 1: 6 * GIB})
    time.sleep(SETTLED_S)
    assert (meter.held([server.pid]), meter.peak("wide")) == (10 * GIB, 10 * GIB)
    assert meter.by_device([server.pid]) == {first: 4 * GIB, second: 6 * GIB}
    total = device.find().devices[1].memory_bytes
    assert meter.free() == total - 6 * GIB - 600 * MIB
    assert meter.free(meter.devices[:1]) == total - 4 * GIB - 600 * MIB


def test_only_the_devices_named_are_looked_at(fake: FakeNvml, servers: Servers) -> None:
    """By UUID: what goes on beside them is nobody's business."""
    fake.gpu(1)
    fake.process(servers[0].pid, 0, 4 * GIB)
    with Meter(device.find().devices[1:]) as meter:
        meter.watch("tiny", pids_of(servers[0]))
        time.sleep(SETTLED_S)
        assert (meter.held([servers[0].pid]), meter.used()) == (0, meter.baseline)


@pytest.mark.parametrize("kind", ["graphics", "mps"])
def test_a_process_of_another_kind_counts_too(fake: FakeNvml, metering: Metering, kind: str) -> None:
    """A desktop, or a client of MPS, is in another list."""
    fake.process(STRANGER, 0, 3 * GIB, kind)
    assert metering().foreign_peak == 3 * GIB


def test_a_process_in_two_lists_counts_once(fake: FakeNvml, metering: Metering, servers: Servers) -> None:
    """With the larger figure."""
    (fake.path / "processes" / str(servers[0].pid)).write_text(f"0 {5 * GIB} compute\n0 {GIB} graphics\n")
    assert metering().held([servers[0].pid]) == 5 * GIB


def test_one_process_of_two_models_is_both_models(fake: FakeNvml, metering: Metering, servers: Servers) -> None:
    """A shared server is not the last one's alone."""
    meter, (server, _) = metering(), servers
    for name in ("one", "other"):
        meter.watch(name, pids_of(server))
    fake.process(server.pid, 0, 3 * GIB)
    time.sleep(SETTLED_S)
    assert (meter.peak("one"), meter.peak("other"), meter.held([server.pid])) == (3 * GIB, 3 * GIB, 3 * GIB)


@pytest.mark.parametrize(("code", "cause"), [
    (pynvml.NVML_ERROR_GPU_IS_LOST, "gpu-lost"), (pynvml.NVML_ERROR_RESET_REQUIRED, "gpu-needs-reset"),
    (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "driver-not-loaded"), (pynvml.NVML_ERROR_UNINITIALIZED, "driver-reloaded")])
def test_a_device_lost_in_mid_run_is_a_fault(fake: FakeNvml, metering: Metering, servers: Servers, code: int,
                                             cause: str) -> None:
    """What was seen stays, what is asked now is refused: 0 would look like memory given back."""
    meter, (server, _) = metering(), servers
    meter.watch("tiny", pids_of(server))
    fake.process(server.pid, 0, 5 * GIB)
    time.sleep(SETTLED_S)
    fake.fail("*", code)
    with pytest.raises(NvmlFault):
        meter.used()
    assert meter.fault.startswith(f"{cause}: ")
    for question in (meter.used, meter.free, meter.left, lambda: meter.held([server.pid]), lambda: meter.foreign([])):
        with pytest.raises(NvmlFault) as fault:
            question()
        assert (fault.value.cause, bool(fault.value.cure)) == (cause, True)
    with meter.phase("after"), meter.stretch() as stretch:
        time.sleep(0.1)
    readings = meter.cost.full_readings
    time.sleep(SETTLED_S)
    assert meter.cost.full_readings == readings
    meter.stop()
    assert (meter.peak("tiny"), meter.peak("tiny", "after"), stretch.energy_j) == (5 * GIB, None, None)


def test_permission_withdrawn_in_mid_run_is_a_fault(fake: FakeNvml, metering: Metering) -> None:
    """Of the memory, that is; of the list of processes it makes figures of the device."""
    meter = metering()
    fake.fail("nvmlDeviceGetComputeRunningProcesses_v3", pynvml.NVML_ERROR_NO_PERMISSION)
    assert eventually(lambda: meter.attribution == "device", 2)
    assert meter.fault == ""
    fake.fail("nvmlDeviceGetMemoryInfo", pynvml.NVML_ERROR_NO_PERMISSION)
    assert eventually(lambda: meter.fault.startswith("no-permission: "), 2)


def test_a_moment_without_an_answer_is_no_fault(fake: FakeNvml, metering: Metering) -> None:
    """A second of it is."""
    meter = metering()
    fake.fail("nvmlDeviceGetMemoryInfo", pynvml.NVML_ERROR_UNKNOWN)
    time.sleep(0.3)
    fake.heal()
    time.sleep(0.2)
    assert meter.fault == ""
    fake.fail("nvmlDeviceGetMemoryInfo", pynvml.NVML_ERROR_UNKNOWN)
    assert eventually(lambda: meter.fault.startswith("nvml-error: "), 4)


@pytest.mark.parametrize("function", ["nvmlInitWithFlags", "nvmlDeviceGetHandleByUUID", "nvmlDeviceGetMemoryInfo"])
def test_a_driver_that_was_replaced_refuses_the_start(fake: FakeNvml, function: str) -> None:
    """With the cure, and leaves no session open."""
    devices = device.find().devices
    fake.fail(function, pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)
    with pytest.raises(NvmlFault, match="mismatch") as fault:
        Meter(devices).start()
    assert (fault.value.cause, "restart the machine" in fault.value.cure) == ("driver-mismatch", True)
    with pytest.raises(pynvml.NVMLError_Uninitialized):
        pynvml.nvmlDeviceGetCount()


def test_a_group_whose_processes_cannot_be_told_is_a_fault(fake: FakeNvml, metering: Metering) -> None:
    """A thread's end would go unseen."""
    meter = metering()

    def broken() -> list[int]:
        raise OSError("no /proc")

    meter.watch("tiny", broken)
    assert eventually(lambda: meter.fault == "meter-broke: OSError: no /proc", 2)
    meter.watch("tiny", list)
