"""Set-up makes whole environments or none, and says in one sentence why it cannot."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from fixtures.launchers import proc
from fixtures.setup import Environment, SetupFailed, engines, ensure, environment, find, tool
from tests.launching import eventually
from tests.tiny import PATCHED, Registry

ENSURE = PATCHED + "print(engines.ensure(sys.argv[2], sys.argv[3], say).root, flush=True)"
ENSURE_ALL = PATCHED + "engines.ensure_all([(sys.argv[2], sys.argv[3]), ('vllm', sys.argv[3])], say)"


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    found = Registry(tmp_path)
    found.lock("llamacpp", "1.0")
    found.lock("vllm", "1.0")
    found.use(monkeypatch)
    return found


@pytest.fixture
def silence() -> Iterator[socket.socket]:
    """A registry that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        yield server


def begin(registry: Registry, program: str = ENSURE, **variables: str) -> subprocess.Popen[str]:
    """Set llama.cpp 1.0 up in a process of its own."""
    return subprocess.Popen([sys.executable, "-c", program, str(registry.locks), "llamacpp", "1.0"],
                            env={**os.environ, **variables}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def hanging(silence: socket.socket) -> dict[str, str]:
    """Settings with which a set-up hangs until its time is up."""
    return {"PIP_INDEX_URL": f"http://127.0.0.1:{silence.getsockname()[1]}", "PIP_NO_INDEX": "", "PIP_FIND_LINKS": ""}


def tools(registry: Registry) -> list[int]:
    """Processes that work on this registry's home."""
    return [pid for pid in proc.all_pids() if str(registry.home) in proc.command_line(pid, 10_000)]


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_an_environment_is_made_once(registry: Registry) -> None:
    """The first call makes it, with the engine inside; the second finds it and says nothing."""
    told: list[str] = []
    made = ensure("llamacpp", "1.0", told.append)
    assert made.python is not None
    inside = subprocess.run([made.python, "-c", "import tiny; print(tiny.VERSION)"], capture_output=True, text=True)
    assert inside.stdout == "1.0\n"
    assert "ready after" in told[-1]
    told.clear()
    assert ensure("llamacpp", "1.0", told.append) == made
    assert not told


def test_an_environment_follows_its_lock(registry: Registry) -> None:
    """Another lock, or an interpreter that is gone, makes it unfinished."""
    made = ensure("llamacpp", "1.0", print)
    registry.wheel("extra", "2.0")
    registry.lock("llamacpp", "1.0", "tiny==1.0", "extra==2.0")
    assert find("llamacpp", "1.0") is None
    ensure("llamacpp", "1.0", print)
    assert list(made.root.glob("lib/*/site-packages/extra.py"))
    assert made.python is not None
    made.python.unlink()
    assert find("llamacpp", "1.0") is None


def test_another_version_stands_beside(registry: Registry) -> None:
    """A version without a lock of its own is asked what it needs; what is of no use on a CPU is left out."""
    registry.wheel("helper", "3.0")
    registry.wheel("tiny", "1.1", requires=("helper>=2", "flashinfer-python==9", "fancy ; extra == 'more'"))
    made = {version: ensure("llamacpp", version, print) for version in ("1.0", "1.1")}
    assert made["1.0"].root != made["1.1"].root
    assert "VERSION = '1.1'" in module(made["1.1"]).read_text()
    assert "VERSION = '1.0'" in module(made["1.0"]).read_text()
    assert module(made["1.1"], "helper")
    assert "resolved" in made["1.1"].build
    assert find("llamacpp", "1.1") == made["1.1"]


def test_another_version_that_nobody_has(registry: Registry) -> None:
    """It is refused as such."""
    assert "has no such version" in refusal(version="9.9").reason


def module(made: Environment, name: str = "tiny") -> Path:
    return next(made.root.glob(f"lib/*/site-packages/{name}.py"))


def test_shared_files_are_stored_once(registry: Registry) -> None:
    """The same file of two environments is one file with two names."""
    made = engines.ensure_all([("llamacpp", "1.0"), ("vllm", "1.0")], print)
    one, other = (module(found) for found in made.values() if isinstance(found, Environment))
    assert one != other
    assert one.stat().st_ino == other.stat().st_ino


@pytest.mark.parametrize("offered", [True, False])
def test_a_cpu_build_is_preferred(registry: Registry, offered: bool) -> None:
    """Where a CPU build of PyTorch is offered, what only the CUDA build needs is left out; else all is taken."""
    registry.wheel("torch", environment.TORCH)
    registry.wheel("nvidia-cublas", "13.0")
    if offered:
        registry.wheel("torch", f"{environment.TORCH}+cpu")
    registry.lock("vllm", "1.0", "tiny==1.0", f"torch=={environment.TORCH}", "nvidia-cublas==13.0")
    made = ensure("vllm", "1.0", print)
    assert ("+cpu" in module(made, "torch").read_text()) is offered
    assert bool(list(made.root.glob("lib/*/site-packages/nvidia_cublas.py"))) is not offered
    assert ("CUDA build" in made.build) is not offered


def test_a_killed_set_up_is_no_environment(registry: Registry, silence: socket.socket) -> None:
    """SIGKILL in the middle leaves no process and nothing that is taken for finished; the next one makes it anew."""
    process = begin(registry, **hanging(silence))
    connection, _ = silence.accept()
    root = environment.folder("llamacpp", "1.0")
    assert root.exists()
    (root / "half").touch()
    assert tools(registry), "the tool that is to die with it was not found"
    process.kill()
    assert eventually(lambda: not tools(registry))
    connection.close()
    assert find("llamacpp", "1.0") is None
    assert ensure("llamacpp", "1.0", print).root == root
    assert not (root / "half").exists()


def test_an_interrupted_set_up_ends_at_once(registry: Registry, silence: socket.socket) -> None:
    """Ctrl-C does not wait for the tools, does not begin with the next engine and leaves no process."""
    process = begin(registry, ENSURE_ALL, **hanging(silence))
    connection, _ = silence.accept()
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=10)
    connection.close()
    assert process.returncode != 0
    assert "KeyboardInterrupt" in output
    assert "vllm 1.0: installing" not in output
    assert eventually(lambda: not tools(registry))
    assert find("llamacpp", "1.0") is None


