"""What is asked for becomes cells, or exit code 4 with a sentence before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures import plan
from fixtures.configuration import ConfigurationError
from fixtures.place import Place
from fixtures.plan import Asked
from tests.runs import Ended, lineup, several

VERSIONS = {"llamacpp": "1", "vllm": "2"}


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """Command lines that cannot be run here, by what is wrong with them."""
    folder = tmp_path_factory.mktemp("plan")
    bad = lineup(folder / "bad.toml", model="contxt = 3")
    gpu = lineup(folder / "gpu.toml", profiles=["rtx5090"])
    both = lineup(folder / "both.toml", profiles=["cpu", "rtx5090"])
    lines = {
        "engine": ["--engine", "vlm"],
        "version": ["--engine", "vllm@../../x"],
        "engine without a lineup": ["--engine", "openai", "--engine", "vllm"],
        "lineup": ["--lineup", "trilingal"],
        "key": [f"--lineup={bad}"],
        "launcher": ["--launcher", "proces"],
        "pull": ["--pull", "sometimes"],
        "image": ["--image", "vllm"],
        "compose file that is not there": ["--compose-file", "nowhere.yaml"],
        "launcher that does not fit": ["--launcher", "endpoint"],
        "engine-env": ["--engine-env", "vllm"],
        "engine-env of no engine": ["--engine-env", "vlm=/tmp"],
        "engine-env that is not there": ["--engine-env", f"vllm={folder}/none"],
        "card": ["-m", "rtx5090", f"--lineup={gpu}"],
        "profiles": [f"--lineup={both}"],
        "nothing": ["-m", "l40s", "--lineup=trilingual"],
        "card of a committed lineup": ["-m", "rtx5090"],
        "list of a card": ["-m", "rtx5090", f"--lineup={gpu}", "--co", "-q"],
    }
    ended = several(list(lines.values()), folder, {"COTENANT_HOME": str(folder / "home")})
    assert not (folder / "home").exists(), "nothing is set up for what cannot be run"
    return dict(zip(lines, ended, strict=True))


@pytest.mark.parametrize(("what", "sentence"), [
    ("engine", "no engine 'vlm'; did you mean 'vllm'?"),
    ("version", "'../../x' is no version; write vllm@1.2.3"),
    ("engine without a lineup", "no lineup here is for engine openai; these are for: llamacpp, mixed, ollama, sglang, vllm"),
    ("lineup", "no lineup 'trilingal'; did you mean 'trilingual'?"),
    ("key", "bad.toml: unknown key 'models.small.contxt'; did you mean 'context'?"),
    ("launcher", "no launcher 'proces'; did you mean 'process'?"),
    ("pull", "--pull sometimes: no such policy"),
    ("image", "--image 'vllm': write NAME=REFERENCE"),
    ("compose file that is not there", "--compose-file: no such file: "),
    ("launcher that does not fit", "launcher 'endpoint' does not fit: its models have no endpoint"),
    ("engine-env", "--engine-env 'vllm': write NAME=VENV or NAME=DIR:DIR"),
    ("engine-env of no engine", "no engine 'vlm'; did you mean 'vllm'?"),
    ("engine-env that is not there", "--engine-env vllm: no such folder: /"),
    ("card", "profile rtx5090 (NVIDIA GeForce RTX 5090) needs its card: "),
    ("card of a committed lineup", "profile rtx5090 (NVIDIA GeForce RTX 5090) needs its card: "),
    ("profiles", "cells of several profiles are selected (cpu, rtx5090); name one: -m cpu"),
])
def test_usage(refused: dict[str, Ended], what: str, sentence: str) -> None:
    """A mistake of the user is exit code 4 and one sentence, without a traceback."""
    ended = refused[what]
    assert ended.code == 4, ended.output
    assert sentence in ended.output
    assert "Traceback" not in ended.output


def test_the_cards_that_are_here_are_named(refused: dict[str, Ended]) -> None:
    """Who asks for a card is told what was found in its place."""
    assert "found here" in refused["card"].output


def test_nothing_selected(refused: dict[str, Ended]) -> None:
    """No cell is pytest's own exit code 5."""
    assert refused["nothing"].code == 5


def test_a_list_needs_no_card(refused: dict[str, Ended]) -> None:
    """What would be judged on a card can be listed anywhere."""
    ended = refused["list of a card"]
    assert ended.code == 0
    assert "rtx5090/process/llamacpp/gpu/small/startup.ready" in ended.ids


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> list[Ended]:
    folder = tmp_path_factory.mktemp("listed")
    lines = (["-m", "cpu"], ["-m", "cpu and startup", "--engine", "vllm", "--engine", "vllm@0.31.0"])
    return several([[*line, "--co", "-q"] for line in lines], folder)


