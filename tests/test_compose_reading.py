"""A user's own Compose file, read: which servers it starts, and what it lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from fixtures.compose import words
from fixtures.compose.reading import Reading, lineup_of
from fixtures.configuration import ConfigurationError
from fixtures.docker.fault import DockerFault
from fixtures.gpu.profile import committed
from tests import composing

FILES = Path(__file__).with_name("compose_files")
COMPOSE = Path(__file__).resolve().parents[1] / "compose"


@pytest.fixture(autouse=True)
def _compose() -> None:
    composing.compose()


def read(path: Path, profile: str = "rtx5090") -> Reading:
    return lineup_of(path, committed()[profile])


def read_text(folder: Path, text: str, profile: str = "rtx5090") -> Reading:
    (folder / "compose.yaml").write_text(text, encoding="utf-8")
    return read(folder / "compose.yaml", profile)


def causes(reading: Reading) -> list[tuple[str, str]]:
    return [(finding.service, finding.cause) for finding in reading.findings]


def vllm(**more: Any) -> dict[str, Any]:
    """A service that lacks nothing."""
    gpu = {"driver": "nvidia", "device_ids": ["0"], "capabilities": ["gpu"]}
    return {"image": "vllm/vllm-openai:v0.10.1.1", "command": ["--model", "a/b", "--gpu-memory-utilization", "0.4"],
            "ports": ["127.0.0.1:8001:8000"], "healthcheck": {"test": "curl -f localhost:8000/v1/completions -d '{}'"},
            "deploy": {"resources": {"reservations": {"devices": [gpu]}}}, **more}


def written(**services: dict[str, Any]) -> str:
    return str(yaml.safe_dump({"services": services}))


# --- strangers' files -----------------------------------------------------------------------------------------------------


def test_two_models_with_vllm() -> None:
    """The usual file: a shell here, defaults there, an order that does not wait."""
    found = read(FILES / "vllm-two.yaml")
    assert found.lineup.engines == ("vllm",)
    assert found.lineup.start == ("concurrent",)
    assert [(model.name, model.source, model.share, model.context) for model in found.lineup.models] == [
        ("Qwen2.5-3B-Instruct", "Qwen/Qwen2.5-3B-Instruct", 0.45, 4096),
        ("small", "TinyLlama/TinyLlama-1.1B-Chat-v1.0", 0.3, 2000)]
    assert found.publish == {"chat": (8000,), "small": (8000,)}
    assert causes(found) == [
        ("chat", "health-generates-nothing"), ("chat", "image-not-pinned"), ("chat", "published-beyond-loopback"),
        ("chat", "trust-remote-code"), ("small", "health-missing"), ("small", "depends-without-condition")]


def test_ollama_with_a_user_interface() -> None:
    """The interface is no engine, and the service that pulls says which models there are."""
    found = read(FILES / "ollama-webui.yaml")
    assert found.left_out == ("ollama-pull", "open-webui")
    assert [(model.name, model.context) for model in found.lineup.models] == [("tinyllama:1.1b", 8192), ("qwen2.5:3b", 8192)]
    assert {server.service for server in found.by_model.values()} == {"ollama"}
    assert causes(found) == [("ollama", "health-missing"), ("ollama", "image-not-pinned"),
                             ("ollama", "published-beyond-loopback")]


def test_llamacpp_with_anchors_and_variables() -> None:
    """What stands in an anchor, and what llama.cpp takes from its environment."""
    found = read(FILES / "llamacpp-anchors.yaml")
    assert found.lineup.start == ("sequential",)
    assert [(model.name, model.source, model.context) for model in found.lineup.models] == [
        ("qwen2.5-3b-instruct-q4_k_m", "container:/models/qwen2.5-3b-instruct-q4_k_m.gguf", 4096),
        ("tinygemma3-GGUF:Q8_0", "ggml-org/tinygemma3-GGUF:Q8_0", 4096)]
    assert [server.port for server in found.servers] == [8080, 9000]
    assert causes(found) == [("coder", "health-generates-nothing"), ("drafter", "health-generates-nothing"),
                             ("drafter", "port-mismatch")]


def test_a_wrong_share() -> None:
    """The share that one of them does not state counts as what its engine takes."""
    found = read(FILES / "wrong-share.yaml")
    assert causes(found) == [("second", "privileged"), ("second", "shares-above-one")]
    assert "1.50: first 0.6 + second 0.9 (by default)" in found.findings[1].sentence
    assert found.lineup.start == ("sequential",)


@pytest.mark.parametrize("file", sorted(COMPOSE.glob("*-*.yaml")), ids=lambda file: file.stem)
def test_what_is_printed_here_lacks_nothing(file: Path) -> None:
    """And is read as the lineup that it was made from."""
    found = read(file)
    assert found.findings == ()
    assert found.lineup.start == ("sequential",)
    assert found.lineup.name == f"study-{file.stem.partition('-')[2]}"
    engine = file.stem.partition("-")[0]
    assert found.lineup.engines == (engine,)
    if engine in ("vllm", "sglang"):
        shares = {"conservative": (0.10, 0.20, 0.40), "balanced": (0.15, 0.25, 0.45), "aggressive": (0.18, 0.28, 0.50)}
        assert [model.share for model in found.lineup.models] == pytest.approx(shares[file.stem.partition("-")[2]], abs=2e-4)
    if engine != "ollama":
        assert [(model.name, model.context) for model in found.lineup.models] == [("tinyllama", 1024), ("qwen", 1536),
                                                                                  ("yi", 2048)]


# --- single findings ------------------------------------------------------------------------------------------------------


def test_a_sound_service_has_no_finding(tmp_path: Path) -> None:
    """So that each of the faults below is one alone."""
    assert causes(read_text(tmp_path, written(one=vllm()))) == []


@pytest.mark.parametrize(("change", "cause"), [
    ({"healthcheck": {"disable": True}}, "health-missing"),
    ({"healthcheck": {"test": ["NONE"]}}, "health-missing"),
    ({"healthcheck": {"test": ["CMD", "true"]}}, "health-generates-nothing"),
    ({"image": "vllm/vllm-openai"}, "image-not-pinned"),
    ({"image": "registry.local:5000/vllm/vllm-openai:nightly"}, "image-not-pinned"),
    ({"ports": ["8001:8000"]}, "published-beyond-loopback"),
    ({"ports": ["192.168.1.5:8001:8000"]}, "published-beyond-loopback"),
    ({"ports": ["127.0.0.1:8001:9000"]}, "port-mismatch"),
    ({"ports": []}, "port-not-published"),
    ({"privileged": True}, "privileged"),
    ({"deploy": {}}, "no-device"),
    ({"command": ["--model", "a/b", "--trust_remote_code"]}, "trust-remote-code"),
])
def test_each_fault_is_found_alone(tmp_path: Path, change: dict[str, Any], cause: str) -> None:
    """With the service and a cure."""
    found = read_text(tmp_path, written(one=vllm(**change))).findings
    assert [finding.cause for finding in found] == [cause]
    assert found[0].service == "one"
    assert found[0].cure


def test_a_digest_pins_whatever_the_tag(tmp_path: Path) -> None:
    """latest@sha256 is one image for ever."""
    assert causes(read_text(tmp_path, written(one=vllm(image=f"vllm/vllm-openai:latest@sha256:{'1' * 64}")))) == []


def test_a_cpu_reserves_no_gpu(tmp_path: Path) -> None:
    """What a profile does not have is not missed."""
    assert causes(read_text(tmp_path, written(one=vllm(deploy={})), "cpu")) == []


def second(**more: Any) -> dict[str, Any]:
    return vllm(command=["--model", "c/d", "--gpu-memory-utilization", "0.4"], ports=["127.0.0.1:8002:8000"], **more)


def test_two_that_start_together_on_one_card(tmp_path: Path) -> None:
    """No order at all is the same fault as one that does not wait."""
    found = read_text(tmp_path, written(one=vllm(), two=second()))
    assert causes(found) == [("two", "starts-together")]
    assert found.lineup.start == ("concurrent",)


def test_two_cards_need_no_order(tmp_path: Path) -> None:
    """Neither sees the other's memory."""
    other = second()
    other["deploy"]["resources"]["reservations"]["devices"][0]["device_ids"] = ["1"]
    found = read_text(tmp_path, written(one=vllm(), two=other))
    assert causes(found) == []
    assert [model.devices for model in found.lineup.models] == [(0,), (1,)]


