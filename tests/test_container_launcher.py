"""A server in a container has the same handle as a process: its pids, its log to the last line, its exit code, its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from fixtures.docker import labels
from fixtures.docker.daemon import Daemon
from fixtures.docker.image import Image
from fixtures.docker.mount import Mount, merged, reaching
from fixtures.docker.recipe import SECRET, without_secrets
from fixtures.launchers import proc, stray
from fixtures.launchers.attest import listening
from fixtures.launchers.handle import Command, Handle
from tests import docker_engine
from tests.containers import CHECKOUT, Containers, program, small_server
from tests.launching import DAEMON, DEAF, READY, SLEEP, alive, eventually

LINES = 20_000
POLITE = "import signal, os; signal.signal(signal.SIGTERM, lambda *_: (print('bye'), os._exit(0)))\n"


@pytest.fixture(scope="module")
def engine() -> Daemon:
    return docker_engine.engine()


@pytest.fixture(scope="module")
def image(engine: Daemon) -> Image:
    return docker_engine.python_image(engine)


@pytest.fixture
def start(engine: Daemon, image: Image, tmp_path: Path) -> Iterator[Containers]:
    containers = Containers(tmp_path, engine, image)
    yield containers
    containers.close()
    assert containers.left == []


def test_a_server_answers_on_a_port_of_loopback_alone(start: Containers, engine: Daemon) -> None:
    """The three marks are filled in, JSON is left alone, and nobody outside of this machine reaches it."""
    handle = start(small_server("small"), ready=False)
    assert eventually(lambda: listening(handle))
    assert httpx.get(f"{handle.url}/v1/models").json()["data"][0]["id"] == "small"
    bindings = engine.client.api.inspect_container(handle.id)["NetworkSettings"]["Ports"]
    assert bindings == {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(handle.port)}]}
    other = start(program("import sys; print(sys.argv[1:]); print('ready')", "{host}", "{port}", '{"a": {}}', "{scratch}/b"))
    assert "['0.0.0.0', '8000', '{\"a\": {}}', '/scratch/b']" in other.log.read_text()


def test_its_world_is_its_own(start: Containers, monkeypatch: pytest.MonkeyPatch, image: Image) -> None:
    """Nothing of the caller's environment gets in; home and temporary folder are the scratch folder of this machine."""
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example")
    monkeypatch.setenv("USERS_OWN", "1")
    handle = start(program("import json, os; open('kept', 'w'); print(json.dumps(dict(os.environ))); print(os.getcwd())\n"
                           + READY, CACHE="{scratch}/c"))
    env = json.loads(handle.log.read_text().splitlines()[0])
    assert {key: env[key] for key in ("HOME", "TMPDIR", "USER", "CACHE")} == {
        "HOME": "/scratch", "TMPDIR": "/scratch", "USER": "cotenant", "CACHE": "/scratch/c"}
    assert not {"HTTP_PROXY", "USERS_OWN", "COTENANT_RUN"} & env.keys()
    assert handle.log.read_text().splitlines()[1] == "/scratch"
    assert handle.scratch is not None
    kept = handle.scratch / "kept"
    assert (kept.stat().st_uid, kept.stat().st_gid) == (os.getuid(), os.getgid())
    assert handle.image is image
    handle.close()
    assert not handle.scratch.exists()


def test_it_may_do_nothing_that_the_caller_may_not(start: Containers, tmp_path: Path) -> None:
    """No capabilities, no new privileges, nothing to write but its scratch folder, /tmp and what was given to be written."""
    given, kept = tmp_path / "given", tmp_path / "kept"
    given.mkdir()
    kept.mkdir()
    code = ("import os\nprint(open('/proc/self/status').read())\n"
            f"for path in ('/etc/x', '{given}/x', '{kept}/x', '/scratch/x', '/tmp/x', '/dev/shm/x'):\n"
            "    try:\n        open(path, 'w'); print('writes', path)\n    except OSError as fault: print('no', path)\n"
            "os.chmod('/tmp/x', 0o755); open('/tmp/y', 'w').write('#!/bin/true\\n'); os.chmod('/tmp/y', 0o755)\n"
            "print('runs', os.spawnl(os.P_WAIT, '/tmp/y', 'y'))\nprint('shm', os.statvfs('/dev/shm').f_blocks * 4096)\n")
    handle = start(program(code + READY), mounts=[Mount(kept, writable=True), Mount(given)], shm_bytes=32 * 2**20)
    said = handle.log.read_text()
    for line in ("CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", f"Uid:\t{os.getuid()}",
                 "no /etc/x", f"no {given}/x", f"writes {kept}/x", "writes /scratch/x", "writes /tmp/x", "writes /dev/shm/x",
                 "runs 0", f"shm {32 * 2**20}"):
        assert line in said, line


