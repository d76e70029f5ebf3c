"""./cotenant: hands over to pytest and adds next to nothing; says in one sentence what it cannot do."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fixtures import doctor
from fixtures.setup import tool
from tests.launching import eventually
from tests.runs import CHECKOUT, Ended, lineup

# Stands in for the environment's Python: shows what it was started with, and from where.
SHOW = """#!/bin/sh
pwd
echo "yes=$COTENANT_YES from=$COTENANT_FROM"
for word in "$@"; do echo "$word"; done
exit 7
"""
CONFIGURED = ["-m", "pytest", "-c", "pyproject.toml", "-p", "fixtures.plugin"]


def cotenant(*words: str, checkout: Path = CHECKOUT, **options: Any) -> Ended:
    """Run the command of a checkout with this Python; what the command that runs these tests left is not passed on."""
    options.setdefault("env", {name: value for name, value in os.environ.items() if name != "COTENANT_FROM"})
    done = subprocess.run([sys.executable, str(checkout / "cotenant"), *words], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=60, check=False, **options)
    return Ended(done.returncode, done.stdout)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the command whose environment is there, with a Python that shows what it was given."""
    root = tmp_path / "checkout"
    shutil.copytree(CHECKOUT / "fixtures" / "setup", root / "fixtures" / "setup")
    for name in ("cotenant", "requirements.txt", "requirements-dev.txt"):
        shutil.copy(CHECKOUT / name, root / name)
    (root / "fixtures" / "__init__.py").touch()
    python = root / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(SHOW)
    python.chmod(0o755)
    stamp = subprocess.check_output(["sha256sum", "requirements.txt", "requirements-dev.txt"], cwd=root, text=True).split()
    (root / ".venv" / ".cotenant.json").write_text(
        f'{{"requirements.txt": "{stamp[0]}", "requirements-dev.txt": "{stamp[2]}"}}')
    return root


@pytest.mark.parametrize(("words", "code", "sentence"), [
    (["rnu"], 4, "cotenant: no command 'rnu'; did you mean 'run'?\n"),
    (["doctr"], 4, "cotenant: no command 'doctr'; did you mean 'doctor'?\n"),
    (["zzz"], 4, "cotenant: no command 'zzz'; there are: run, test, doctor, clean, report, gate, merge, "),
    (["-m", "cpu"], 4, "cotenant: no command '-m'"),
    (["fleet", "x"], 4, "cotenant: 'fleet' is not in this version\n"),
    (["fleet"], 4, "cotenant: 'fleet' is not in this version\n"),
    (["--help"], 0, "The one command:"),
    ([], 4, "The one command:"),
])
def test_words(words: list[str], code: int, sentence: str) -> None:
    """What is no command names the nearest one; help is help."""
    ended = cotenant(*words)
    assert ended.code == code
    assert ended.output.startswith(sentence)


@pytest.mark.parametrize(("words", "given"), [
    (["run", "-m", "cpu", "--yes"], [*CONFIGURED, "-m", "cpu"]),
    (["run", "-k", "a b"], [*CONFIGURED, "-k", "a b"]),
    (["test", "-x"], [*CONFIGURED, "-m", "not long", "tests", "-x"]),
    (["test", "--long"], [*CONFIGURED, "tests"]),
    (["test", "tests/test_x.py"], [*CONFIGURED, "-m", "not long", "tests/test_x.py"]),
    (["doctor"], ["-m", "fixtures.cli", "doctor"]),
    (["report", "results/latest"], ["-m", "fixtures.cli", "report", "results/latest"]),
])
def test_handing_over(checkout: Path, tmp_path: Path, words: list[str], given: list[str]) -> None:
    """The rest goes through unchanged, without --yes; the exit code is that of what was handed over to."""
    ended = cotenant(*words, checkout=checkout, cwd=tmp_path)
    folder, state, *seen = ended.output.splitlines()
    assert seen == given
    assert ended.code == 7
    assert state.startswith("yes=1 " if "--yes" in words else "yes= ")
    runs_pytest = words[0] in ("run", "test")
    assert folder == str(checkout if runs_pytest else tmp_path)
    assert state.endswith(f"from={tmp_path}" if runs_pytest else "from=")


def test_an_environment_that_cannot_be_made(checkout: Path, tmp_path: Path) -> None:
    """A registry that does not answer is one sentence with its cure and exit code 4."""
    uv = checkout / ".venv" / "bin" / "uv"
    uv.write_text("#!/bin/sh\necho 'error: Failed to fetch: http://127.0.0.1:9/'\nexit 2\n")
    uv.chmod(0o755)
    (checkout / "requirements-dev.txt").write_text("changed==1\n")
    ended = cotenant("test", checkout=checkout, env={**os.environ, "COTENANT_HOME": str(tmp_path / "home")})
    assert ended.code == 4
    assert ended.output.startswith("cotenant: environment: the package registry does not answer. check the network")
    assert len(ended.output.splitlines()) == 1
    assert cotenant("run", checkout=checkout).code == 7, "what needs less goes on as before"


def old_pythons() -> list[Path]:
    """Interpreters on this machine that are too old for cotenant."""
    folders = [Path("/usr/bin"), *Path.home().glob(".pyenv/versions/*/bin")]
    found = [folder / f"python3.{minor}" for minor in (7, 8, 9, 10) for folder in folders]
    return [python for python in found if python.exists()]


