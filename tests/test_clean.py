"""Cleaning removes what is over, and nothing that is in use or finished."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from fixtures import clean
from fixtures.docker import garbage
from fixtures.docker.daemon import Daemon
from fixtures.docker.labels import PID, labels
from fixtures.launchers import stray
from fixtures.setup import lock
from tests import containers, docker_engine
from tests.containers import Containers
from tests.launching import SLEEP, Launcher, program


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a half-made engine, a finished one, the scratch of a run that is over, and a cache."""
    monkeypatch.setenv("COTENANT_HOME", str(tmp_path))
    for folder in ("engines/vllm-1.0/lib", "engines/llamacpp-1.0", "runs/over/engine-1", "cache/uv", "store", "logs"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "engines" / "llamacpp-1.0" / ".cotenant.json").write_text('{"build": ""}')
    # What other runs on this machine left is theirs.
    monkeypatch.setattr(stray, "strays", list)
    monkeypatch.setattr(garbage, "find", lambda docker: [])
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


@pytest.fixture
def left_behind(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Daemon, str]]:
    """A container, a network and a volume of a run whose pytest is gone."""
    engine, run = docker_engine.engine(), f"test-{uuid4().hex[:12]}"
    marks = {**labels(run, "small"), PID: "4194304"}
    image = docker_engine.python_image(engine)
    engine.client.api.create_container(image.id, ["true"], name=run, labels=marks)
    engine.client.networks.create(run, labels=marks)
    engine.client.volumes.create(run, labels=marks)
    monkeypatch.setattr(garbage, "find", lambda docker: [each for each in garbage.labelled(docker, run) if each.owner.gone])
    yield engine, run
    garbage.remove(engine, garbage.labelled(engine, run))


def test_what_a_run_left_at_the_docker_engine(left_behind: tuple[Daemon, str], capsys: pytest.CaptureFixture[str]) -> None:
    """Listed first, with whose it was; then removed, containers before what they use."""
    engine, run = left_behind
    lines = [f"container {run} (small) of run {run}, created", f"network {run} (small) of run {run}",
             f"volume {run} (small) of run {run}"]
    assert clean.main(["--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines()[:3] == [f"would remove {line}" for line in lines]
    assert len(garbage.labelled(engine, run)) == 3
    assert clean.main([]) == 0
    assert capsys.readouterr().out.splitlines()[:3] == [f"removing {line}" for line in lines]
    assert garbage.labelled(engine, run) == []


def test_what_cannot_be_removed_is_said(left_behind: tuple[Daemon, str], capsys: pytest.CaptureFixture[str]) -> None:
    """A volume that a stranger's container uses stays, with the daemon's reason."""
    engine, run = left_behind
    mounted = engine.client.api.create_host_config(binds=[f"{run}:/x"])
    image = docker_engine.python_image(engine)
    stranger = engine.client.api.create_container(image.id, ["true"], host_config=mounted)
    try:
        clean.main([])
        assert f"not removed: volume {run} (small) of run {run}: " in capsys.readouterr().out
        assert [found.kind for found in garbage.labelled(engine, run)] == ["volume"]
    finally:
        engine.client.api.remove_container(stranger["Id"], force=True)


def test_a_living_run_with_containers_keeps_its_scratch(home: Path) -> None:
    """Its pytest lives, and has no process of its own here."""
    engine = docker_engine.engine()
    start = Containers(home, engine, docker_engine.python_image(engine))
    try:
        start(containers.program(SLEEP))
        clean.main([])
        assert left(home) >= {f"runs/{start.run}"}
        assert "runs/over" not in left(home)
        assert start.left
    finally:
        start.close()


def test_where_docker_is_absent_nothing_is_said(home: Path, monkeypatch: pytest.MonkeyPatch,
                                                capsys: pytest.CaptureFixture[str]) -> None:
    """It holds nothing then."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{home}/none")
    assert clean.main(["--dry-run"]) == 0
    assert "ocker" not in capsys.readouterr().out.replace(str(home), "")