def test_an_order_may_go_through_others(tmp_path: Path) -> None:
    """Waiting for what waits is waiting."""
    between = {"image": "a:1", "depends_on": {"one": {"condition": "service_healthy"}}}
    last = second(depends_on={"between": {"condition": "service_completed_successfully"}})
    found = read_text(tmp_path, written(two=last, between=between, one=vllm()))
    assert causes(found) == []
    assert found.lineup.start == ("sequential",)
    assert [server.service for server in found.servers] == ["one", "two"]


def test_two_services_on_one_port(tmp_path: Path) -> None:
    """An address of both covers each."""
    found = read_text(tmp_path, written(one=vllm(), two=second() | {
        "ports": ["127.0.0.1:8001:8000"], "depends_on": {"one": {"condition": "service_healthy"}}}))
    assert causes(found) == [("two", "port-twice")]


def test_sglang_shares_follow_the_order(tmp_path: Path) -> None:
    """Two halves of what is free are no more than the whole if one waits for the other, else they are all of it."""
    def sglang(model: str, port: int, **more: Any) -> dict[str, Any]:
        return vllm() | {"image": "lmsysorg/sglang:v0.5.15", "ports": [f"127.0.0.1:{port}:30000"], **more, "command":
                         f"python3 -m sglang.launch_server --model-path {model} --mem-fraction-static 0.6 --host 0.0.0.0"}

    waiting = read_text(tmp_path, written(one=sglang("a/b", 1), two=sglang(
        "c/d", 2, depends_on={"one": {"condition": "service_healthy"}})))
    assert [model.share for model in waiting.lineup.models] == [0.6, 0.24]
    assert causes(waiting) == []
    together = read_text(tmp_path, written(one=sglang("a/b", 1), two=sglang("c/d", 2)))
    assert [cause for _, cause in causes(together)] == ["starts-together", "shares-above-one"]


