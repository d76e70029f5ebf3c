"""One call reads whatever is named; where nothing can be read it says what to do, and it never takes much memory."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import docker
import pytest

from fixtures.kernels import binary
from fixtures.kernels.inputs import reader
from fixtures.kernels.inputs.reader import SourceError
from tests import fatbins, images
from tests.images import library, present, tar

OLD, NEW = library("sm_80"), library("sm_90", "sm_120")
TREE = {"opt/a.so": OLD, "opt/torch-2.8.0.dist-info/METADATA": b"Name: torch\nVersion: 2.8.0\n"}
FILES: dict[str, bytes] = {
    "libx.so": NEW, "x.o": NEW, "program": NEW, "x.cubin": fatbins.cubin(120, "f"),
    "x.fatbin": fatbins.fatbin([[fatbins.code("sm_90")]]), "libx.a": fatbins.archive({"x.o": NEW, "y.o": OLD})}
ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", FILES)
def test_one_file(name: str, tmp_path: Path) -> None:
    """A file by itself is read as the single-file reader does, under its own name."""
    file = images.lay({name: FILES[name]}, tmp_path) / name
    reading = reader.read(file)
    assert reading.libraries == (binary.open_file(file, name),)
    assert (reading.source, reading.files, reading.size) == (str(file), 1, len(FILES[name]))


def test_every_way_to_the_same_files(tmp_path: Path) -> None:
    """A folder, a wheel, a tar plain and packed, a pipe and an image of the same files hold the same."""
    folder = images.lay(TREE, tmp_path / "folder")
    plain = tar(TREE)
    ways = {"x.whl": images.wheel(TREE), "x.tar": plain, "x.tar.gz": gzip.compress(plain), "x.tar.zst": images.zstd(plain),
            "image.tar": tar(images.newest([plain])), "image.tar.gz": gzip.compress(tar(images.oci([plain], "gzip")))}
    expected = reader.read(folder)
    assert present(expected) == {"opt/a.so": ["80"]}
    for name, data in ways.items():
        (tmp_path / name).write_bytes(data)
        reading = reader.read(str(tmp_path / name))
        found = tuple(replace(one, layer=None) for one in reading.libraries)
        assert replace(reading, source=expected.source, libraries=found) == expected, name


def test_a_pipe(tmp_path: Path) -> None:
    """What another program writes is read while it comes, by the name of a pipe as by a stream."""
    data = tar(images.newest([tar(TREE)]))
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(data), daemon=True)
    writer.start()
    assert present(reader.read(tmp_path / "pipe")) == {"opt/a.so": ["80"]}
    writer.join(5)


def test_standard_input() -> None:
    """`-` is standard input."""
    code = "from fixtures.kernels.inputs import reader; print([one.path for one in reader.read('-').libraries])"
    done = subprocess.run([sys.executable, "-c", code], input=tar(images.oci([tar(TREE)])), capture_output=True, cwd=ROOT,
                          timeout=30, check=True)
    assert done.stdout.strip() == b"['opt/a.so']"


def test_compilers_on_the_way(tmp_path: Path) -> None:
    """A compiler in a folder, a wheel and an image is the same compiler."""
    place = "triton/backends/nvidia/bin/ptxas"
    ptxas = fatbins.elf({".rodata": b"\0sm_90\0compute_90\0Cuda compilation tools, release 12.8, V12.8.93\0"})
    (tmp_path / "x.whl").write_bytes(images.wheel({place: ptxas}))
    readings = [reader.read(images.lay({place: ptxas}, tmp_path / "folder")), reader.read(tmp_path / "x.whl"),
                reader.read(io.BytesIO(tar(images.newest([tar({place: ptxas})]))))]
    for reading in readings:
        assert [(one.name, one.path, one.version) for one in reading.compilers] == [("ptxas", place, "12.8.93")]
        assert reading.libraries == ()
    hidden = reader.read(io.BytesIO(tar(images.newest([tar({place: ptxas}), tar({"triton/.wh.backends": b""})]))))
    assert hidden.compilers == ()


# --- nothing to read ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("content", "says"), [
    (b"", "is empty"), (b"# a text\n" * 9, "is neither"), (b"PK\x03\x04" + bytes(100), "end of the zip"),
    (b"\x1f\x8b\x08" + bytes(50), "gzip"), (b"\xfd7zXZ\0" + bytes(50), "xz"),
    (gzip.compress(b"no tar" * 200), "no tar header")])
def test_files_that_hold_nothing(content: bytes, says: str, tmp_path: Path) -> None:
    """The refusal names the file, says what is wrong, and what can be given instead."""
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(SourceError, match=re.escape(says)) as refusal:
        reader.read(tmp_path / "x")
    assert str(tmp_path / "x") in refusal.value.reason
    assert refusal.value.cure


@pytest.mark.parametrize("name", ["/nowhere/x.so", "./nowhere", "nowhere.whl", "x\0y", "x" * 5000])
def test_paths_to_nothing(name: str) -> None:
    """A path that leads nowhere is refused without asking an engine for an image of that name."""
    with pytest.raises(SourceError) as refusal:
        reader.read(name)
    assert refusal.value.cure


def test_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is no file, with no engine to ask: both are said."""
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    with pytest.raises(SourceError, match="no Docker engine answers") as refusal:
        reader.read("vllm/vllm-openai:v0.10.1.1")
    assert "docker save vllm/vllm-openai:v0.10.1.1" in refusal.value.cure


