"""Lineups, profiles and their limits: every mistake is named with file, key and the nearest right one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from fixtures import configuration, lineup
from fixtures.configuration import ConfigurationError
from fixtures.gpu import profile
from fixtures.gpu.profile import Profile
from fixtures.lineup import LIMITS, Lineup

MODEL = 'name = "m"\nsource = "hub/id"\n'
Read = Callable[..., Lineup]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Reads a lineup file of one model with these lines in its head and in its model."""

    def read(head: str = "", model: str = "", *, models: str = f"[[models]]\n{MODEL}") -> Lineup:
        names = {"name": '"x"', "profiles": '["cpu"]', "engines": '["llamacpp"]'}
        usual = "".join(f"{key} = {value}\n" for key, value in names.items() if f"{key} =" not in head)
        file = tmp_path / "x.toml"
        file.write_text(f"{usual}{head}\n{models}{model}\n")
        return lineup.load(str(file))

    return read


def test_defaults(read: Read) -> None:
    """A lineup of the fewest lines: one order of start, nothing required, no limits."""
    found = read()
    assert (found.start, found.require, found.overcommit, found.limits) == (("sequential",), (), False, {})
    assert found.path.name == "x.toml"
    assert found.path.is_absolute()


@pytest.mark.parametrize(("head", "model", "sentence"), [
    ("enginess = []", "", "unknown key 'enginess'; did you mean 'engines'?"),
    ("", "contxt = 3", "unknown key 'models.m.contxt'; did you mean 'context'?"),
    ("", "zzz = 3", "unknown key 'models.m.zzz'; known: context, devices, endpoint, engine, flags, languages,"),
    ('path = "/x"', "", "unknown key 'path'; known: engines, gateway, limits, load, models, name, optional,"),
    ("limits = { redy_s = 3 }", "", "limits: unknown limit 'redy_s'; did you mean 'ready_s'?"),
    ("limits = { cpu = { redy_s = 3 } }", "", "limits: unknown limit 'redy_s'; did you mean 'ready_s'?"),
    ("", "limits = { ttft_p90_ms = 3 }", "models.m.limits: unknown limit 'ttft_p90_ms'; did you mean 'ttft_p"),
    ("limits = { ready_s = 0 }", "", "limits: ready_s: 0.0 is no limit: it must be a number above 0"),
    ("", "limits = { goodput_min = 95 }", "models.m.limits: goodput_min: 95.0 is no limit: it is the share of requests"),
    ("", "limits = { ready_s = nan }", "models.m.limits: ready_s: nan is no limit"),
    ("", 'limits = { ready_s = "9" }', "models.m.limits.ready_s: Input should be a valid number"),
    ("start = ['parallel']", "", "start.0: Input should be 'sequential' or 'concurrent'"),
    ("", "languages = ['de']", "models.m.languages.0: Input should be 'en', 'zh' or 'ko'"),
    ("", "languages = ['en', 'en']", "models.m.languages: 'en' is given twice"),
    ("profiles = ['cpu', 'cpu']", "", "profiles: 'cpu' is given twice"),
    ("engines = []", "", "engines: Tuple should have at least 1 item"),
    ("", 'context = "1024"', "models.m.context: Input should be a valid integer"),
    ("", "context = 8", "models.m.context: Input should be greater than or equal to 64"),
    ("", "share = 1.5", "models.m.share: Input should be less than or equal to 1"),
    ("", "flags = { vllm = '--x' }", "models.m.flags.vllm: Input should be a valid array"),
    ("", "endpoint = 'localhost:80'", "models.m.endpoint: String should match pattern '^https?://'"),
    ("name = 'a/b'", "", "name: String should match pattern"),
    ("gateway = 'localhost:80'", "", "gateway: 'localhost:80' is no URL; write true to have nginx started"),
    ("gateway = 'http://g:80'", "", "gateway: one that somebody else runs cannot know the servers that cotenant starts"),
    ("gateway = 1", "", "gateway"),
    ("x = ", "", "Invalid value (at line 4"),
])
def test_mistakes(read: Read, tmp_path: Path, head: str, model: str, sentence: str) -> None:
    """The message begins with the file and says what is wrong at which key, once."""
    with pytest.raises(ConfigurationError) as caught:
        read(head, model)
    assert str(caught.value).startswith(f"{tmp_path}/x.toml: {sentence}")
    assert str(caught.value).count("x.toml") == 1


