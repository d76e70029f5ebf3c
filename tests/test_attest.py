"""Only the processes that were launched may answer on the port, and whoever else does is named."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.launchers.attest import Attestation, Owner, attest, judge_identity, occupied, owner, owners, same_version
from fixtures.launchers.endpoint import EndpointHandle
from fixtures.launchers.handle import Handle
from fixtures.verdict import Judgement, Unavailable, Verdict
from tests.launching import READY, SERVE, SLEEP, Launcher, program

ME = pwd.getpwuid(os.getuid()).pw_name
SHARING = SERVE.replace("SO_REUSEADDR", "SO_REUSEPORT")
FORKING = SERVE + "import os\nif os.fork() == 0:\n    server.close()\nelse:\n    os.fork()\n"
OURS = Attestation(8000, True, Owner(1, "vllm serve", "me"))


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Launcher]:
    with tempfile.TemporaryDirectory(prefix="cot") as folder:
        monkeypatch.setenv("COTENANT_HOME", folder + "/home")
        launcher = Launcher(Path(folder))
        yield launcher
        launcher.close()


@pytest.mark.parametrize("code", [SERVE, FORKING, SERVE.replace("127.0.0.1", "0.0.0.0")])
def test_the_servers_own_port_is_attested(start: Launcher, code: str) -> None:
    """Shared among its own workers, or open to all addresses, it is still its own."""
    handle = start(program(code + SLEEP, "{port}"))
    seen = attest(handle)
    assert (seen.owned, seen.several) == (True, False)
    assert seen.owner_pid in handle.pids()
    assert seen.owner_command.startswith(sys.executable)


def test_nobody_there_is_not_owned(start: Launcher) -> None:
    """A reserved port that is only bound has no listener; the judge says so."""
    handle = start(program(SLEEP))
    seen = attest(handle)
    assert (seen.owned, seen.owner, occupied(handle.port)) == (False, None, None)
    assert "nobody listens" in judge(seen).reason


def test_a_thief_is_named(start: Launcher) -> None:
    """A server left over from another run has the port: pid, command and user are told."""
    handle = start(program(SLEEP))
    with subprocess.Popen([sys.executable, "-S", "-c", SERVE + SLEEP, str(handle.port)], stdout=subprocess.PIPE) as thief:
        try:
            assert thief.stdout is not None
            thief.stdout.readline()
            seen = attest(handle)
            assert (seen.owned, seen.owner_pid) == (False, thief.pid)
            assert owner(handle.port) == seen.owner
            sentence = occupied(handle.port)
        finally:
            thief.kill()
    assert sentence is not None
    assert f"port {handle.port} is held by process {thief.pid} ({sys.executable} -S -c" in sentence
    assert sentence.endswith(f"of user {ME}")
    assert str(thief.pid) in judge(seen).reason


def test_one_of_several_listeners_is_not_enough(start: Launcher) -> None:
    """With SO_REUSEPORT the kernel gives every other connection to the stranger, who is the one that is named."""
    handle = start(program(SHARING + SLEEP, "{port}"))
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        stranger.bind(("127.0.0.1", handle.port))
        stranger.listen()
        seen = attest(handle)
        assert (seen.owned, seen.several, seen.owner_pid) == (False, True, os.getpid())
        assert "one of several" in judge(seen).reason
    assert attest(handle).owned


def test_a_descriptor_in_strange_hands_is_seen() -> None:
    """A socket that a process has inherited is held by both."""
    with socket.create_server(("127.0.0.1", 0)) as server, subprocess.Popen(
        [sys.executable, "-S", "-c", READY + "input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        pass_fds=[server.fileno()],
    ) as heir:
        assert {held.pid for held in owners(server.getsockname()[1])} == {os.getpid(), heir.pid}
        heir.kill()


def test_ipv6_alone_does_not_answer_for_ipv4() -> None:
    """::1 is another address; a socket for all addresses of both kinds is not."""
    if not socket.has_dualstack_ipv6():
        pytest.skip("this kernel has no IPv6")
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        assert owner(server.getsockname()[1]) is None
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        assert owner(server.getsockname()[1]) is not None


def judge(attestation: Attestation | None, engine: str | None = "vllm", version: str | None = "0.32.0",
          declared: str | None = "0.32.0", **options: bool) -> Judgement:
    """Of a server that is declared as vLLM."""
    return judge_identity(attestation, engine, version, "vllm", declared, **options)


def test_what_agrees_passes() -> None:
    """No declared version is any version; an engine that cannot tell its version need not."""
    assert judge(OURS).verdict is Verdict.PASS
    assert judge(OURS, version="v0.32.0+cpu").verdict is Verdict.PASS
    assert judge(OURS, declared=None).verdict is Verdict.PASS
    assert judge(OURS, engine=None, version=None, reports_version=False).verdict is Verdict.PASS
    assert judge_identity(None, "llamacpp", "9", "openai", None).verdict is Verdict.PASS


@pytest.mark.parametrize(("judgement", "cause", "figures"), [
    (judge(Attestation(8000, False, Owner(7, "nc -l", "eve"))), "port-not-ours", ["7", "nc -l", "eve", "8000"]),
    (judge(Attestation(8000, False, Owner(None, "?", "eve"))), "port-not-ours", ["eve"]),
    (judge(OURS, engine="sglang"), "wrong-engine", ["sglang", "vllm"]),
    (judge(None, version="0.31.0"), "wrong-version", ["0.31.0", "0.32.0"]),
    (judge(OURS, version=None), "version-unknown", ["vllm"]),
])
def test_what_does_not_agree_fails_with_its_cause(judgement: Judgement, cause: str, figures: list[str]) -> None:
    """The reason names both sides, and there is something to do about it."""
    assert (judgement.verdict, judgement.causes) == (Verdict.FAIL, (cause,))
    assert all(figure in judgement.reason for figure in figures)
    assert judgement.cure


def test_nothing_known_is_no_pass() -> None:
    """An endpoint that tells neither engine nor version."""
    assert judge_identity(None, None, None, "openai", None, reports_version=False).verdict is Verdict.UNAVAILABLE


@pytest.mark.parametrize(("reported", "declared", "same"), [
    ("0.32.0", "0.32.0", True), ("v0.17.4", "0.17.4", True), ("0.32.0+cpu", "0.32.0", True),
    ("b11206", "11206", True), ("beta", "eta", False),
    ("0.32.0+cpu", "0.32.0+cu130", False), ("0.32.01", "0.32.0", False), ("0.32.0rc1", "0.32.0", False),
])
def test_versions_are_equal_or_not(reported: str, declared: str, same: bool) -> None:
    """Only a leading v or b and a one-sided local part are forgiven."""
    assert same_version(reported, declared) is same
    assert same_version(declared, reported) is same


@pytest.mark.parametrize(("url", "base", "number"), [
    ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000", 8000),
    ("https://llm.example/api/v1", "https://llm.example/api", 443),
    ("http://[::1]", "http://[::1]", 80),
])
def test_an_endpoint_is_known_by_its_url_alone(url: str, base: str, number: int) -> None:
    """It has no processes, and it is somebody else's to stop."""
    handle: Handle = EndpointHandle(url)
    assert (handle.url, handle.port, handle.pids(), handle.log, handle.main_pid) == (base, number, [], None, None)
    for stop in (handle.terminate, handle.kill):
        with pytest.raises(Unavailable, match="somebody else"):
            stop()
    handle.close()


def test_an_endpoint_runs_as_long_as_it_takes_connections() -> None:
    """And is left running by `close`."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        handle = EndpointHandle(f"http://127.0.0.1:{server.getsockname()[1]}")
        handle.close()
        assert handle.running()
    assert not handle.running()
    for url in ("127.0.0.1:8000", "ftp://host", "http://"):
        with pytest.raises(ValueError, match="not an http"):
            EndpointHandle(url)