def test_its_processes_are_known_by_this_machines_pids(start: Containers) -> None:
    """Daemons that left their parent included, the container's init not."""
    handle = start(program(DAEMON + SLEEP))
    assert eventually(lambda: len(handle.pids()) == 2)
    assert handle.main_pid == handle.pids()[0]
    assert [proc.command_line(pid).split()[0] for pid in handle.pids()] == ["python3", "sleep"]
    assert stray.strays() == [] or not {process.pid for process in stray.strays()} & set(handle.pids())
    sleeper = handle.pids()[1]
    handle.kill(sleeper)
    assert eventually(lambda: handle.pids() == [handle.main_pid])
    with pytest.raises(ValueError, match="does not belong"):
        handle.kill(os.getpid())
    assert handle.running()


@pytest.mark.parametrize(("code", "exit_code", "words"), [
    ("raise SystemExit(0)", 0, "ended with exit code 0"),
    ("raise SystemExit(3)", 3, "ended with exit code 3"),
    ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", -int(signal.SIGSEGV), "signal 11 (SIGSEGV)"),
    ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -int(signal.SIGKILL), "signal 9 (SIGKILL)"),
])
def test_exit_codes_are_a_processs(start: Containers, code: str, exit_code: int, words: str) -> None:
    """Signals are negative, as for a process, and the log's last line tells the container's end."""
    handle = start(program(f"print('no newline', end='', flush=True)\n{code}"), ready=False)
    assert handle.wait(10) == exit_code
    assert not handle.running()
    *_, before, last = handle.log.read_text().splitlines()
    assert (before, last.startswith("cotenant: the container "), words in last) == ("no newline", True, True)


def test_sigterm_reaches_the_engine(start: Containers) -> None:
    """And its own way to end is taken: by a handler, by default, or not at all until SIGKILL."""
    polite = start(program(POLITE + SLEEP))
    plain, deaf = start(program(SLEEP)), start(program(DEAF + SLEEP, grace_s=0.5))
    for handle in (polite, plain, deaf):
        handle.terminate()
    assert (polite.wait(5), plain.wait(5), deaf.wait(0.5)) == (0, -int(signal.SIGTERM), None)
    assert "bye\n" in polite.log.read_text()
    began = time.monotonic()
    deaf.close()
    assert 0.4 < time.monotonic() - began < 5
    assert deaf.exit_code() == -int(signal.SIGKILL)


def test_a_kill_takes_all_with_it(start: Containers) -> None:
    """The container's processes die with the engine, so that nothing of them holds memory."""
    handle = start(program(DAEMON + SLEEP))
    assert eventually(lambda: len(handle.pids()) == 2)
    members = handle.pids()
    handle.kill()
    assert handle.wait(5) == -int(signal.SIGKILL)
    assert handle.leftovers().processes == ()
    assert not any(map(alive, members))
    assert handle.pids() == []
    handle.kill()
    handle.terminate()


def test_the_log_has_every_line_once(start: Containers) -> None:
    """What was written in the last moment before the end, too; between the two streams Docker keeps no order."""
    code = (f"import sys\nfor number in range({LINES}):\n    print(f'line {{number}}', flush=False)\n"
            "sys.stdout.flush()\nprint('last words', file=sys.stderr)\nimport os; os._exit(1)")
    handle = start(Command(("python3", "-S", "-c", code)), ready=False)
    assert handle.wait(20) == 1
    lines = handle.log.read_text().splitlines()
    assert lines.pop() == "cotenant: the container ended with exit code 1"
    lines.remove("last words")
    assert lines == [f"line {number}" for number in range(LINES)]


def test_close_ends_it_and_may_be_called_twice(start: Containers) -> None:
    """The log is complete, container and scratch folder are gone."""
    handle: Handle = start(program(POLITE + SLEEP))
    pids = handle.pids()
    handle.close()
    handle.close()
    assert handle.log is not None
    assert handle.log.read_text().splitlines()[-2:] == ["bye", "cotenant: the container ended with exit code 0"]
    assert start.left == []
    assert not any(map(alive, pids))
    assert handle.exit_code() == 0


