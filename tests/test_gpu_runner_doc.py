"""docs/gpu-runner.md: what it tells a reader to type is understood, on a machine that has no GPU."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.gpus import VERSIONS

CHECKOUT = Path(__file__).resolve().parents[1]
TEXT = (CHECKOUT / "docs" / "gpu-runner.md").read_text(encoding="utf-8")
_LINES = re.findall(r"^(?:    |      - run: )(\./cotenant .+)$", TEXT, re.MULTILINE)
COMMANDS = [line.partition("#")[0].strip() for line in _LINES]
NEEDS_THE_CARD = (4, "profile rtx5090 (NVIDIA GeForce RTX 5090) needs its card: no NVIDIA GPU was found here")
# What each command comes to without a card: exit code, and words that are in what it prints.
EXPECTED = {
    "./cotenant doctor": (None, "no NVIDIA driver answers"),
    "--co -q": (0, "rtx5090/process/vllm/shapes/yi-6b/memory.plan"),
    "--estimate": (0, "GPU minutes; set-up not counted"),  # known without the card
    "--device 0,1": (4, "--device 0: there is no such device; no NVIDIA GPU was found here"),
    "--continue": (4, "leave --continue out to begin one"),
}
LONG = {'./cotenant run -m "rtx5090 and static"'}  # fetches the published wheels: told of in the README, run for releases


def expected(command: str) -> tuple[int | None, str]:
    """By the words that the command has."""
    return next((what for words, what in EXPECTED.items() if words in command), NEEDS_THE_CARD)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader's home with the two environments of step 3, as far as they can be told from outside."""
    home = tmp_path_factory.mktemp("home")
    for engine, version in VERSIONS.items():
        (home / engine / "bin").mkdir(parents=True)
        (home / engine / "bin" / "python").symlink_to("/usr/bin/true")
        (home / engine / "lib" / "python3" / "site-packages" / f"{engine}-{version}.dist-info").mkdir(parents=True)
    return home


def test_the_page_tells_what_to_type() -> None:
    """A page whose commands were not found by this test would pass it unread."""
    assert len(COMMANDS) >= 7
    assert sum("--engine-env" in command for command in COMMANDS) >= 3
    assert set(COMMANDS) >= LONG


@pytest.mark.parametrize("command", [command for command in dict.fromkeys(COMMANDS) if command not in LONG])
def test_a_command_of_the_page(command: str, home: Path, tmp_path: Path) -> None:
    """It is no mistake in the command: it works, or says that the card is missing, which here it is."""
    code, words = expected(command)
    typed = [word.replace("~/", f"{home}/").replace("$HOME/", f"{home}/") for word in shlex.split(command)]
    if "run" in typed:
        typed.append(f"--results={tmp_path}")
    done = subprocess.run(typed, cwd=CHECKOUT, capture_output=True, text=True, timeout=60,
                          env={**os.environ, "COLUMNS": "300", "LD_LIBRARY_PATH": ""})
    said = " ".join((done.stdout + done.stderr).split())
    assert code is None or done.returncode == code, said
    assert words in said


def test_the_table_of_failures_names_what_is_printed() -> None:
    """Every cause in the table stands in the code that would print it."""
    causes = {"device-occupied", "device-split", "device-lost", "device-shared", "on-the-cpu", "capacity-below-plan",
              "memory-left"}
    code = "".join(file.read_text(encoding="utf-8") for file in (CHECKOUT / "fixtures").rglob("*.py"))
    for cause in causes:
        assert cause in TEXT
        assert f'"{cause}"' in code
