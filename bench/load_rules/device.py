"""The device: what the driver says of the first GPU, asked without any package."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

_MAJOR, _MINOR = 75, 76  # CUdevice_attribute


class NoDevice(Exception):
    """There is no GPU here; the words say what is missing."""


@dataclass(frozen=True)
class Device:
    """A GPU. `driver` is the driver's version, `cuda` the newest CUDA that it supports."""

    name: str
    capability: tuple[int, int]
    driver: str
    cuda: str


def first() -> Device:
    """The GPU that programs get. Raises NoDevice."""
    cuda = _library("libcuda.so.1")
    _expect(cuda.cuInit(0), "the driver finds no GPU")
    device, version, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(100)
    _expect(cuda.cuDeviceGet(ctypes.byref(device), 0), "the driver gives no GPU")
    _expect(cuda.cuDriverGetVersion(ctypes.byref(version)), "the driver does not tell its version")
    _expect(cuda.cuDeviceGetName(name, len(name), device), "the GPU has no name")
    capability = _attribute(cuda, _MAJOR, device), _attribute(cuda, _MINOR, device)
    release = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return Device(name.value.decode(), capability, _driver(), release)


def _attribute(cuda: ctypes.CDLL, number: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    _expect(cuda.cuDeviceGetAttribute(ctypes.byref(value), number, device), "the GPU does not tell what it is")
    return value.value


def _driver() -> str:
    management, version = _library("libnvidia-ml.so.1"), ctypes.create_string_buffer(80)
    _expect(management.nvmlInit_v2(), "NVML does not start")
    _expect(management.nvmlSystemGetDriverVersion(version, len(version)), "NVML does not tell the driver's version")
    return version.value.decode()


def _library(name: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(name)
    except OSError:
        raise NoDevice(f"there is no {name}, so no NVIDIA driver") from None


def _expect(code: int, otherwise: str) -> None:
    if code:
        raise NoDevice(f"{otherwise} (error {code})")
