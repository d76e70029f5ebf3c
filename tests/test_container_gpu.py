"""A container asks for exactly its GPUs, by CDI, by the runtime nvidia or by --gpus, whichever the daemon has."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fixtures.docker import nvidia
from fixtures.docker.daemon import Daemon
from fixtures.docker.fault import DockerFault
from fixtures.docker.image import Image
from fixtures.launchers.handle import Command
from tests import docker_engine
from tests.containers import Containers
from tests.docker_engine import OwnEngine

CARDS = ("GPU-8a5e6b1c-0000-4d3b-9f43-1d2c3b4a5f60", "GPU-8a5e6b1c-0001-4d3b-9f43-1d2c3b4a5f60")
# It records what the container asks for, then does what runc does.
RUNTIME = """#!/bin/sh
for word; do
    [ "$before" = --bundle ] && bundle=$word
    [ "$word" = create ] && create=yes
    before=$word
done
[ -n "$create" ] && cp "$bundle/config.json" "{folder}/$(basename "$bundle").json"
exec runc "$@"
"""
HOOK = """#!/bin/sh
cat > "{folder}/hooked.json"
"""
SLEEPS = Command(("/bin/sh", "-c", "echo ready; env; sleep 600"), {"CUDA_VISIBLE_DEVICES": CARDS[0]}, 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the programs that NVIDIA's toolkit would have installed."""
    made = tmp_path_factory.mktemp("nvidia")
    (made / "bin").mkdir()
    for path, code in ((made / "runtime", RUNTIME), (made / "bin" / nvidia.HOOK, HOOK)):
        path.write_text(code.replace("{folder}", str(made)))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return made


@pytest.fixture(scope="module")
def own(folder: Path) -> Iterator[OwnEngine]:
    """A dockerd that has the runtime nvidia, and knows --gpus."""
    with OwnEngine(runtimes={"nvidia": folder / "runtime"}, programs=folder / "bin") as engine:
        yield engine


@pytest.fixture
def start(own: OwnEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Containers]:
    daemon = own.daemon(monkeypatch)
    image: Image = docker_engine.shell_image(daemon)
    containers = Containers(tmp_path, daemon, image)
    yield containers
    containers.close()
    daemon.client.images.remove(image.id, force=True)


def test_by_the_runtime(start: Containers, folder: Path) -> None:
    """The devices by UUID, CUDA and NVML and nothing more, no privileges, no device nodes by hand."""
    assert nvidia.way(start.daemon, CARDS) == "runtime"
    handle = start(SLEEPS, devices=CARDS[:1])
    asked = json.loads((folder / f"{handle.id}.json").read_text())
    env = dict(entry.split("=", 1) for entry in asked["process"]["env"])
    assert (env["NVIDIA_VISIBLE_DEVICES"], env["NVIDIA_DRIVER_CAPABILITIES"]) == (CARDS[0], "compute,utility")
    assert env["CUDA_VISIBLE_DEVICES"] == CARDS[0]
    _expect_unprivileged(asked)
    assert CARDS[1] not in json.dumps(asked)
    assert "--runtime nvidia" in " ".join(handle.command)
    handle = start(SLEEPS, devices=CARDS)
    asked = json.loads((folder / f"{handle.id}.json").read_text())
    assert f"NVIDIA_VISIBLE_DEVICES={','.join(CARDS)}" in asked["process"]["env"]


def test_without_devices_the_runtime_is_left_alone(start: Containers, folder: Path) -> None:
    """An engine on a CPU sees no GPU."""
    handle = start(SLEEPS)
    assert not (folder / f"{handle.id}.json").exists()
    assert "NVIDIA" not in handle.log.read_text()