def test_two_at_once_wait_for_each_other(registry: Registry, silence: socket.socket) -> None:
    """The second says that it waits, and goes on when the first is gone."""
    first = begin(registry, **hanging(silence))
    connection, _ = silence.accept()
    second = begin(registry)
    assert said(second) == "llamacpp 1.0: somebody else is setting it up; waiting\n"
    assert second.poll() is None
    first.kill()
    output, _ = second.communicate(timeout=30)
    connection.close()
    assert output.splitlines()[-1] == str(environment.folder("llamacpp", "1.0"))
    assert find("llamacpp", "1.0") is not None


def test_two_at_once_make_it_once(registry: Registry) -> None:
    """Both end with the same environment; only one of them installs."""
    both = [begin(registry) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert sum("installing" in output for output in outputs) == 1


def refusal(engine: str = "llamacpp", version: str = "1.0") -> SetupFailed:
    with pytest.raises(SetupFailed) as caught:
        ensure(engine, version, print)
    assert find(engine, version) is None
    return caught.value


def test_no_connection(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that refuses connections is named as such, with what to look at."""
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    found = refusal()
    assert found.reason == "llamacpp 1.0: the package registry does not answer"
    assert "pip config list" in found.cure


def test_no_answer(registry: Registry, silence: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that takes the connection and never answers is no different; and no CUDA build is fetched for it."""
    registry.lock("vllm", "1.0", "tiny==1.0", f"torch=={environment.TORCH}")
    for name, value in {**hanging(silence), "UV_HTTP_TIMEOUT": "1", "UV_HTTP_RETRIES": "0"}.items():
        monkeypatch.setenv(name, value)
    assert "the package registry does not answer" in refusal("vllm").reason


def test_no_such_version(registry: Registry) -> None:
    """A version that the registry does not have is not blamed on the network."""
    registry.lock("llamacpp", "9.9", "tiny==9.9")
    assert "has no such version" in refusal(version="9.9").reason


def test_a_full_disk(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little room is said before anything is fetched, with both figures."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Mock(free=2**26))
    found = refusal("vllm")
    assert found.reason == f"vllm 1.0: 5.5 GB are needed at {registry.home}, 0.1 GB are free"
    assert "COTENANT_HOME" in found.cure


def test_a_home_that_cannot_be_written(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home inside a file is a refusal, not a traceback, and does not keep the others."""
    blocked = registry.home.parent / "file"
    blocked.touch()
    monkeypatch.setenv("COTENANT_HOME", str(blocked / "home"))
    outcome = engines.ensure_all([("llamacpp", "1.0")], print)["llamacpp", "1.0"]
    assert isinstance(outcome, SetupFailed)
    assert str(blocked) in outcome.reason


def test_one_failure_does_not_keep_the_others(registry: Registry) -> None:
    """Side by side, the one that cannot be set up is told and the other is made."""
    registry.lock("vllm", "1.0", "absent==9.9")
    told: list[str] = []
    made = engines.ensure_all([("vllm", "1.0"), ("llamacpp", "1.0")], told.append)
    assert isinstance(made["vllm", "1.0"], SetupFailed)
    assert isinstance(made["llamacpp", "1.0"], Environment)
    assert any("no such version" in line for line in told)


def test_no_compiler(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ollama without gcc: the command that cures it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    found = refusal("ollama")
    assert found.reason == "ollama 1.0: building it needs gcc and g++"
    assert "apt install build-essential" in found.cure


def test_letting_go_twice_harms_nobody(registry: Registry) -> None:
    """Of two tools that end at the same time neither closes what the other has opened meanwhile."""
    _, number = os.pipe()
    rope = os.fdopen(number, "wb", buffering=0)
    tool._let_go(rope)
    again = os.dup(0)
    assert again <= number, "the number was to be given out again"
    os.dup2(again, number)
    tool._let_go(rope)
    os.fstat(number)
    os.close(number)