def test_missing_keys(tmp_path: Path) -> None:
    """An empty file is told all that it lacks."""
    file = tmp_path / "empty.toml"
    file.touch()
    with pytest.raises(ConfigurationError) as caught:
        lineup.load(str(file))
    for key in ("name", "profiles", "engines", "models"):
        assert f"{file}: key '{key}' is missing" in str(caught.value)


def test_a_lineup_that_is_not_there(tmp_path: Path) -> None:
    """A name gets the nearest one, a path the path."""
    with pytest.raises(ConfigurationError, match="no lineup 'trilingul'; did you mean 'trilingual'\\?"):
        lineup.load("trilingul")
    for missing in (tmp_path / "x.toml", tmp_path / "x"):
        with pytest.raises(ConfigurationError, match=f"{missing}: no such file"):
            lineup.load(str(missing))
    with pytest.raises(ConfigurationError, match="directory"):
        lineup.load(str(tmp_path) + "/")


def test_no_text(tmp_path: Path) -> None:
    """A file that is no text is named, too."""
    file = tmp_path / "x.toml"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match=f"{file}: .*utf-8"):
        lineup.load(str(file))


TWO = '[[models]]\nname = "a"\nshare = 0.6\n[[models]]\nname = "b"\nshare = 0.6\n'


def test_shares(read: Read) -> None:
    """Shares above the whole device are an error, unless the lineup says that it means it."""
    with pytest.raises(ConfigurationError, match=r"shares sum to 1.20, above 1; lower them or set overcommit = true"):
        read(models=TWO)
    assert read("overcommit = true", models=TWO).overcommit
    assert read(models=TWO.replace("0.6", "0.5")).models[1].share == 0.5


def test_gateways(read: Read) -> None:
    """None unless it is asked for; ours before any models, somebody else's before endpoints."""
    endpoint = 'endpoint = "http://127.0.0.1:8001"'
    assert read().gateway is False
    assert read("gateway = true").gateway is True
    assert read("gateway = true", endpoint).gateway is True
    assert read('gateway = "http://g:80"', endpoint).gateway == "http://g:80"


def test_names_are_given_once(read: Read) -> None:
    """Two models under one name could not be told apart."""
    with pytest.raises(ConfigurationError, match="models: 'a' is given twice"):
        read(models=TWO.replace('"b"', '"a"').replace("0.6", "0.1"))


@pytest.mark.parametrize(("removed", "expected"), [
    ([], 1), (["model by profile"], 2), (["model by profile", "model"], 3),
    (["model by profile", "model", "lineup by profile"], 4),
    (["model by profile", "model", "lineup by profile", "lineup"], 5),
])
def test_precedence_of_limits(read: Read, removed: list[str], expected: float) -> None:
    """The model's by profile, the model's, the lineup's by profile, the lineup's, the profile's: the first that is there."""
    tables = {"lineup": "ready_s = 4", "lineup by profile": "cpu = { ready_s = 3 }", "model": "ready_s = 2",
              "model by profile": "cpu = { ready_s = 1 }"}
    left = {name: text for name, text in tables.items() if name not in removed}
    of_lineup = ", ".join(text for name, text in left.items() if name.startswith("lineup"))
    of_model = ", ".join(text for name, text in left.items() if name.startswith("model"))
    found = read(f"limits = {{ {of_lineup} }}", f"limits = {{ {of_model} }}")
    limits = found.limits_for(found.models[0], "cpu", {"ready_s": 5, "itl_max_ms": 6})
    assert limits == {"ready_s": expected, "itl_max_ms": 6}


def test_limits_of_another_profile(read: Read) -> None:
    """A table by profile counts for no other."""
    found = read("limits = { h200 = { ready_s = 3 } }")
    assert found.limits_for(found.models[0], "cpu", {}) == {}