def test_by_gpus(start: Containers, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The toolkit is installed and no runtime configured: the daemon's own way, which its hook is called by."""
    monkeypatch.setenv("PATH", str(folder / "bin"), prepend=":")
    start.daemon = replace(start.daemon, runtimes=frozenset({"runc"}))
    assert nvidia.way(start.daemon, CARDS) == "gpus"
    handle = start(SLEEPS, devices=CARDS[:1])
    assert json.loads((folder / "hooked.json").read_text())["id"] == handle.id
    said = dict(line.split("=", 1) for line in handle.log.read_text().splitlines() if "=" in line)
    assert (said["NVIDIA_VISIBLE_DEVICES"], said["NVIDIA_DRIVER_CAPABILITIES"]) == (CARDS[0], "compute,utility")
    (request,) = start.daemon.client.api.inspect_container(handle.id)["HostConfig"]["DeviceRequests"]
    assert (request["DeviceIDs"], request["Capabilities"]) == ([CARDS[0]], [["gpu", "compute", "utility"]])


def _expect_unprivileged(asked: dict[str, Any]) -> None:
    assert asked["process"]["noNewPrivileges"] is True
    assert not any(asked["process"]["capabilities"].get(name) for name in ("bounding", "effective", "permitted"))
    assert asked["root"]["readonly"] is True
    assert not [node for node in asked["linux"].get("devices", ()) if "nvidia" in node["path"]]
    assert asked["linux"]["resources"]["devices"][0] == {"allow": False, "access": "rwm"}
    assert {"pid", "ipc", "network", "mount", "uts"} <= {space["type"] for space in asked["linux"]["namespaces"]}


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Daemon:
    """A daemon on a machine without NVIDIA's toolkit."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return Daemon("unix:///none", "28.3.0", "1.51", runtimes=frozenset({"runc"}))


def test_by_cdi_where_the_daemon_has_found_the_devices(bare: Daemon) -> None:
    """CDI before the runtime, for devices that are known by it; the image's own wish for all GPUs is taken back."""
    names = frozenset(f"nvidia.com/gpu={card}" for card in (*CARDS, "all"))
    daemon = replace(bare, cdi_folders=("/etc/cdi",), cdi_devices=names, runtimes=frozenset({"runc", "nvidia"}))
    asked = nvidia.request(daemon, CARDS)
    (request,) = asked.options["device_requests"]
    assert (request["Driver"], request["DeviceIDs"]) == ("cdi", [f"nvidia.com/gpu={card}" for card in CARDS])
    assert asked.env == {"NVIDIA_VISIBLE_DEVICES": "void"}
    assert asked.words == ("--device", f"nvidia.com/gpu={CARDS[0]}", "--device", f"nvidia.com/gpu={CARDS[1]}")
    assert nvidia.way(daemon, ["GPU-other"]) == "runtime"
    assert nvidia.request(daemon, ()) == nvidia.Request()


def test_by_cdi_where_only_files_tell(bare: Daemon, tmp_path: Path) -> None:
    """Daemons before 28 do not list the devices; those that know no CDI do not look into the folders."""
    (tmp_path / "cdi").mkdir()
    (tmp_path / "cdi" / "broken.yaml").write_text("a: [")
    spec = {"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": [{"name": CARDS[0], "containerEdits": {}}]}
    (tmp_path / "cdi" / "nvidia.json").write_text(json.dumps(spec))
    daemon = replace(bare, cdi_folders=(str(tmp_path / "cdi"), str(tmp_path / "absent")))
    assert nvidia.way(daemon, CARDS[:1]) == "cdi"
    assert nvidia.way(daemon) == "cdi"
    assert nvidia.way(daemon, CARDS) is None
    assert nvidia.way(bare, CARDS[:1]) is None


def test_no_way_says_which_command_makes_one(bare: Daemon, tmp_path: Path) -> None:
    """To install the toolkit, or only to configure it."""
    with pytest.raises(DockerFault) as raised:
        nvidia.request(bare, CARDS)
    assert raised.value.cause == "nvidia-runtime-missing"
    assert "install nvidia-container-toolkit" in raised.value.cure
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "nvidia-ctk").write_text("")
    (tmp_path / "bin" / "nvidia-ctk").chmod(0o755)
    assert nvidia.missing(bare).cure.startswith("nvidia-ctk runtime configure --runtime=docker")
