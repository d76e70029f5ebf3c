"""What kernels.live sees of a device."""

from __future__ import annotations

import os
from pathlib import Path

from fixtures.gpu import device
from fixtures.gpu.meter import Meter
from fixtures.gpu.view import View
from tests.nvml import GIB, FakeNvml


def test_only_the_devices_that_a_model_was_put_on_count(tmp_path: Path) -> None:
    """A server that takes another card than it was given holds nothing where it should be."""
    fake = FakeNvml(tmp_path)
    for index in (0, 1):
        fake.gpu(index)
    with fake, Meter(device.find().devices) as meter:
        meter.watch("model", lambda: [os.getpid()])
        fake.process(os.getpid(), 0, 5 * GIB)
        first, second = ((card,) for card in meter.devices)
        assert View(meter, first, lambda: [os.getpid()]).held() == 5 * GIB
        assert View(meter, second, lambda: [os.getpid()]).held() == 0
        assert View(meter, meter.devices, lambda: [os.getpid()]).held() == 5 * GIB


def test_a_driver_that_tells_no_process_is_no_zero(tmp_path: Path) -> None:
    """Where NVML gives no figure by process nothing is known of the model's own memory."""
    fake = FakeNvml(tmp_path)
    fake.gpu(0, listing="na")
    with fake, Meter(device.find().devices) as meter:
        meter.watch("model", lambda: [os.getpid()])
        fake.process(os.getpid(), 0, 5 * GIB)
        assert View(meter, meter.devices, lambda: [os.getpid()]).held() is None
