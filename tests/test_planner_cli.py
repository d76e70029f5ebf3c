"""`cotenant plan`: its words, its exit codes, what it writes, and what it says where it cannot say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixtures import lineup as lineups
from fixtures.models import shape
from fixtures.planner import cli

FITS, NOT, USAGE = 0, 1, 4
Said = Callable[..., tuple[int, str, str]]


@pytest.fixture
def plan(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Said:
    """Runs the command in 80 columns with an empty hub cache; returns status, output and errors."""
    for name in ("HF_HOME", "GGUF_HOME", "OLLAMA_MODELS", "COTENANT_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: str) -> tuple[int, str, str]:
        status = cli.main(arguments)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def lineup(tmp_path: Path) -> Callable[..., Path]:
    """Writes a lineup of one model with these lines."""
    def write(lines: str = "", source: str = "random:tinyllama") -> Path:
        file = tmp_path / "one.toml"
        file.write_text('name = "one"\nprofiles = ["rtx5090"]\nengines = ["vllm", "sglang", "ollama", "llamacpp"]\n'
                        '[[models]]\nname = "one"\n'
                        f'source = "{source}"\n{lines}\n')
        return file
    return write


def test_the_studys_presets(plan: Said) -> None:
    """Three presets on the card they were made for: none, fits, not certain; the hub is not asked for their sizes."""
    found = {preset: plan(f"study-{preset}", "--gpu", "rtx5090", "--engine", "vllm")
             for preset in ("conservative", "balanced", "aggressive")}
    assert [status for status, _, _ in found.values()] == [NOT, FITS, NOT]
    assert found["balanced"][1].splitlines()[0].endswith("RTX 5090: fits")
    assert "does not fit: qwen: its cache holds" in found["conservative"][1]
    assert "it refuses to start" in " ".join(found["aggressive"][1].split())


@pytest.mark.parametrize("engine", ["vllm", "sglang", "ollama", "llamacpp"])
def test_every_line_fits_a_terminal(plan: Said, engine: str) -> None:
    """Eighty columns, no colour where the output is no terminal, the flags of that engine."""
    _, out, _ = plan("shapes", "--gpu", "rtx5090", "--engine", engine)
    assert max(map(len, out.splitlines())) <= 80
    assert "\x1b" not in out
    flag = {"vllm": "--gpu-memory-utilization 0.11", "sglang": "--mem-fraction-static 0.1",
            "ollama": "OLLAMA_NUM_PARALLEL=4", "llamacpp": "--ctx-size 8192 --parallel 4"}[engine]
    assert flag in out


def test_the_flags_paste_into_a_shell(plan: Said) -> None:
    """A command line that is broken over lines ends each but its last with a backslash."""
    _, out, _ = plan("study-balanced", "--gpu", "rtx5090", "--engine", "vllm")
    lines = out.splitlines()
    start = next(at for at, line in enumerate(lines) if "--gpu-memory-utilization 0.15" in line)
    assert lines[start].endswith("\\")
    assert lines[start + 1].lstrip().startswith("--")


def test_colour_only_on_a_terminal(plan: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    """FORCE_COLOR brings colour, NO_COLOR takes it away, and the bar reads the same."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    coloured = plan("shapes", "--gpu", "rtx5090", "--engine", "vllm")[1]
    monkeypatch.setenv("NO_COLOR", "1")
    plain = plan("shapes", "--gpu", "rtx5090", "--engine", "vllm")[1]
    assert "\x1b[3" in coloured
    assert "\x1b[3" not in plain
    assert "█" in plain


def test_json_says_what_the_words_say(plan: Said) -> None:
    """Ranges are ordered, parts belong to the whole, and the exit status is the verdict's."""
    status, out, _ = plan("shapes", "--gpu", "h200", "--engine", "vllm", "--json")
    found: dict[str, Any] = json.loads(out)
    assert (status, found["fit"], found["schema"]) == (FITS, "fits", 1)
    for model in found["models"]:
        assert all(model[key][0] <= model[key][1] for key in model if key.endswith("_gib"))
        assert model["held_gib"][1] <= model["peak_gib"][1]
        assert model["kv_bytes_per_token"] == shape.find(model["name"]).kv_bytes_per_token
    most = sum(model["held_gib"][1] for model in found["models"])
    assert found["devices"][0]["held_gib"][1] == pytest.approx(most, abs=0.01)


