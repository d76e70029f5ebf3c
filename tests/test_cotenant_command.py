"""A bare machine that lacks something: the command says so in one sentence and makes nothing that looks finished."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import CHECKOUT


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """As much of a checkout as the command needs before its environment is there."""
    root = tmp_path / "clone"
    shutil.copytree(CHECKOUT / "fixtures" / "setup", root / "fixtures" / "setup",
                    ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("cotenant", "requirements.txt", "requirements-dev.txt", "fixtures/__init__.py"):
        shutil.copy(CHECKOUT / name, root / name)
    return root


def refused(clone: Path, **variables: str) -> str:
    done = subprocess.run([sys.executable, "-B", clone / "cotenant", "doctor"], capture_output=True, text=True, timeout=60,
                          env={**os.environ, "COTENANT_HOME": str(clone.parent / "home"), **variables})
    assert done.returncode == 4, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def test_python_without_venv(clone: Path, tmp_path: Path) -> None:
    """Debian's python3 without python3-venv has no ensurepip: the package to install is named."""
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda name, *_: None if name == 'ensurepip' else find(name)\n")
    assert "-venv" in refused(clone, PYTHONPATH=str(tmp_path))


def test_a_full_disk(clone: Path, tmp_path: Path) -> None:
    """A disk that is full in the middle of it: one sentence. (A small file system of its own; needs root.)"""
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", small], capture_output=True).returncode != 0:
        pytest.skip("no right to mount a file system here")
    try:
        inside = Path(shutil.copytree(clone, small / "clone"))
        assert "full" in refused(inside, COTENANT_HOME=str(tmp_path / "home"))
    finally:
        subprocess.run(["umount", "-l", small], check=True)
