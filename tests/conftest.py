"""What several tests share: real llama.cpp servers, and a device that is not there."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from fixtures import setup
from fixtures.engines.base import Served
from fixtures.engines.registry import engine
from fixtures.gpu import device
from fixtures.gpu.meter import Meter
from fixtures.launchers.attest import occupied
from fixtures.launchers.process import ProcessHandle, launch
from fixtures.lineup import ModelEntry
from fixtures.load.client import Client
from fixtures.models.folder import ModelFolder
from tests.metering import Metering, Servers, sleepers
from tests.nvml import FakeNvml

MODELS = Path(__file__).resolve().parent.parent / "fixtures" / "models"
NAMES = ("trilingual-2m", "trilingual-4m", "trilingual-8m")

# A shell starts its background jobs with SIGINT ignored, and so would be every run that these tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class LlamaServers:
    """A healthy llama.cpp server for each of the repository's models."""

    urls: dict[str, str]

    def url(self, model: str) -> str:
        """Base URL of one model's server."""
        return self.urls[model]


@pytest.fixture(scope="session")
def llama_environment() -> setup.Environment:
    """llama.cpp as a run has it; set up if need be."""
    return setup.ensure("llamacpp", setup.DEFAULT_VERSIONS["llamacpp"], print)


@pytest.fixture(scope="session")
def llama_server(tmp_path_factory: pytest.TempPathFactory, llama_environment: setup.Environment) -> Iterator[LlamaServers]:
    """Real servers, one per model, for as long as the tests run."""
    folder = tmp_path_factory.mktemp("llama")
    with ExitStack() as stack:
        handles = {name: stack.enter_context(_start(name, folder, llama_environment)) for name in NAMES}
        for name, handle in handles.items():
            _wait(name, handle)
        yield LlamaServers({name: handle.url for name, handle in handles.items()})


def _start(name: str, folder: Path, environment: setup.Environment) -> ProcessHandle:
    model = ModelFolder(MODELS / name)
    served = Served(ModelEntry(name=name), model, str(model.path), {})
    command = engine("llamacpp").command(environment, [served], setup.home() / "store")
    return launch(command, name=name, log=folder / f"{name}.log", scratch_root=folder, run_id="tests")


def _wait(name: str, handle: ProcessHandle) -> None:
    """Until it answers: while it loads, its port is closed, then open with a 503 behind it."""
    deadline, answer = time.monotonic() + 60, None
    while handle.running() and time.monotonic() < deadline:
        answer = Client(handle.url, name).chat("Hello!", max_tokens=2) if occupied(handle.port) else None
        if answer and answer.ok:
            return
        handle.wait(0.05)
    pytest.fail(f"{name} did not start: {answer.message if answer else 'its port stayed closed'}; see {handle.log}")


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeNvml]:
    """One idle H200, in the place of this machine's own NVML."""
    with FakeNvml(tmp_path / "nvml") as installed:
        installed.gpu(0)
        yield installed


@pytest.fixture
def servers() -> Iterator[Servers]:
    """Two processes to hold memory."""
    with sleepers() as born:
        yield born


@pytest.fixture
def metering(fake: FakeNvml) -> Iterator[Metering]:
    """Starts a meter of all devices there are."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(Meter(device.find().devices))