def test_a_model_that_is_not_here(plan: Said, lineup: Callable[..., Path]) -> None:
    """No guess and no download: the command that fetches it."""
    for engine, source, cure in (("vllm", "meta/Made-Up-8B", "hf download meta/Made-Up-8B"),
                                 ("ollama", "made-up:8b", "ollama pull made-up:8b"),
                                 ("llamacpp", "meta/Made-Up/file.gguf", "hf download meta/Made-Up file.gguf")):
        status, out, _ = plan(str(lineup(source=source)), "--gpu", "rtx5090", "--engine", engine)
        assert status == USAGE
        assert "cannot say" in out.splitlines()[0]
        assert cure in " ".join(out.split())


@pytest.mark.parametrize(("arguments", "words"), [
    (("nowhere",), "no lineup 'nowhere'"),
    (("shapes", "--gpu", "rtx509"), "did you mean 'rtx5090'"),
    (("shapes", "--gpu", "cpu"), "no GPU profile 'cpu'"),
    (("shapes", "--gpu", "gb10"), "shares the host's memory"),
    (("shapes", "--engine", "vlm"), "did you mean 'vllm'"),
    (("gateway", "--gpu", "rtx5090", "--engine", "openai"), "how it uses memory is not known"),
    (("shapes", "--write", "x"), "add --solve"),
    (("shapes", "--gpu", "rtx5090", "--taken", "40"), "has 31.8 GiB"),
    (("shapes", "--concurrency", "0"), "no number of sequences"),
    (("shapes", "--taken", "-1"), "no size in GiB"),
])
def test_mistakes_are_named(plan: Said, arguments: tuple[str, ...], words: str) -> None:
    """Exit 4 with the thing and the cure, nothing on standard output."""
    status, out, err = plan(*arguments)
    assert (status, out) == (USAGE, "")
    assert words in err


@pytest.mark.parametrize(("engine", "flags", "words"), [
    ("vllm", '["--speculative-config", "{}"]', "--speculative-config"),
    ("vllm", '["--kv-cache-dtype", "int3"]', "int3"),
    ("vllm", '["--quantization", "awq"]', "awq"),
    ("vllm", '["--max-num-seqs", "many"]', "is no whole number"),
    ("sglang", '["--mem-fraction-static", "7"]', "is no share"),
    ("llamacpp", '["--cache-type-k", "q8_0"]', "give both the same type"),
])
def test_flags_whose_memory_is_not_known(plan: Said, lineup: Callable[..., Path], engine: str, flags: str,
                                         words: str) -> None:
    """A clear "cannot say" that names the flag."""
    status, out, _ = plan(str(lineup(f"flags = {{ {engine} = {flags} }}")), "--engine", engine)
    assert status == USAGE
    assert words in " ".join(out.split())


def test_a_version_whose_rules_are_not_known(plan: Said) -> None:
    """Old vLLM counted neighbours as its own, by rules that changed."""
    status, out, _ = plan("shapes", "--gpu", "rtx5090", "--engine", "vllm@0.8.5")
    assert status == USAGE
    assert "0.9.2 or newer" in out


def test_versions_have_the_flags_they_know(plan: Said) -> None:
    """The cache in bytes is not named to a version that does not have the flag, and an unmeasured one is said to be one."""
    old = plan("study-balanced", "--gpu", "rtx5090", "--engine", "vllm@0.10.1.1")[1]
    new = plan("study-balanced", "--gpu", "rtx5090", "--engine", "vllm@0.26.0")[1]
    assert "--kv-cache-memory-bytes" not in old
    assert "--kv-cache-memory-bytes" in new
    assert "as this version was not measured" in " ".join(old.split())


