"""The devices are as their driver describes them, what it does not tell is not made up, and the choice is never silent."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pynvml
import pytest

from fixtures import doctor
from fixtures.configuration import ConfigurationError
from fixtures.gpu import clocks, device, profile, unified, xid
from tests.nvml import GB10, H200, RTX5090, FakeNvml

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeNvml]:
    """An NVML without devices, in the place of this machine's own."""
    with FakeNvml(tmp_path / "nvml") as installed:
        yield installed


def test_a_card_is_as_its_driver_describes_it(fake: FakeNvml) -> None:
    """Every fact by its own name and in its unit."""
    uuid = fake.gpu(0, throttle=0x44, clock_sm=1980)
    found = device.find()
    assert (found.driver, found.cuda, found.refusal) == ("580.95.05", "13.0", "")
    (card,) = found.devices
    assert (card.index, card.uuid, card.name, card.capability) == (0, uuid, "NVIDIA H200", "9.0")
    assert card.memory_bytes == H200["memory_total"]
    assert (card.persistence, card.ecc, card.mig, card.unified) == (True, True, False, False)
    assert (card.sm_clock, card.sm_clock_max, card.memory_clock) == (1980, 1980, 3201)
    assert (card.power_limit_w, card.pcie, card.temperature_c) == (700.0, "gen 5 x16", 28)
    assert card.throttle == ("power cap", "heat (hardware)")


def test_what_is_not_told_is_left_out(fake: FakeNvml) -> None:
    """N/A is neither 0 nor off."""
    fake.gpu(0, RTX5090, temperature="N/A", power_limit="N/A", pcie_gen_max="N/A", persistence="N/A", throttle="N/A")
    facts = device.find().devices[0].facts()
    assert not facts.keys() & {"temperature_c", "power_limit_w", "pcie", "persistence", "ecc"}
    assert facts["throttle"] == []
    assert facts["memory_gib"] == pytest.approx(31.84, abs=0.01)


def test_idling_holds_nothing_back() -> None:
    """The driver has a reason for every clock below the highest, and this one is none."""
    assert clocks.reasons(1) == ()
    assert all(clocks.reasons(bit) for bit in (2, 4, 8, 16, 32, 64, 128, 256))


def test_shared_memory_is_the_machines_own_and_said_so(fake: FakeNvml) -> None:
    """A GB10 has none that its driver could count."""
    fake.gpu(0, GB10)
    (card,) = device.find().devices
    assert card.unified
    assert card.memory_bytes == unified.total_bytes() == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert "shared with the processor" in card.words


@pytest.mark.parametrize("code", [pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_UNKNOWN, pynvml.NVML_ERROR_NO_PERMISSION])
def test_memory_that_cannot_be_asked_is_not_taken_for_shared(fake: FakeNvml, code: int) -> None:
    """Only a card that has none of its own is."""
    fake.gpu(0)
    fake.fail("nvmlDeviceGetMemoryInfo", code)
    found = device.find()
    assert found.devices == ()
    assert "device 0 does not answer" in found.words


def test_a_lost_card_does_not_hide_the_others(fake: FakeNvml) -> None:
    """It is named, they keep their indices."""
    for index in range(3):
        fake.gpu(index)
    fake.fail("nvmlDeviceGetHandleByIndex_v2", pynvml.NVML_ERROR_GPU_IS_LOST, index=1)
    found = device.find()
    assert [card.index for card in found.devices] == [0, 2]
    assert "device 1 does not answer (GPU is lost)" in found.words
    with pytest.raises(ConfigurationError, match=r"no such device.*device 1 does not answer"):
        found.chosen("1")


@pytest.mark.parametrize(("code", "cause"), [
    (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "driver-mismatch"),
    (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "driver-not-loaded"),
    (pynvml.NVML_ERROR_NO_PERMISSION, "no-permission"), (pynvml.NVML_ERROR_UNKNOWN, "nvml-error")])
@pytest.mark.parametrize("function", ["nvmlInitWithFlags", "nvmlDeviceGetCount_v2"])
def test_nvml_that_refuses_is_told_with_cause_and_cure(fake: FakeNvml, function: str, code: int, cause: str) -> None:
    """And never an exception: a run on the CPU does not care."""
    fake.gpu(0)
    fake.fail(function, code)
    found = device.find()
    assert (found.devices, found.cause) == ((), cause)
    assert found.cure
    assert "no NVIDIA GPU was found here" in found.words
    with pytest.raises(ConfigurationError, match="no NVIDIA GPU was found here"):
        found.chosen("0")


def test_the_library_is_found_as_a_driver_installs_it(tmp_path: Path) -> None:
    """pynvml's own way to it, in a process of its own."""
    fake = FakeNvml(tmp_path / "nvml")
    fake.gpu(0, RTX5090)
    code = "from fixtures.gpu import device; print(device.find().words)"
    said = subprocess.run([sys.executable, "-c", code], env={**os.environ, **fake.env}, cwd=ROOT, capture_output=True,
                          text=True, timeout=60, check=True)
    assert said.stdout == "found here: NVIDIA GeForce RTX 5090\n"


