"""What the user named goes through to the plan, and stands in the command that repeats a cell."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

from fixtures import lineup, options
from fixtures.engines.registry import engine
from fixtures.gpu import profile
from fixtures.place import Place
from fixtures.plan import Asked, parse_engine
from tests import runs

PLACE = Place(profile.committed()["h200"], "process", engine("vllm"), "0.26.0", lineup.load("trilingual")).at("api.contract")


def test_a_committed_lineup_is_repeated_by_its_name() -> None:
    """Nothing is added that was not asked for."""
    assert options.repeat(Asked(), PLACE) == "./cotenant run -m h200 --engine vllm --lineup trilingual -k api.contract"


def test_all_that_was_asked_for_is_repeated(tmp_path: Path) -> None:
    """A file by its path, one of two versions by its number, words that a shell takes as they are."""
    file = runs.lineup(tmp_path / "mine.toml")
    asked = Asked(device="GPU-1,GPU-2", environments={"vllm": "/opt/a b"}, arguments={"vllm": ("--x", "a 'b'", "$HOME")})
    place = replace(PLACE, lineup=lineup.load(str(file)), several=True)
    words = shlex.split(options.repeat(asked, place))
    assert words[4:8] == ["--engine", "vllm@0.26.0", "--lineup", str(file)]
    assert words[-3:-1] == ["--device=GPU-1,GPU-2", "--engine-env=vllm=/opt/a b"]
    name, _, line = words[-1].removeprefix("--engine-args=").partition("=")
    assert (name, shlex.split(line)) == ("vllm", ["--x", "a 'b'", "$HOME"])


def test_a_cell_of_a_compose_file_is_repeated_by_the_file(tmp_path: Path) -> None:
    """It is the lineup: another named beside it would be refused."""
    words = shlex.split(options.repeat(Asked(compose_file=tmp_path / "c.yaml", pull="never"), PLACE))
    assert "--lineup" not in words
    assert {f"--compose-file={tmp_path}/c.yaml", "--pull=never"} <= {*words}


def test_a_tag_that_is_no_version_names_an_image() -> None:
    """What is in it its server says; a digest goes through as one."""
    digest = "sha256:" + "a" * 64
    asked = Asked(engines=(parse_engine(f"vllm@{digest}"), parse_engine("sglang@nightly"), parse_engine("ollama@0.17.4")))
    assert asked.wishes.images == {"vllm": f"vllm/vllm-openai@{digest}", "sglang": "lmsysorg/sglang:nightly"}
