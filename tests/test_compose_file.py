"""`./cotenant compose`: a lineup as a Compose file."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from fixtures import lineup as lineups
from fixtures.compose import cli, file, image, preset
from fixtures.compose.preset import Preset
from fixtures.compose.project import resolve
from fixtures.compose.service import Mount, Runtime, Variable, server
from fixtures.configuration import ConfigurationError
from fixtures.engines.registry import engine
from fixtures.gpu.profile import committed
from fixtures.launchers.handle import Command
from tests import composing

COMPOSE = Path(__file__).resolve().parents[1] / "compose"
ENGINES = ("vllm", "sglang", "ollama", "llamacpp")
PRESETS = [(name, study) for name in ENGINES for study in ("conservative", "balanced", "aggressive")]
SHARES = {"conservative": (0.10, 0.20, 0.40), "balanced": (0.15, 0.25, 0.45), "aggressive": (0.18, 0.28, 0.50)}


def services(text: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text)["services"]
    return found


@pytest.mark.parametrize(("name", "study"), PRESETS)
def test_a_committed_file_is_what_the_command_prints(name: str, study: str) -> None:
    """File and lineup cannot drift apart."""
    assert (COMPOSE / f"{name}-{study}.yaml").read_text(encoding="utf-8") == cli.text(f"study-{study}", name, "rtx5090")


@pytest.mark.parametrize("gpu", ["rtx5090", "h200"])
@pytest.mark.parametrize(("name", "study"), PRESETS)
def test_compose_accepts_every_preset(name: str, study: str, gpu: str, tmp_path: Path) -> None:
    """On both cards of the study, without a warning."""
    composing.compose()
    (tmp_path / "compose.yaml").write_text(cli.text(f"study-{study}", name, gpu), encoding="utf-8")
    done = subprocess.run(["docker", "compose", "config", "-q"], cwd=tmp_path, capture_output=True, text=True, timeout=60,
                          check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("name", "study"), PRESETS)
def test_every_service_is_confined_and_pinned(name: str, study: str) -> None:
    """No latest, no remote code, no privileges, nothing open beyond loopback."""
    text = cli.text(f"study-{study}", name, "rtx5090")
    assert "latest" not in text
    assert "trust-remote-code" not in text
    for service in services(text).values():
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["read_only"] is True
        assert service["logging"]["options"]["max-size"]
        assert re.search(r":[\w.-]+(@sha256:[0-9a-f]{64})?$", service["image"])
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        assert all(mount["read_only"] for mount in service.get("volumes", ()) if mount["type"] == "bind")


@pytest.mark.parametrize("name", SHARES)
def test_vllm_is_given_its_share_of_the_whole(name: str) -> None:
    """Whatever stands before it."""
    found = services(cli.text(f"study-{name}", "vllm")).values()
    assert [value_of(service, "--gpu-memory-utilization") for service in found] == [f"{share:g}" for share in SHARES[name]]


@pytest.mark.parametrize("gpu", ["rtx5090", "h200"])
@pytest.mark.parametrize("name", SHARES)
def test_sglang_is_given_its_share_of_what_is_left(name: str, gpu: str) -> None:
    """The shares before it are taken off, and what is held in the end is the share of the whole again."""
    held, wanted = 0.0, SHARES[name]
    for service, share in zip(services(cli.text(f"study-{name}", "sglang", gpu)).values(), wanted, strict=True):
        fraction = float(value_of(service, "--mem-fraction-static"))
        assert fraction * (1 - held) == pytest.approx(share, abs=2e-4)
        held += share


def value_of(service: dict[str, Any], flag: str) -> str:
    words: list[str] = service["command"]
    return words[words.index(flag) + 1]


def test_each_model_waits_until_its_neighbour_serves() -> None:
    """By a health check that generates a token, in the lineup's order."""
    found = services(cli.text("study-balanced", "vllm"))
    assert list(found) == ["tinyllama", "qwen", "yi"]
    assert "depends_on" not in found["tinyllama"]
    assert found["qwen"]["depends_on"] == {"tinyllama": {"condition": "service_healthy"}}
    assert found["yi"]["depends_on"] == {"qwen": {"condition": "service_healthy"}}
    for name, service in found.items():
        assert f'"model": "{name}"' in service["healthcheck"]["test"][-1]
        assert "/v1/completions" in service["healthcheck"]["test"][-1]