@pytest.mark.parametrize("name", LIMITS)
def test_every_limit_is_one(read: Read, name: str) -> None:
    """What a mistyped limit is told as the nearest one is itself accepted."""
    assert read(f"limits = {{ {name} = 1 }}").limits == {name: 1}


SOURCES: Mapping[str, tuple[str, str]] = {
    '"one"': ("one", "one"),
    '{ default = "one", ollama = "two" }': ("one", "two"),
    '{ ollama = "two" }': ("", "two"),
}


@pytest.mark.parametrize("source", SOURCES)
def test_sources(read: Read, source: str) -> None:
    """One source for all engines, or by engine with a default."""
    model = read(models=f'[[models]]\nname = "m"\nsource = {source}\n').models[0]
    assert (model.source_for("vllm"), model.source_for("ollama")) == SOURCES[source]


def test_folders(read: Read, tmp_path: Path) -> None:
    """A folder is relative to the lineup's file; a path that is not there is an error, a hub's id is not."""
    (tmp_path / "here").mkdir()
    for source, expected in (("here", tmp_path / "here"), ("./here", tmp_path / "here"), ("hub/id", None)):
        found = read(models=f'[[models]]\nname = "m"\nsource = "{source}"\n')
        assert found.folder_of(found.models[0], "vllm") == expected
    for source in ("./gone", "../gone", "/gone", "~/gone"):
        found = read(models=f'[[models]]\nname = "m"\nsource = "{source}"\n')
        with pytest.raises(ConfigurationError, match=r"x.toml: models.m.source: no such folder: /.*gone"):
            found.folder_of(found.models[0], "vllm")


def test_committed_lineups() -> None:
    """Every lineup of the repository can be read, is named as its file, and its models are there."""
    found = lineup.committed()
    assert "trilingual" in [one.name for one in found]
    for one in found:
        assert one.name == one.path.stem
        for model in one.models:
            assert one.folder_of(model, one.engines[0]) is not None or not model.source_for(one.engines[0]).startswith(".")


def test_committed_profiles() -> None:
    """Every profile can be read; only the CPU's has neither capability nor memory."""
    found = profile.committed()
    assert {"cpu", "h200", "rtx5090"} <= found.keys()
    assert found["cpu"].is_cpu
    for one in found.values():
        assert one.is_cpu == (one.memory_gib is None)


@pytest.mark.parametrize(("line", "sentence"), [
    ("capabilty = '9.0'", "unknown key 'capabilty'; did you mean 'capability'?"),
    ("capability = 'sm_90'", "capability: String should match pattern"),
    ("limits = { itl_p96_ms = 3 }", "limits: unknown limit 'itl_p96_ms'; did you mean 'itl_p9"),
    ("limits = { itl_max_ms = -3 }", "limits: itl_max_ms: -3.0 is no limit"),
])
def test_mistakes_in_profiles(tmp_path: Path, line: str, sentence: str) -> None:
    """Profiles are read as strictly as lineups."""
    file = tmp_path / "p.toml"
    file.write_text(f'name = "p"\ntitle = "P"\n{line}\n')
    with pytest.raises(ConfigurationError) as caught:
        configuration.read(file, Profile)
    assert str(caught.value).startswith(f"{file}: {sentence}")


@pytest.mark.parametrize("source", ["mine.gguf", "./mine.gguf", "{here}/mine.gguf"])
def test_a_gguf_file_beside_the_lineup(read: Read, tmp_path: Path, source: str) -> None:
    """It is no folder, and found from the lineup, not from where the command was given."""
    found = read(models=f'[[models]]\nname = "m"\nsource = "{source.format(here=tmp_path)}"')
    assert found.file_of(found.models[0], "llamacpp") is None
    (tmp_path / "mine.gguf").write_bytes(b"GGUF")
    assert found.file_of(found.models[0], "llamacpp") == tmp_path / "mine.gguf"
    assert found.folder_of(found.models[0], "llamacpp") is None
    found.check_source(found.models[0], "llamacpp")