# --- engines in disguise --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("service", "engine", "model"), [
    ({"image": "x:1", "command": "vllm serve a/b --port 8000"}, "vllm", "a/b"),
    ({"image": "mirror/vllm-openai:1", "command": ["a/b"]}, "vllm", "a/b"),
    ({"image": "x:1", "entrypoint": "python3 -u -m vllm.entrypoints.openai.api_server", "command": "--model=a/b"},
     "vllm", "a/b"),
    ({"image": "x:1", "entrypoint": ["/bin/bash", "-lc"], "command": ["cd /x && exec vllm serve a/b"]}, "vllm", "a/b"),
    ({"image": "x:1", "command": "sh -c 'pip install x; python -m sglang.launch_server --model-path a/b --port 8000'"},
     "sglang", "a/b"),
    ({"image": "x:1", "command": "/opt/bin/llama-server -hf a/b:Q4 --port 8000"}, "llamacpp", "a/b:Q4"),
    ({"image": "x:1", "command": ["sh", "-c", "ollama serve & sleep 2; ollama pull a:1b; wait"],
      "environment": {"OLLAMA_HOST": "0.0.0.0:8000"}}, "ollama", "a:1b"),
    ({"image": "ollama/ollama:0.17.4", "labels": {"cotenant.models": "a:1b"}, "environment": {"OLLAMA_HOST": "http://0.0.0.0:8000"}},
     "ollama", "a:1b"),
    ({"image": "x:1", "command": ["sh", "-c", "vllm serve $${NAME:-a/b} --port $$PORT"], "environment": {"PORT": "8000"}},
     "vllm", "a/b"),
])
def test_an_engine_is_known_by_its_words_or_its_image(tmp_path: Path, service: dict[str, Any], engine: str,
                                                      model: str) -> None:
    """In a shell, behind a module, on a mirror."""
    (found,) = read_text(tmp_path, written(one=service)).servers
    assert (found.engine, found.sources, found.port) == (engine, (model,), 8000)