@pytest.mark.skipif(not old_pythons(), reason="no Python older than 3.11 is installed here")
def test_an_old_python() -> None:
    """An old Python is told what is needed, not a syntax error."""
    for python in old_pythons():
        done = subprocess.run([python, CHECKOUT / "cotenant", "run"], capture_output=True, text=True, check=False)
        assert done.returncode == 4
        assert done.stderr.startswith("cotenant: Python 3.11 or newer is needed, this is 3.")


@pytest.mark.parametrize(("found", "cure"), [("/usr/bin/python3.12", "run python3.12 "),
                                             (None, "apt install python3.11-venv")])
def test_an_old_python_is_told_the_new_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
                                          found: str | None, cure: str) -> None:
    """Where a newer one is installed it is named, else the package."""
    main = runpy.run_path(str(CHECKOUT / "cotenant"))["main"]
    monkeypatch.setattr(sys, "version_info", (3, 10, 1))
    monkeypatch.setattr(shutil, "which", lambda name: found if found and found.endswith(name) else None)
    assert main(["run"]) == 4
    assert cure in capsys.readouterr().err


def test_an_interrupt_while_the_environment_is_made(checkout: Path, monkeypatch: pytest.MonkeyPatch,
                                                    capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C is no traceback."""
    monkeypatch.setattr("fixtures.setup.checkout.ensure", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    monkeypatch.setattr(sys, "path", sys.path[:])
    assert runpy.run_path(str(CHECKOUT / "cotenant"))["main"](["run"]) == 2
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.skipif(not (CHECKOUT / ".venv" / ".cotenant.json").exists(), reason="the checkout has no environment yet")
def test_everything_in_place() -> None:
    """With everything there, the command adds less than a second to pytest."""
    python = CHECKOUT / ".venv" / "bin" / "python"
    cotenant("run", "--version")  # what had to be made is made
    ours = seconds([sys.executable, str(CHECKOUT / "cotenant"), "run", "--version"])
    theirs = seconds([str(python), "-m", "pytest", "--version"])
    assert ours - theirs < 1.0


def seconds(words: list[str]) -> float:
    """Processor time, which other work on the machine does not stretch; the command waits for nothing."""
    before = os.times()
    subprocess.run(words, cwd=CHECKOUT, check=True, capture_output=True, timeout=60)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def test_paths_begin_where_the_user_is(tmp_path: Path) -> None:
    """Relative files of a user who is elsewhere are found, although pytest runs in the checkout."""
    lineup(tmp_path / "own.toml")
    (tmp_path / "env").mkdir()
    ended = cotenant("run", "--lineup", "own.toml", "--engine-env", "llamacpp=env", "--results", "env", "--co", "-q",
                     "-m", "startup", cwd=tmp_path)
    assert ended.code == 0, ended.output
    assert ended.ids == ["cpu/process/llamacpp/own/small/startup.ready", "cpu/process/llamacpp/own/small/startup.identity"]


def test_the_doctor(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every part of the machine has its line; a home that is not there yet is no obstacle and is not made."""
    monkeypatch.setenv("COTENANT_HOME", str(tmp_path / "new" / "home"))
    monkeypatch.setenv("COLUMNS", "300")
    assert doctor.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    named = {line.split()[0]: line for line in lines if line.strip()}
    assert {"python", "processor", "memory", "disk", "/dev/shm", "llamacpp", "ollama", "vllm", "sglang", "gcc", "g++", "go",
            "gpu", "docker", "compose"} <= named.keys()
    assert "./cotenant run -m cpu --engine vllm" in named["vllm"]
    assert not (tmp_path / "new").exists()


def test_the_doctor_says_what_is_lost(capsys: pytest.CaptureFixture[str], tmp_path: Path,
                                      monkeypatch: pytest.MonkeyPatch) -> None:
    """What the cpu job cannot do without is `missing` with its cure, and the exit code is 1."""
    monkeypatch.setenv("COTENANT_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr("fixtures.machine.memory_gib", lambda: 2.0)
    assert doctor.main([]) == 1
    printed = capsys.readouterr().out
    assert any(line.split()[:2] == ["memory", "missing"] and "2.0 GiB" in line for line in printed.splitlines())
    assert any(line.split()[:2] == ["gcc", "missing"] and "apt install build-essential" in line
               for line in printed.splitlines())


def test_a_tool_dies_with_its_caller(tmp_path: Path) -> None:
    """What a tool started goes, too, when the process that waits for it is killed."""
    child = tmp_path / "child"
    code = (f"import sys; sys.path.insert(0, {str(CHECKOUT)!r}); from fixtures.setup import tool; "
            f"tool.run(['sh', '-c', 'sleep 600 & echo $! > {child}; wait'], 'test')")
    caller = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "COTENANT_HOME": str(tmp_path)})
    assert eventually(lambda: child.exists() and child.read_text().strip())
    pid = child.read_text().strip()
    assert Path("/proc", pid).exists()
    caller.kill()
    caller.wait()
    assert eventually(lambda: not Path("/proc", pid).exists())


def test_a_tools_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both streams come back and go to the log, with the command; a tool reads nothing."""
    monkeypatch.setenv("COTENANT_HOME", str(tmp_path))
    assert tool.run(["sh", "-c", "cat; echo one; echo two >&2"], "a test") == "one\ntwo\n"
    assert (tmp_path / "logs" / "a-test.log").read_text().startswith("$ sh -c")
