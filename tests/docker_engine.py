"""A real Docker engine for tests: this machine's, or one of the test's own that may be killed."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import uuid4

import docker
import pytest

from fixtures.docker import base, daemon
from fixtures.docker.daemon import Daemon
from fixtures.docker.fault import DockerFault
from fixtures.docker.image import Image, Reference, find
from tests.launching import eventually

START_S = 30.0


def missing(reason: str) -> None:
    """Skip, but fail where CI promises that everything is there."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def engine() -> Daemon:
    """The engine that answers on this machine."""
    try:
        return daemon.find()
    except DockerFault as fault:
        missing(f"no Docker engine: {fault.reason}")
        raise


def python_image(engine: Daemon) -> Image:
    """The base image, which has Python 3.11; nothing is pulled."""
    try:
        return base.provide(engine, "3.11", "never", print)
    except DockerFault as fault:
        missing(fault.reason)
        raise


def shell_image(engine: Daemon, *, entrypoint: Sequence[str] = (), foreign: bool = False) -> Image:
    """A few megabytes with a shell and `sleep`, out of this machine's own files; the caller removes it.

    The programs of a `foreign` one are for no processor.
    """
    tag = Reference.parse(f"cotenant-test/{uuid4().hex[:12]}:shell")
    changes = [f"ENTRYPOINT {json.dumps(list(entrypoint))}"] if entrypoint else []
    engine.client.api.import_image_from_data(filesystem(foreign), repository=tag.name, tag=tag.tag, changes=changes)
    found = find(engine, tag)
    assert found is not None
    return found


def filesystem(foreign: bool = False) -> bytes:
    """A root filesystem as a tar file."""
    packed, programs = io.BytesIO(), ("/bin/sh", "/bin/sleep", "/bin/cat", "/bin/env")
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for program in programs if foreign else ():
            broken = tarfile.TarInfo(program)
            broken.size, broken.mode = 4, 0o755
            archive.addfile(broken, io.BytesIO(b"\0\1\2\3"))
        needed = {path for program in programs for path in (program, *_libraries(program))}
        for path in () if foreign else sorted(needed):
            archive.add(os.path.realpath(path), path)
        for folder in ("tmp", "proc", "dev", "sys", "scratch"):
            place = tarfile.TarInfo(folder)
            place.type, place.mode = tarfile.DIRTYPE, 0o1777
            archive.addfile(place)
    return packed.getvalue()


def _libraries(program: str) -> list[str]:
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=True, timeout=10).stdout
    return [word for line in said.splitlines() for word in line.split() if word.startswith("/")]


class OwnEngine:
    """A dockerd with socket, data and bridge of its own; it leaves this machine's rules of packet filtering alone."""

    def __init__(self, *, runtimes: Mapping[str, Path] | None = None, programs: Path | None = None) -> None:
        self.root = Path(tempfile.gettempdir(), f"cot-dockerd-{uuid4().hex[:8]}")
        self.url = f"unix://{self.root}/docker.sock"
        self._bridge = f"cot{uuid4().hex[:8]}"
        self._process: subprocess.Popen[bytes] | None = None
        self._subnet = f"10.{200 + os.getpid() % 50}.{int(uuid4().hex[:2], 16)}.1/24"
        self._path = f"{programs}:{os.environ['PATH']}" if programs else os.environ["PATH"]
        self._settings = {"runtimes": {name: {"path": str(path)} for name, path in (runtimes or {}).items()}}

    def __enter__(self) -> OwnEngine:
        if shutil.which("dockerd") is None or shutil.which("ip") is None or os.getuid() != 0:
            missing("a dockerd of one's own needs root, dockerd and ip")
        self.root.mkdir(mode=0o700)
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("addr", "add", self._subnet, "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self) -> None:
        """Start it, or start it again after `kill`."""
        settings = self.root / "daemon.json"
        settings.write_text(json.dumps(self._settings))
        (self.root / "pid").unlink(missing_ok=True)
        words = ["dockerd", "--config-file", str(settings), "--host", self.url, "--data-root", str(self.root / "data"),
                 "--exec-root", str(self.root / "exec"), "--pidfile", str(self.root / "pid"), "--bridge", self._bridge,
                 "--iptables=false", "--ip-masq=false"]
        with (self.root / "log").open("ab") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
                                             env={**os.environ, "PATH": self._path})
        if not eventually(self._answers, START_S):
            missing(f"dockerd does not start here: {self.log().splitlines()[-1:]}")

    def _answers(self) -> bool:
        try:
            client = docker.DockerClient(self.url, timeout=5)
            return bool(client.ping())
        except docker.errors.DockerException:
            return False

    def log(self) -> str:
        """What it has written."""
        return (self.root / "log").read_text(errors="replace")

    def daemon(self, monkeypatch: pytest.MonkeyPatch) -> Daemon:
        """As `find` sees it, which from now on looks here."""
        monkeypatch.setenv("DOCKER_HOST", self.url)
        return daemon.find()

    def kill(self) -> None:
        """SIGKILL, as the kernel's out-of-memory killer would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
        self._end_containerd()
        for line in Path("/proc/mounts").read_text().splitlines():
            if line.split()[1].startswith(str(self.root)):
                subprocess.run(["umount", "--lazy", line.split()[1]], check=False, timeout=10)
        subprocess.run(["ip", "link", "del", self._bridge], check=False, timeout=10, capture_output=True)
        shutil.rmtree(self.root, ignore_errors=True)

    def _end_containerd(self) -> None:
        """The children of a dockerd that was killed: its containerd and their shims name its folder."""
        mine = str(self.root).encode()
        for folder in Path("/proc").iterdir():
            try:
                if folder.name.isdigit() and mine in (folder / "cmdline").read_bytes():
                    os.kill(int(folder.name), signal.SIGKILL)
            except OSError:
                continue


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, timeout=10)