def test_ids_are_the_cells_names(listed: list[Ended]) -> None:
    """`--co -m cpu` lists each cell once, by profile/launcher/engine/lineup[/model]/check[/variant]."""
    ids = listed[0].ids
    assert listed[0].code == 0
    assert len(ids) == len(set(ids)) > 300
    for cell in ("llamacpp/trilingual/trilingual-2m/startup.ready", "vllm/trilingual/memory.returned",
                 "ollama/trilingual/trilingual-8m/languages.script/ko"):
        assert f"cpu/process/{cell}" in ids


def test_two_versions_of_an_engine(listed: list[Ended]) -> None:
    """The version that is asked for and the default stand beside each other, told apart by their ids."""
    ids = listed[1].ids
    assert len(ids) == len(set(ids)) == 12
    assert "cpu/process/vllm@0.31.0/trilingual/trilingual-2m/startup.ready" in ids
    assert {one.split("/")[2].partition("@")[0] for one in ids} == {"vllm"}


def places(folder: Path, *engines: tuple[str, str], **head: str) -> list[Place]:
    lines = "\n".join(f"{key} = {text}" for key, text in head.items())
    file = lineup(folder / "x.toml", engines=["llamacpp", "vllm"], head=lines)
    return plan.deployments(Asked(engines=engines, lineups=(str(file),)), VERSIONS)


def test_the_same_version_twice_is_one(tmp_path: Path) -> None:
    """The default version by name is the default version."""
    found = places(tmp_path, ("vllm", ""), ("vllm", "2"), ("vllm", "3"))
    assert [(place.version, place.name) for place in found] == [
        ("2", "cpu/process/vllm@2/x"), ("3", "cpu/process/vllm@3/x")]


def test_one_lineup_twice_is_one(tmp_path: Path) -> None:
    """A file that is named twice, also by another path, makes its cells once; two of one name are refused."""
    file = lineup(tmp_path / "x.toml")
    (tmp_path / "sub").mkdir()
    asked = Asked(lineups=(str(file), str(tmp_path / "sub" / ".." / "x.toml")))
    assert len(plan.deployments(asked, VERSIONS)) == 1
    other = lineup(tmp_path / "sub" / "x.toml")
    with pytest.raises(ConfigurationError, match="'x' is also the name of"):
        plan.deployments(Asked(lineups=(str(file), str(other))), VERSIONS)


@pytest.mark.parametrize(("key", "text", "sentence"), [
    ("require", '["startpu"]', "require: no promise or check 'startpu'; did you mean 'startup'?"),
    ("require", '["latency.tft"]', "require: no promise or check 'latency.tft'; did you mean 'latency.ttft'?"),
    ("limits", "{ h20 = { ready_s = 3 } }", "limits: no profile or limit 'h20'; did you mean 'h200'?"),
])
def test_names_in_a_lineup(tmp_path: Path, key: str, text: str, sentence: str) -> None:
    """Names that only the plan knows are checked as strictly as keys."""
    with pytest.raises(ConfigurationError) as caught:
        places(tmp_path, **{key: text})
    assert str(caught.value) == f"{tmp_path}/x.toml: {sentence}"


@pytest.mark.parametrize(("changes", "sentence"), [
    ({"engines": ["llamacp"]}, "engines: no engine 'llamacp'; did you mean 'llamacpp'?"),
    ({"profiles": ["rtx509"]}, "profiles: no profile 'rtx509'; did you mean 'rtx5090'?"),
    ({"model": "flags = { vlm = [] }"}, "models.small: no engine 'vlm'; did you mean 'vllm'?"),
    ({"model": "limits = { h20 = { ready_s = 3 } }"}, "models.small.limits: no profile or limit 'h20'; did you mean"),
    ({"source": "./gone"}, "models.small.source: no such folder: "),
    ({"source": ""}, "models.small.source is missing for engine llamacpp"),
    ({"engines": ["openai"]}, "engine openai needs an endpoint for every model"),
    ({"model": 'endpoint = "http://127.0.0.1:1"\n[[models]]\nname = "b"\nsource = "x/y"'},
     "models.b: endpoint is missing, other models have one"),
])
def test_mistakes_in_a_lineup(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    """What cannot be planned is said with the file and the key."""
    file = lineup(tmp_path / "x.toml", **changes)
    with pytest.raises(ConfigurationError) as caught:
        plan.deployments(Asked(lineups=(str(file),)), VERSIONS)
    assert str(caught.value).startswith(f"{tmp_path}/x.toml: {sentence}")


def test_endpoints(tmp_path: Path) -> None:
    """A lineup of endpoints needs no source, is launched by nobody, and its engine may be any server."""
    file = lineup(tmp_path / "x.toml", engines=["openai", "vllm"], source="", model='endpoint = "http://127.0.0.1:1"')
    found = plan.deployments(Asked(lineups=(str(file),)), VERSIONS)
    assert [(place.launcher, place.engine.name) for place in found] == [("endpoint", "vllm"), ("endpoint", "openai")]