def test_a_profile_finds_its_own_cards(fake: FakeNvml) -> None:
    """By name, and the driver counts only where it drives such a card."""
    fake.gpu(0)
    fake.gpu(1, RTX5090)
    found, known = device.find(), profile.committed()
    assert [card.index for card in found.of(known["rtx5090"])] == [1]
    assert found.driver_of(known["h200"]) == 580
    assert found.driver_of(known["rtx4090"]) is None


@pytest.mark.parametrize(("text", "indices"), [
    ("0", [0]), ("1,0", [1, 0]), ("GPU-10a1b2c3-1111-2222-3333-444455556661", [1]), ("GPU-1", [1]), ("gpu-00A1, 1", [0, 1])])
def test_a_device_is_chosen_by_index_or_uuid(fake: FakeNvml, text: str, indices: list[int]) -> None:
    """In the order named."""
    fake.gpu(0)
    fake.gpu(1)
    assert [card.index for card in device.find().chosen(text)] == indices


@pytest.mark.parametrize(("text", "sentence"), [
    ("2", "no such device"), ("-1", "no such device"), ("", "no such device"), ("0,", "no such device"),
    ("GPU-", "no such device"), ("GPU-ffff", "no such device"), ("GPU-a", "2 devices begin so"),
    ("MIG-a0a1b2c3", "not measured"), ("0,GPU-a0", "twice")])
def test_a_choice_that_names_no_one_device_is_refused(fake: FakeNvml, text: str, sentence: str) -> None:
    """With what is here, so that the next try can be right."""
    fake.gpu(0, uuid="GPU-a0a1b2c3-1111")
    fake.gpu(1, uuid="GPU-a1a1b2c3-1111")
    with pytest.raises(ConfigurationError, match=sentence) as refusal:
        device.find().chosen(text)
    assert "GPU-a0a1b2c3-1111" in str(refusal.value)


def test_errors_in_the_kernel_log_are_those_of_the_card(tmp_path: Path) -> None:
    """By its address, however many zeros; a log that may not be read tells nothing."""
    log = tmp_path / "kmsg"
    log.write_text("6,1,1,-;NVRM: loading NVIDIA UNIX Open Kernel Module\n"
                   "4,2,2,-;NVRM: Xid (PCI:0000:4e:00): 31, pid=1234, name=python, Ch 00000008\n"
                   "4,3,3,-;NVRM: Xid (PCI:0000:4f:00): 13, Graphics Exception\n"
                   "4,4,4,-;NVRM: Xid (PCI:0000:4e:00): 79, GPU has fallen off the bus.\n")
    assert xid.since_boot("00000000:4E:00.0", str(log)) == (31, 79)
    assert xid.since_boot("00000000:50:00.0", str(log)) == ()
    assert xid.since_boot("00000000:4E:00.0", str(tmp_path / "none")) is None
    assert xid.since_boot("?", str(log)) == ()


def doctors_words(fake: FakeNvml) -> dict[str, str]:
    """State, facts and cure of every line about GPUs."""
    device.find.cache_clear()
    return {finding.found: f"{finding.state} {finding.cure}" for finding in doctor._gpu()}


def test_the_doctor_prints_the_facts(fake: FakeNvml) -> None:
    """Which card, which marker runs on it, and what holds it back."""
    fake.gpu(0, RTX5090, throttle=0x20)
    fake.gpu(1, mig=1)
    fake.gpu(2)
    fake.fail("nvmlDeviceGetHandleByIndex_v2", pynvml.NVML_ERROR_GPU_IS_LOST, index=2)
    driver, desktop, split, lost = doctors_words(fake).items()
    assert driver[0] == "580.95.05, CUDA up to 13.0"
    for words in ("RTX 5090", "32 GiB", "-m rtx5090", "575 W", "PCIe gen 5 x16", "persistence off", "compute 12.0", "GPU-0",
                  "held back by heat (driver)"):
        assert words in desktop[0]
    assert desktop[1].startswith("ok nvidia-smi -i 0 -pm 1")
    assert split[1] == "missing nvidia-smi -i 1 -mig 0"
    assert lost[0] == "device 2 does not answer (GPU is lost)"


def test_the_doctor_tells_a_broken_driver_from_none(fake: FakeNvml) -> None:
    """One is to be cured, the other is not needed."""
    fake.fail("nvmlInitWithFlags", pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)
    ((words, rest),) = doctors_words(fake).items()
    assert "version mismatch" in words
    assert rest.startswith("missing the driver was updated")
    fake.fail("nvmlInitWithFlags", pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
    ((_, rest),) = doctors_words(fake).items()
    assert rest.startswith("- load the driver")