@pytest.mark.parametrize("name", ENGINES)
def test_a_server_gets_the_words_of_its_engine(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the engine's module says for a GPU stands in the file, whatever it will say tomorrow."""
    own, usual = type(engine(name)), type(engine(name)).gpu_command

    def tomorrow(*arguments: Any) -> Command:
        said = usual(*arguments)
        return replace(said, argv=(*said.argv, "--tomorrow"), env={**said.env, "TOMORROW": "1"})

    monkeypatch.setattr(own, "gpu_command", tomorrow)
    found = services(cli.text("study-balanced", name))
    found.pop("ollama-models", None)
    for service in found.values():
        assert service["command"][-1] == "--tomorrow"
        assert service["environment"]["TOMORROW"] == "1"
        assert not [word for word in (*service["command"], *service["environment"].values()) if re.search(r"\{\w+\}", word)]


def test_a_caller_s_own_folders_are_not_in_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same lineup gives the same file to everybody."""
    before = cli.text("study-balanced", "vllm")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("COTENANT_HOME", str(tmp_path / "home"))
    assert cli.text("study-balanced", "vllm") == before


def test_an_ollama_server_is_given_its_models_once() -> None:
    """A second start asks no registry."""
    script = services(cli.text("study-balanced", "ollama"))["ollama-models"]["command"][0]
    assert "ollama show qwen > /dev/null 2>&1 || { ollama pull qwen2.5:3b && ollama cp qwen2.5:3b qwen; }" in script


def test_folders_are_mounted_where_they_are() -> None:
    """Read only, at the path that the command line names."""
    found = services(cli.text("trilingual", "vllm", "rtx5090"))
    folder = str(lineups.LINEUPS.parents[1] / "fixtures" / "models" / "trilingual-2m")
    mounts = found["trilingual-2m"]["volumes"]
    assert {"type": "bind", "source": folder, "target": folder, "read_only": True,
            "bind": {"create_host_path": False}} in mounts
    assert value_of(found["trilingual-2m"], "--model") == folder


def test_mixed_lineups_share_one_card(tmp_path: Path) -> None:
    """Each model its engine, in one order, and SGLang's share after all before it."""
    text = lineups.load("mixed").path.read_text(encoding="utf-8")
    for source, real in (("random:tinyllama", "tinyllama:1.1b"), ("random:qwen2.5-3b", "Qwen/Qwen2.5-3B-Instruct"),
                         ("random:yi-6b", "01-ai/Yi-6B-Chat")):
        text = text.replace(source, real)
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    found = services(cli.text(str(tmp_path / "mine.toml"), gpu="rtx5090"))
    assert list(found) == ["ollama", "ollama-models", "qwen2.5-3b", "yi-6b"]
    assert found["qwen2.5-3b"]["depends_on"] == {"ollama": {"condition": "service_healthy"}}
    assert float(value_of(found["yi-6b"], "--mem-fraction-static")) == pytest.approx(0.42 / 0.65, abs=1e-4)


@pytest.mark.parametrize(("arguments", "words"), [
    (["study-balancd"], "did you mean 'study-balanced'"),
    (["study-balanced", "--engine", "vlm"], "did you mean 'vllm'"),
    (["study-balanced", "--gpu", "rtx509"], "did you mean 'rtx5090'"),
    (["study-balanced", "--gpu", "cpu"], "no GPU profile 'cpu'"),
    (["study-balanced", "--engine", "vllm@latest"], "another image tomorrow"),
    (["study-balanced", "--engine", "vllm@sha256:12"], "neither a tag nor a digest"),
    (["study-balanced", "--image", "vlm=a/b:1"], "did you mean 'vllm'"),
    (["study-balanced", "--image", "vllm=a/b:latest"], "another image tomorrow"),
    (["mixed"], "made-up weights"),
    (["mixed", "--engine", "vllm"], "not for vllm"),
])
def test_what_cannot_be_printed_is_refused_in_words(arguments: list[str], words: str,
                                                    capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 4, one sentence on standard error, nothing on standard output."""
    assert cli.main(arguments) == 4
    told = capsys.readouterr()
    assert told.out == ""
    assert words in told.err


def test_an_image_can_be_named_by_digest_tag_or_reference() -> None:
    """The digest that is known belongs to the usual version alone."""
    digest = "sha256:" + "1" * 64
    assert services(cli.text("study-balanced", f"vllm@{digest}"))["qwen"]["image"] == f"vllm/vllm-openai@{digest}"
    assert services(cli.text("study-balanced", "vllm@0.11.0"))["qwen"]["image"] == "vllm/vllm-openai:v0.11.0"
    own = services(cli.text("study-balanced", "vllm", images=["vllm=registry.local:5000/vllm:v1"]))
    assert own["qwen"]["image"] == "registry.local:5000/vllm:v1"
    assert str(image.reference("vllm")).count("@sha256:") == 1


def test_what_is_common_is_said_once_and_merged_back() -> None:
    """The printed file means what the project means."""
    made = Preset(lineups.load("study-balanced"), "sglang", committed()["rtx5090"])
    project = preset.project(made)
    read = yaml.safe_load(file.commented(project, ["a"], cli.REMARKS))
    assert read["services"] == file.literal(project["services"])
    assert read["volumes"] == project["volumes"]


def test_text_that_looks_like_numbers_or_variables_stays_text(tmp_path: Path) -> None:
    """Neither YAML nor Compose changes a word of a command line."""
    composing.compose()
    words = ("1e3", "0o14", "0x1F", "1_000", "yes", "$HOME", "${X:-1}", "$$", "12:30:45", "~", "null", "-1", ".5", "a\nb",
             "", "on", "=", "2026-01-01", "+1", "#a", "a: b")
    project = {"name": "words", "services": {"one": {"image": "a:1", "command": list(words)}}}
    path = tmp_path / "compose.yaml"
    path.write_text(file.plain(project), encoding="utf-8")
    assert tuple(resolve(path)["services"]["one"]["command"]) == words


def test_a_variable_is_left_to_compose() -> None:
    """Only where it is meant."""
    assert file.literal(["$a", Variable("${HF_HOME:-x}")]) == ["$$a", "${HF_HOME:-x}"]
    assert file.meant(file.literal({"k": ["$$", "$x"]})) == {"k": ["$$", "$x"]}


def test_marks_are_filled_and_nothing_else() -> None:
    """What is bound to loopback inside a container could not be reached from outside of it."""
    command = Command(("python3", "-m", "x", "--host", "{host}", "--also", "127.0.0.1", "--port", "{port}", "--json",
                       '{"a": {}}'), {"AT": "{host}:{port}", "IN": "{scratch}/m"}, stop_grace_s=7)
    made = server(command, Runtime("a:1", "curl", (Mount("/x", "/scratch", read_only=False),)), ["m"], boot_limit_s=60)
    assert made["entrypoint"] == ["python3", "-m", "x"]
    assert made["command"] == ["--host", "0.0.0.0", "--also", "127.0.0.1", "--port", "8000", "--json", '{"a": {}}']
    assert made["environment"]["AT"] == "0.0.0.0:8000"
    assert made["environment"]["IN"] == "/scratch/m"
    assert made["ports"] == ["127.0.0.1::8000"]
    assert made["tmpfs"] == ["/tmp:exec,mode=1777"]
    assert made["stop_grace_period"] == "7s"
    assert made["healthcheck"]["start_period"] == "60s"


def test_two_models_that_would_be_one_service_are_refused(tmp_path: Path) -> None:
    """Compose's names allow less than a model's."""
    text = lineups.load("study-balanced").path.read_text(encoding="utf-8")
    text = text.replace('name = "qwen"', 'name = "yi:6b"').replace('name = "yi"', 'name = "yi-6b"')
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match="rename one"):
        cli.text(str(tmp_path / "mine.toml"), "vllm")