@pytest.mark.parametrize("service", [
    {"image": "ghcr.io/open-webui/open-webui:ollama"}, {"image": "vllm/vllm-router:1"}, {"image": "nginx:1"},
    {"image": "vllm/vllm-openai:v1", "entrypoint": ["hf", "download", "a/b"]},
    {"image": "ollama/ollama:1", "command": "pull x"}, {"image": "ghcr.io/ggml-org/llama.cpp:light"},
])
def test_what_only_looks_like_one_is_left_out(tmp_path: Path, service: dict[str, Any]) -> None:
    """An interface, a router, an errand."""
    assert read_text(tmp_path, written(one=vllm(), other=service)).left_out == ("other",)


def test_models_of_an_ollama_server_that_another_service_asks_for(tmp_path: Path) -> None:
    """By a request, or as an interface's default."""
    ollama = {"image": "ollama/ollama:0.17.4"}
    curl = {"image": "curl:1", "command": ["curl", "http://ollama:11434/api/pull", "-d", '{"name": "a:1b"}']}
    interface = {"image": "ui:1", "environment": {"DEFAULT_MODELS": "b:2b, c:3b"}}
    found = read_text(tmp_path, written(ollama=ollama, curl=curl, ui=interface))
    assert [model.name for model in found.lineup.models] == ["a:1b", "b:2b", "c:3b"]


def test_engines_of_several_kinds_make_a_mixed_lineup(tmp_path: Path) -> None:
    """Each model names its own."""
    found = read_text(tmp_path, written(one=vllm(), two={"image": "ollama/ollama:1", "labels": {"cotenant.models": "a:1b"}}))
    assert found.lineup.engines == ("mixed",)
    assert [model.engine for model in found.lineup.models] == ["vllm", "ollama"]
    assert found.lineup.models[1].share == 0.6


def test_tensor_parallel_takes_as_many_devices(tmp_path: Path) -> None:
    """All of them are counted from the first."""
    service = vllm(command=["--model", "a/b", "-tp", "2"])
    service["deploy"]["resources"]["reservations"]["devices"] = [
        {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}]
    (model,) = read_text(tmp_path, written(one=service)).lineup.models
    assert model.devices == (0, 1)


def test_a_mounted_model_is_found_on_this_machine(tmp_path: Path) -> None:
    """Where it has what a model's folder has."""
    folder = tmp_path / "models" / "mine"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    service = vllm(command=["--model", "/models/mine"], volumes=["./models:/models:ro"])
    (model,) = read_text(tmp_path, written(one=service)).lineup.models
    assert (model.name, model.source) == ("mine", str(folder))


# --- names ----------------------------------------------------------------------------------------------------------------


def test_a_name_with_a_slash_gets_another_beside_it() -> None:
    """Told as a change; the file's own names stay."""
    project, changes = read(FILES / "vllm-two.yaml").named()
    assert project["services"]["chat"]["command"][-3:] == ["--served-model-name", "Qwen2.5-3B-Instruct",
                                                           "Qwen/Qwen2.5-3B-Instruct"]
    assert [change.partition(":")[0] for change in changes] == ["chat"]


def test_it_is_put_into_a_shell_s_script_too(tmp_path: Path) -> None:
    """Behind the model, quoted or not."""
    service = vllm(entrypoint=["sh", "-c"], command=['exec vllm serve "a/b" --max-model-len 2048'])
    project, _ = read_text(tmp_path, written(one=service)).named()
    assert project["services"]["one"]["command"] == ['exec vllm serve "a/b" --served-model-name b a/b --max-model-len 2048']


