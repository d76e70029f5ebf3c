"""The gateway as a service of a Compose project: its names are looked up as containers come and go."""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fixtures import lineup
from fixtures.compose.file import plain
from fixtures.compose.preset import Preset, project
from fixtures.gateway import __main__ as command
from fixtures.gateway import configuration, service
from fixtures.gateway.configuration import SCRIPT, Backend, Njs
from fixtures.gateway.door import Door, openai_error
from fixtures.gpu import profile
from fixtures.launchers.port import reserve
from fixtures.load.answer import Answer
from tests import gateways
from tests.composing import compose
from tests.docker_engine import engine, python_image

ENGINES = ("vllm", "sglang", "ollama", "llamacpp")


# --- the files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("study", ["conservative", "balanced", "aggressive"])
def test_each_model_is_looked_for_where_its_service_listens(name: str, study: str) -> None:
    """The hosts are services of the lineup's Compose file, the ports those that these publish."""
    preset = Preset(lineup.load(f"study-{study}"), name, profile.committed()["rtx5090"])
    services = project(preset)["services"]
    found = service.backends(preset)
    assert [backend.name for backend in found] == [model.name for model in preset.lineup.models]
    for backend in found:
        (published,) = services[backend.host]["ports"]
        assert str(published).endswith(f":{backend.port}")


def test_the_committed_files_are_the_generated_ones(tmp_path: Path) -> None:
    """File and lineup do not drift apart; the script beside them is the one that the process launcher uses."""
    written = command.write("study-balanced", "vllm", "rtx5090", tmp_path)
    assert sorted(path.name for path in written) == sorted(path.name for path in SCRIPT.parent.iterdir())
    for path in written:
        assert path.read_text() == (SCRIPT.parent / path.name).read_text(), path.name


def test_compose_takes_the_files_together() -> None:
    """As a user gives them, the deployment's first."""
    compose()
    folder = SCRIPT.parents[1]
    words = ["docker", "compose", "-f", f"{folder}/vllm-balanced.yaml", "-f", f"{folder}/gateway/compose.yaml", "config"]
    done = subprocess.run([*words, "--format", "json"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)["services"]["gateway"]
    assert (made["read_only"], made["cap_drop"], made["user"]) == (True, ["ALL"], "65534:65534")
    assert [(port["host_ip"], port["target"]) for port in made["ports"]] == [("127.0.0.1", service.PORT)]
    assert all(Path(volume["source"]).is_file() for volume in made["volumes"])


@pytest.mark.parametrize(("words", "says"), [
    (["no-such", "--engine", "vllm", "--profile", "rtx5090"], "no lineup 'no-such'"),
    (["study-balanced", "--engine", "vlm", "--profile", "rtx5090"], "did you mean 'vllm'"),
    (["study-balanced", "--engine", "vllm", "--profile", "rtx509"], "no profile 'rtx509'"),
])
def test_what_is_not_there_is_named(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With exit code 4."""
    assert command.main(words) == 4
    assert says in capsys.readouterr().err


# --- in containers --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Project:
    """A running project: `compose("stop", "first")`."""

    file: Path
    name: str
    port: int

    def __call__(self, *words: str) -> str:
        done = subprocess.run(["docker", "compose", "-p", self.name, "-f", str(self.file), *words], capture_output=True,
                              text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ask(self, model: str) -> Answer:
        client = Door(f"http://127.0.0.1:{self.port}").client(model, 15)
        answer = client.chat("Hello!", max_tokens=2)
        client.close()
        return answer


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Project]:
    """Two models and a gateway, of which nothing runs yet; nginx is this machine's, in an image that has its libraries."""
    compose()
    nginx = gateways.here()
    assert nginx.njs is not None
    image = python_image(engine()).id
    (tmp_path / "gateway.js").write_text(SCRIPT.read_text())
    models = [Backend("first", "first", 8000), Backend("second", "second", 8000)]
    (tmp_path / service.NGINX).write_text(configuration.of(models, listen=str(service.PORT), njs=Njs(), workers="1"))
    gateway = service.definition(str(tmp_path), image)
    gateway["volumes"] += [f"{nginx.program}:{nginx.program}:ro",
                           f"{Path(nginx.njs.module).parent}:/usr/share/nginx/modules:ro"]
    del gateway["healthcheck"]  # asks by curl, which is not in this image
    with reserve(exclusive=False) as port:
        gateway |= {"entrypoint": [nginx.program], "ports": [f"127.0.0.1:{port.port}:{service.PORT}"]}
        services = {"gateway": gateway, **{backend.name: server(image, backend.name) for backend in models}}
        (tmp_path / "compose.yaml").write_text(plain({"services": services}))
        started = Project(tmp_path / "compose.yaml", f"cotenant-{uuid.uuid4().hex[:8]}", port.port)
        try:
            yield started
        finally:
            started("down", "-t", "0", "-v")


def server(image: str, name: str) -> dict[str, object]:
    program = gateways.PROGRAM
    return {"image": image, "command": ["python3", "-S", "-u", str(program), "8000", name, "0.001", name, "0.0.0.0"],
            "volumes": [f"{program}:{program}:ro"], "init": True}


def within(limit_s: float, ask: Callable[[], Answer], wanted: Callable[[Answer], bool]) -> Answer:
    """The first wanted answer."""
    deadline = time.monotonic() + limit_s
    while not wanted(answer := ask()):
        assert time.monotonic() < deadline, answer
        time.sleep(0.2)
    return answer


def test_models_come_and_go_and_the_gateway_stays(made: Project) -> None:
    """It starts before any model, as nobody in particular, serves the first that comes, refuses the others in bounded time,
    and finds each that comes, comes back, or comes back at another address."""
    made("up", "-d", "gateway")
    refused = within(10, lambda: made.ask("second"), lambda answer: answer.status == 503)
    assert openai_error(refused.raw) is not None
    made("up", "-d", "first")
    assert within(15, lambda: made.ask("first"), lambda answer: answer.ok).model == "first"
    assert made.ask("second").status == 503
    made("up", "-d", "second")
    within(15, lambda: made.ask("second"), lambda answer: answer.ok)
    was = made("exec", "-T", "gateway", "getent", "hosts", "second").split()[0]
    made("kill", "second")
    refused = within(5, lambda: made.ask("second"), lambda answer: answer.status == 503)
    assert refused.e2e_s < 10
    assert made.ask("first").ok
    made("rm", "-f", "second")
    made("up", "-d", "--scale", "first=2", "first")  # which takes the address that was free
    made("up", "-d", "second")
    assert within(15, lambda: made.ask("second"), lambda answer: answer.ok).model == "second"
    assert made("exec", "-T", "gateway", "getent", "hosts", "second").split()[0] != was
    uids = made("exec", "-T", "gateway", "sh", "-c", "cat /proc/1/status; touch /etc/x 2>&1 || true")
    assert "Uid:\t65534\t65534" in uids
    assert "CapEff:\t0000000000000000" in uids
    assert "Read-only file system" in uids