# --- the Docker engine ----------------------------------------------------------------------------------------------------

Answers = Mapping[str, bytes]


class Engine(ThreadingHTTPServer):
    """Speaks as much of the Docker API as reading takes: an image `some/engine:1` and a container `c0ffee`."""

    daemon_threads = True

    def __init__(self, answers: Answers, cut: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers, self.cut, self.asked = answers, cut, list[str]()


class _Handler(BaseHTTPRequestHandler):
    server: Engine
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """One of the answers, cut off if that is what it is about."""
        path = re.sub(r"^/v[\d.]+", "", urllib.parse.unquote(self.path.partition("?")[0]))
        self.server.asked.append(path)
        body = self.server.answers.get(path)
        self.send_response(404 if body is None else 200)
        body = body if body is not None else b'{"message": "No such thing"}'
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json" if body.startswith(b"{") else "application/x-tar")
        self.end_headers()
        sent = body[:self.server.cut] if self.server.cut and path.endswith(("/get", "/export")) else body
        self.wfile.write(sent)
        self.close_connection = len(sent) < len(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


Serve = Callable[..., Engine]
LAYERS = (TREE | {"opt/weights": os.urandom(2**20)}, {"opt/b.so": NEW}, {"opt/.wh.a.so": b""})
SAVED = tar(images.newest([tar(layer) for layer in LAYERS]))


ANSWERS = {"/version": b'{"ApiVersion": "1.47"}', "/_ping": b"OK",
           "/images/some/engine:1/json": b'{"Id": "sha256:1"}', "/images/some/engine:1/get": SAVED,
           "/containers/c0ffee/json": b'{"Id": "c0ffee11"}', "/containers/c0ffee11/export": tar(TREE)}


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Starts an engine, which the client then finds."""
    started: list[Engine] = []

    def start(cut: int = 0) -> Engine:
        engine = Engine(ANSWERS, cut)
        threading.Thread(target=engine.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{engine.server_address[1]}")
        started.append(engine)
        return engine

    yield start
    for engine in started:
        engine.shutdown()
        engine.server_close()


def test_an_image_by_its_name(serve: Serve) -> None:
    """The engine's image is read as its saved form is; nothing else is asked of the engine."""
    engine = serve()
    reading = reader.read("some/engine:1")
    assert reading == replace(reader.read(io.BytesIO(SAVED)), source="some/engine:1")
    assert present(reading) == {"opt/b.so": ["90", "120"]}
    assert [path for path in engine.asked if "engine" in path] == ["/images/some/engine:1/json", "/images/some/engine:1/get"]


def test_a_container_by_its_id(serve: Serve) -> None:
    """A name that no image has is looked for among the containers."""
    serve()
    reading = reader.read("c0ffee")
    assert (present(reading), reading.packages) == ({"opt/a.so": ["80"]}, {"torch": "2.8.0"})


def test_neither_image_nor_container(serve: Serve) -> None:
    """An engine that knows no such thing: refused with the command that would fetch it."""
    serve()
    with pytest.raises(SourceError, match="no image or container") as refusal:
        reader.read("nobody/knows:2")
    assert "docker pull nobody/knows:2" in refusal.value.cure


def test_an_engine_that_breaks_off(serve: Serve) -> None:
    """What came until then is read, and that there was more is said."""
    serve(cut=len(SAVED) * 2 // 3)
    reading = reader.read("some/engine:1")
    assert reading.libraries
    assert any("broke off" in one.why for one in reading.left_out)


def test_a_real_engine(tmp_path: Path) -> None:
    """An image made by a real engine from two layers, saved by it, shows the deletion."""
    try:
        client = docker.from_env(timeout=20)
        client.ping()
    except (docker.errors.DockerException, OSError) as fault:
        pytest.skip(f"no Docker engine answers: {str(fault)[:100]}")
    (tmp_path / "a.tar").write_bytes(tar(TREE))
    (tmp_path / "b.tar").write_bytes(tar({"opt/b.so": NEW}))
    (tmp_path / "Dockerfile").write_text("FROM scratch\nADD a.tar /\nADD b.tar /\nCOPY b.tar /opt/a.so\n")
    image, _ = client.images.build(path=str(tmp_path), tag="cotenant-kernels-test", rm=True)
    try:
        reading = reader.read("cotenant-kernels-test")
        assert present(reading) == {"opt/b.so": ["90", "120"]}
        assert list(images.removed(reading)) == ["opt/a.so"]
    finally:
        client.images.remove(str(image.id), force=True)
        client.close()


# --- memory ---------------------------------------------------------------------------------------------------------------

MOST_MB = 100
MEASURE = """
import json, re, sys, time
from fixtures.kernels.inputs import reader
began = time.perf_counter()
reading = reader.read(sys.argv[1])
took_s = time.perf_counter() - began
peak = re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())
print(json.dumps({"peak_mb": int(peak[1]) / 1024, "took_s": took_s, "files": reading.files,
                  "libraries": len(reading.libraries)}))
"""


def measured(source: Path) -> dict[str, float]:
    """What a process of its own that reads this takes."""
    command = [sys.executable, "-c", MEASURE, str(source)]
    done = subprocess.run(command, capture_output=True, cwd=ROOT, timeout=60, check=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


@pytest.mark.parametrize("form", ["wheel", "gzip", "zstd"])
def test_large_members(form: str, tmp_path: Path) -> None:
    """A library of a quarter of a gigabyte is read in a fraction of that."""
    large = NEW + (os.urandom(2**26) * 4 if form == "zstd" else os.urandom(2**14) * 2**14)
    packed = images.wheel({"x.so": large}) if form == "wheel" else images.PACKERS[form](tar({"x.so": large}))
    (tmp_path / "x").write_bytes(packed)
    figures = measured(tmp_path / "x")
    assert figures["libraries"] == 1
    assert figures["peak_mb"] < MOST_MB


MANY = {f"folder/{number}.{('py', 'so')[number % 2]}": b"\x7fNO ELF" * 10 for number in range(100_000)}


@cache
def many() -> bytes:
    """A tar of a hundred thousand members."""
    return tar(MANY)


@pytest.mark.parametrize("form", ["wheel", "tar", "image"])
def test_many_members(form: str, tmp_path: Path) -> None:
    """Of a hundred thousand members little is kept, and they are passed in seconds."""
    whole = images.wheel(MANY, 0) if form == "wheel" else many()
    (tmp_path / "x").write_bytes(tar(images.newest([whole])) if form == "image" else whole)
    figures = measured(tmp_path / "x")
    assert figures["files"] == 100_000
    assert figures["peak_mb"] < MOST_MB
    assert figures["took_s"] < 20


def test_many_complaints(tmp_path: Path) -> None:
    """What was left out is listed up to a thousand, the rest is counted."""
    (tmp_path / "x.whl").write_bytes(images.wheel({f"{number}.whl": b"" for number in range(1500)} | {"a.so": OLD}))
    reading = reader.read(tmp_path / "x.whl")
    assert len(reading.left_out) == 1001
    assert "500 more" in reading.left_out[-1].why
    assert present(reading) == {"a.so": ["80"]}