def test_a_context_beyond_the_model(plan: Said, lineup: Callable[..., Path]) -> None:
    """What the model was not made for is not planned."""
    status, out, _ = plan(str(lineup("context = 100000")), "--engine", "vllm")
    assert status == USAGE
    assert "2048 tokens that the model was made for" in " ".join(out.split())


def test_solved_shares_are_written_and_plan_again(plan: Said, tmp_path: Path) -> None:
    """The lineup that --write leaves is one that loads, fits, and asks for what was asked for; Compose starts it."""
    folder = tmp_path / "out"
    status, out, err = plan("study-aggressive", "--gpu", "rtx5090", "--engine", "vllm", "--solve", "--concurrency", "8",
                            "--write", str(folder))
    assert status == FITS, out
    written = folder / "study-aggressive-rtx5090.toml"
    assert f"wrote {written}" in err
    again = lineups.load(str(written))
    assert sum(model.share for model in again.models) < 0.96
    assert [model.limits["kv_tokens_min"] for model in again.models] == [8 * model.context for model in again.models]
    assert plan(str(written), "--engine", "vllm")[0] == FITS
    compose = (folder / "compose.yaml").read_text()
    for model in again.models:
        assert f"{model.share:g}" in compose


def test_what_is_there_is_not_written_over(plan: Said, tmp_path: Path) -> None:
    """Another file of that name stays as it is."""
    kept = tmp_path / "shapes-rtx5090.toml"
    kept.write_text("mine\n")
    status, _, err = plan("shapes", "--gpu", "rtx5090", "--engine", "vllm", "--solve", "--write", str(tmp_path))
    assert status == USAGE
    assert "is there already" in err
    assert kept.read_text() == "mine\n"


def test_made_up_weights_have_no_compose_file(plan: Said, tmp_path: Path) -> None:
    """The lineup is written, and why there is no Compose file is said."""
    status, _, err = plan("shapes", "--gpu", "h200", "--engine", "vllm", "--solve", "--write", str(tmp_path / "x"))
    assert status == FITS
    assert "no Compose file" in err
    assert [file.name for file in (tmp_path / "x").iterdir()] == ["shapes-h200.toml"]


def test_no_solution_comes_with_changes(plan: Said) -> None:
    """Exit 1, the smallest shares, and what would do, in words and in JSON."""
    arguments = ("shapes", "--gpu", "rtx4090", "--engine", "vllm", "--solve", "--concurrency", "32")
    status, out, _ = plan(*arguments)
    assert status == NOT
    assert "no shares fit; the smallest would be" in " ".join(out.split())
    assert "Any one of these makes it fit:" in out
    found = json.loads(plan(*arguments, "--json")[1])
    assert found["changes"]
    assert all(offered["plan"]["fit"] == "fits" for offered in found["changes"])


def test_one_server_has_one_context(plan: Said, tmp_path: Path) -> None:
    """Ollama's models share its context length, the longest that the lineup asks for, and each what it was made for."""
    file = tmp_path / "two.toml"
    models = "".join(f'[[models]]\nname = "{name}"\nsource = "random:{name}"\ncontext = {context}\n'
                     for name, context in (("qwen2.5-3b", 3000), ("yi-6b", 1000), ("tinyllama", 1000)))
    file.write_text(f'name = "two"\nprofiles = ["rtx5090"]\nengines = ["ollama"]\n{models}')
    found = json.loads(plan(str(file), "--json")[1])
    assert {model["name"]: model["context"] for model in found["models"]} == {"qwen2.5-3b": 3000, "yi-6b": 3000,
                                                                             "tinyllama": 2048}
    assert all("OLLAMA_MAX_LOADED_MODELS=3" in model["flags"] for model in found["models"])


def test_what_others_hold_is_left_to_them(plan: Said) -> None:
    """A card of which half is taken is a smaller one."""
    assert plan("study-balanced", "--gpu", "rtx5090", "--engine", "vllm")[0] == FITS
    status, out, _ = plan("study-balanced", "--gpu", "rtx5090", "--engine", "vllm", "--taken", "12")
    assert status == NOT
    assert "does not fit" in out.splitlines()[0]
