"""Cleaning removes what is over, and nothing that is in use or finished."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures import clean
from fixtures.launchers import stray
from fixtures.setup import lock
from tests.launching import SLEEP, Launcher, program


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a half-made engine, a finished one, the scratch of a run that is over, and a cache."""
    monkeypatch.setenv("COTENANT_HOME", str(tmp_path))
    for folder in ("engines/vllm-1.0/lib", "engines/llamacpp-1.0", "runs/over/engine-1", "cache/uv", "store", "logs"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "engines" / "llamacpp-1.0" / ".cotenant.json").write_text('{"build": ""}')
    monkeypatch.setattr(stray, "strays", list)  # what other runs on this machine left is theirs
    return tmp_path


def left(home: Path) -> set[str]:
    return {str(folder.relative_to(home)) for parent in (home, home / "engines", home / "runs") if parent.is_dir()
            for folder in parent.iterdir()}


def test_a_dry_run_removes_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It lists what would go."""
    before = left(home)
    assert clean.main(["--dry-run"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert sorted(printed) == [f"would remove {home}/engines/vllm-1.0 (half-made engine)",
                               f"would remove {home}/runs/over (scratch of a run that is over)"]
    assert left(home) == before


def test_what_is_over_goes(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A half-made engine and old scratch go; finished engines and caches stay; a second time there is nothing."""
    assert clean.main([]) == 0
    assert left(home) == {"engines", "engines/llamacpp-1.0", "runs", "cache", "store", "logs"}
    capsys.readouterr()
    assert clean.main([]) == 0
    assert capsys.readouterr().out == "nothing was left behind\n"


def test_all_goes_when_asked(home: Path) -> None:
    """--engines and --cache remove what would have to be fetched again."""
    assert clean.main(["--engines", "--cache"]) == 0
    assert left(home) == {"engines", "runs"}


def test_a_living_run_keeps_its_scratch(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a server of a run that goes on uses is left alone."""
    start = Launcher(tmp_path)
    try:
        start(program(SLEEP))
        (home / "runs" / "test-run").mkdir()
        clean.main([])
        assert left(home) >= {"runs/test-run"}
        assert "runs/over" not in left(home)
    finally:
        start.close()


def test_an_engine_that_is_being_set_up(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A half-made engine whose lock is held is somebody's work."""
    with lock.held(home / "locks" / "vllm-1.0.lock", print, "vllm"):
        clean.main([])
        assert "engines/vllm-1.0" in left(home)
    clean.main([])
    assert "engines/vllm-1.0" not in left(home)