def test_everything_carries_the_runs_labels(start: Containers, engine: Daemon) -> None:
    """Run, pytest and server can be told from the container."""
    handle = start(program(SLEEP))
    marks = engine.client.api.inspect_container(handle.id)["Config"]["Labels"]
    assert {key: marks[key] for key in (labels.RUN, labels.PID, labels.SERVER)} == {
        labels.RUN: start.run, labels.PID: str(os.getpid()), labels.SERVER: "stand-in"}
    owner = labels.Owner.of(marks)
    assert owner is not None
    assert not owner.gone


def test_an_images_own_entrypoint_does_not_matter(start: Containers, engine: Daemon) -> None:
    """Images of engines start the engine whatever they are given."""
    image = docker_engine.shell_image(engine, entrypoint=["/bin/cat"])
    try:
        handle = start(Command(("/bin/sh", "-c", "echo ready; sleep 600")), image=image)
        assert proc.command_line(handle.main_pid or 0).startswith("/bin/sh -c echo ready")
        handle.close()
    finally:
        engine.client.images.remove(image.id, force=True)


def test_the_command_is_the_same_container(start: Containers, engine: Daemon, tmp_path: Path) -> None:
    """`docker run` with the words that are told makes what was made, and secrets are not among them."""
    handle = start(program(SLEEP, HF_TOKEN="hf_secret", PLAIN="told"), memory_limit=512 * 2**20)
    words = list(handle.command)
    assert "hf_secret" not in " ".join(words)
    assert words[:3] == ["docker", "run", "--detach"]
    words[1:3] = ["create"]
    words[words.index("--name") + 1] += "-again"
    made = subprocess.run(words, env={**os.environ, "HF_TOKEN": "hf_secret"}, capture_output=True, text=True, timeout=20,
                          check=True).stdout.strip()
    ours, theirs = (engine.client.api.inspect_container(identity) for identity in (handle.id, made))
    assert _settings(ours) == _settings(theirs)


def test_no_secret_is_told() -> None:
    """Tokenizers and numbers of tokens are none."""
    told = without_secrets(["serve", "--api-key", "a", "--tokenizer", "b", "--hf-token=c", "--max-tokens", "4"])
    assert told == ["serve", "--api-key", "***", "--tokenizer", "b", "--hf-token=***", "--max-tokens", "4"]
    assert [bool(SECRET.search(name)) for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "TOKENIZERS_PARALLELISM")] == [
        True, True, False]


def _settings(told: dict[str, dict[str, object]]) -> dict[str, object]:
    """What may not differ, in the daemon's own words."""
    host, config = told["HostConfig"], told["Config"]
    empty: tuple[object, ...] = (None, [], {}, "", 0, False)
    unlike = ("ConsoleSize", "RestartPolicy")  # no policy is written as "" by the one, as "no" by the other
    kept = {key: value for key, value in host.items() if value not in empty and key not in unlike}
    mounts = [{key: value for key, value in mount.items() if value not in empty} for mount in host["Mounts"]]  # type: ignore
    marks = {key: value for key, value in config["Labels"].items() if "testcontainers" not in key}  # type: ignore
    return {**kept, "Mounts": mounts, "Labels": marks, "Env": sorted(config["Env"]),  # type: ignore
            **{key: config[key] for key in ("Cmd", "Entrypoint", "WorkingDir", "User", "ExposedPorts")}}


def test_the_same_paths_inside_and_outside(start: Containers) -> None:
    """A folder is seen where it lies here."""
    here = CHECKOUT / "tests" / "small_server.py"
    handle = start(program(f"print(len(open({str(here)!r}).read()))\n" + READY))
    assert handle.log.read_text().splitlines()[0] == str(len(here.read_text()))


def test_links_lead_to_what_is_mounted(start: Containers, tmp_path: Path) -> None:
    """The hub's cache keeps a model's files in another folder than the model."""
    blobs, model = tmp_path / "hub" / "blobs", tmp_path / "hub" / "snapshots" / "main"
    blobs.mkdir(parents=True)
    model.mkdir(parents=True)
    (blobs / "8a5e").write_text("weights")
    (model / "model.safetensors").symlink_to("../../blobs/8a5e")
    (model / "dangling").symlink_to("../../blobs/none")
    assert reaching(model) == (Mount(blobs), Mount(model))
    handle = start(program(f"print(open('{model}/model.safetensors').read())\n" + READY), mounts=reaching(model))
    assert "weights" in handle.log.read_text()


def test_mounts_are_merged() -> None:
    """Each place once, outer ones first; who wants to write there may."""
    kept, inner = Path("/store"), Path("/store/inner")
    assert merged([Mount(inner), Mount(kept, writable=True), Mount(kept), Mount(inner)]) == (
        Mount(kept, writable=True), Mount(inner))