def test_a_name_that_cannot_be_added_is_asked_for(tmp_path: Path) -> None:
    """A variable is not to be found in the script."""
    service = vllm(entrypoint=["sh", "-c"], command=["exec vllm serve $$M"], environment={"M": "a/b"})
    with pytest.raises(ConfigurationError, match="service one: give its model a name"):
        read_text(tmp_path, written(one=service)).named()


# --- errors ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "said"), [
    ("services:\n  one: [", "yaml"),
    ("just words", "compose.yaml"),
    ("services:\n  one:\n    imagee: x\n", "imagee"),
    ("services:\n  web:\n    image: nginx:1\n  db:\n    image: postgres:1\n", "none of its services is an engine"),
    (written(one=vllm(command=["--max-model-len", "10"])), "service one: no model is named"),
    (written(one=vllm(entrypoint=["sh", "-c"], command=["vllm serve $$MODEL"])), "service one: its model '$MODEL'"),
    (written(one=vllm(command=["--model", "a/b", "--port", "http"])), "service one: its port 'http'"),
    (written(one=vllm(command=["--model", "a/b", "--port", "70000"])), "service one: its port '70000'"),
    (written(one=vllm(command=["--model", "a/b", "--gpu-memory-utilization", "45"])),
     "service one: --gpu-memory-utilization 45"),
    (written(one={"image": "ollama/ollama:1"}), "service one: no model is named: Ollama"),
    (written(one=vllm(), two=vllm()), "services one and two both serve 'b'"),
    (written(one=vllm(image="${NOT_SET_ANYWHERE:?set it}")), "set it"),
])
def test_what_cannot_be_read_is_refused_in_words(tmp_path: Path, text: str, said: str) -> None:
    """With the file, the service and what is wrong."""
    with pytest.raises(ConfigurationError) as refused:
        read_text(tmp_path, text)
    assert str(tmp_path / "compose.yaml") in str(refused.value)
    assert said in str(refused.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Is named."""
    with pytest.raises(ConfigurationError, match="no such file"):
        read(tmp_path / "none.yaml")


def test_without_compose_the_cure_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a traceback."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DockerFault) as refused:
        read(FILES / "vllm-two.yaml")
    assert refused.value.cause == "compose-missing"
    assert "plugin" in refused.value.cure


# --- words ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "found"), [
    (["a", "b"], [["a", "b"]]),
    (["sh", "-c", "X=1 exec a b"], [["a", "b"]]),
    (["sh", "-c", "a && b; c | d & wait"], [["a"], ["b"], ["c"], ["d"], ["wait"]]),
    (["bash", "-ec", "a \\\n  --x 'y z' # why\nb"], [["a", "--x", "y z"], ["b"]]),
    (["tini", "--", "sh", "-c", "a $V ${W:-w} ${V:-x} $U"], [["a", "v", "w", "v", "$U"]]),
    (["sh", "-c", "a 'not closed"], []),
    (["sh", "script.sh"], [["sh", "script.sh"]]),
    ([], []),
])
def test_commands_are_taken_out_of_their_shell(given: list[str], found: list[list[str]]) -> None:
    """As the shell would run them."""
    assert words.commands(given, {"V": "v"}) == found


def test_flags_in_every_spelling() -> None:
    """The last one counts."""
    flags = words.Flags(["--a", "1", "--b=2", "--c_d", "3", "--on", "--a", "4", "-x", "5", "6"])
    assert (flags.one("--a"), flags.one("--b"), flags.one("--c-d"), flags.all("-x")) == ("4", "2", "3", ["5", "6"])
    assert flags.has("--on")
    assert not flags.has("--off")
    assert [words.number(text) for text in ("4096", "4k", "4K", "x", "")] == [4096, 4000, 4096, None, None]
