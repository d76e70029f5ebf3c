"""A folder is walked once: every file counts once, whatever links lead to it, and no file holds the walk up."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixtures.kernels import binary
from fixtures.kernels.inputs import reader
from fixtures.kernels.inputs.reader import SourceError
from tests import fatbins, images
from tests.images import library, present

OLD, NEW = library("sm_80"), library("sm_90", "sm_120")
Refuse = Callable[[str, str], None]
SITE = "lib/python3.11/site-packages"


def environment(root: Path) -> Path:
    """A virtual environment with an engine in it."""
    files = {f"{SITE}/vllm/_C.so": OLD, f"{SITE}/torch/lib/libtorch_cuda.so": NEW,
             f"{SITE}/torch/version.py": b"cuda: Optional[str] = '13.0'\n", f"{SITE}/other/version.py": b"cuda = '1.0'\n",
             f"{SITE}/torch-2.13.0.dist-info/METADATA": b"Name: torch\nVersion: 2.13.0\n",
             f"{SITE}/nvidia_cublas-13.1.dist-info/METADATA": b"Name: nvidia_cublas\nVersion: 13.1\n",
             f"{SITE}/setuptools/_vendor/wheel-0.1.dist-info/METADATA": b"Name: wheel\nVersion: 0.1\n",
             f"{SITE}/vllm/data.json": OLD, "bin/activate": b"deactivate () {\n" * 9}
    images.lay(files, root)
    (root / "lib64").symlink_to("lib")
    return root


def test_an_environment(tmp_path: Path) -> None:
    """Libraries, packages by their normal names, and CUDA; what is bundled into other packages is not installed."""
    reading = reader.read(environment(tmp_path))
    assert present(reading) == {f"{SITE}/torch/lib/libtorch_cuda.so": ["90", "120"], f"{SITE}/vllm/_C.so": ["80"]}
    assert reading.packages == {"torch": "2.13.0", "nvidia-cublas": "13.1"}
    assert (reading.cuda, reading.files, reading.left_out) == ("13.0", 9, ())
    assert reader.read(str(tmp_path)).libraries == reading.libraries


def test_links_within(tmp_path: Path) -> None:
    """Links of both kinds to files and folders of the tree add nothing; the real path is the one that is told."""
    environment(tmp_path)
    (tmp_path / "a.so").symlink_to(f"{SITE}/vllm/_C.so")
    (tmp_path / "aaa").symlink_to(SITE)
    (tmp_path / "zz.so").hardlink_to(tmp_path / SITE / "vllm/_C.so")
    reading = reader.read(tmp_path)
    assert sorted(present(reading).values()) == [["80"], ["90", "120"]]
    assert f"{SITE}/torch/lib/libtorch_cuda.so" in present(reading)


def test_names_of_one_file(tmp_path: Path) -> None:
    """Of many hard links the first name stands for the file, in whatever order the file system lists them."""
    (tmp_path / "19.so").write_bytes(OLD)
    for number in range(19):
        (tmp_path / f"{number:02}.so").hardlink_to(tmp_path / "19.so")
    assert list(present(reader.read(tmp_path))) == ["00.so"]


def test_loops_and_dead_ends(tmp_path: Path) -> None:
    """Links to the folder itself, above it, to each other and to nothing."""
    environment(tmp_path / "venv")
    for name, target in {"self": ".", "up": "../..", "root": "/", "one": "two", "two": "one", "gone": "nowhere",
                         "made-up": "/proc", "self-made": "/proc/self/fd", "null.so": "/dev/zero"}.items():
        (tmp_path / "venv" / name).symlink_to(target)
    reading = reader.read(tmp_path / "venv")
    assert len(reading.libraries) == 2
    assert reading.files == 9


def test_links_that_lead_out(tmp_path: Path) -> None:
    """An environment whose files are links into a cache elsewhere is read as if they lay there."""
    cache = images.lay({"one/x.so": OLD, "two/deep/y.so": NEW, "version.py": b"cuda = '12.8'\n"}, tmp_path / "cache")
    (cache / "two/back").symlink_to(tmp_path / "venv")
    venv = tmp_path / "venv"
    venv.mkdir()
    (venv / "x.so").symlink_to(cache / "one/x.so")
    (venv / "pkg").symlink_to(cache / "two")
    (venv / "torch").mkdir()
    (venv / "torch/version.py").symlink_to(cache / "version.py")
    reading = reader.read(venv)
    assert present(reading) == {"x.so": ["80"], "pkg/deep/y.so": ["90", "120"]}
    assert (reading.cuda, reading.files) == ("12.8", 3)


def test_every_kind_of_file(tmp_path: Path) -> None:
    """Files are known by how they begin, not by a name that promises something."""
    images.lay({"program": NEW, "noise.so": b"\x00" * 500, "text.so": b"INPUT(libx.so.1)" * 9, "empty.so": b"",
                "x.cubin": fatbins.cubin(90, "a"), "libx.a": fatbins.archive({"x.o": OLD}), "x.o": library("sm_75"),
                "x.fatbin": fatbins.fatbin([[fatbins.code("sm_86")]])}, tmp_path)
    assert present(reader.read(tmp_path)) == {
        "libx.a": ["80"], "program": ["90", "120"], "x.cubin": ["90a"], "x.fatbin": ["86"], "x.o": ["75"]}


def test_a_wheel_in_a_folder(tmp_path: Path) -> None:
    """Wheels that lie in a folder are read where they lie; other archives there are not."""
    images.lay({"dist/x.whl": images.wheel({"pkg/a.so": OLD}), "broken.whl": b"PK\x03\x04" + bytes(200)}, tmp_path)
    reading = reader.read(tmp_path)
    assert present(reading) == {"dist/x.whl/pkg/a.so": ["80"]}
    assert [one.path for one in reading.left_out] == ["broken.whl"]


def test_pipes_and_sockets(tmp_path: Path) -> None:
    """What is no file is never opened: a pipe that nobody writes to would hold the walk up."""
    images.lay({"x.so": OLD}, tmp_path)
    os.mkfifo(tmp_path / "pipe.so")
    (tmp_path / "link.so").symlink_to("pipe.so")
    reading = threading.Thread(target=lambda: reader.read(tmp_path), daemon=True)
    reading.start()
    reading.join(5)
    assert not reading.is_alive()


def test_names_that_are_not_text(tmp_path: Path) -> None:
    """A file name of any bytes comes out printable."""
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/x\xff\x1b[1m.so")).write_bytes(OLD)
    path = reader.read(tmp_path).libraries[0].path
    assert path.isprintable()
    assert path.encode()


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """Makes the system refuse one file: root, as whom tests may run, is refused nothing."""
    return lambda call, name: _refuse(monkeypatch, call, name)


def _refuse(monkeypatch: pytest.MonkeyPatch, call: str, name: str) -> None:
    real = getattr(os, call)

    def careful(path: Any, *rest: Any, **named: Any) -> Any:
        if str(path).endswith(name):
            raise PermissionError(13, "Permission denied")
        return real(path, *rest, **named)

    monkeypatch.setattr(os, call, careful)


@pytest.mark.parametrize(("call", "name"), [("open", "_C.so"), ("scandir", "vllm")])
def test_no_permission(call: str, name: str, tmp_path: Path, refuse: Refuse) -> None:
    """A file or folder that may not be read is named, and the rest is read."""
    environment(tmp_path)
    refuse(call, name)
    reading = reader.read(tmp_path)
    assert list(present(reading)) == [f"{SITE}/torch/lib/libtorch_cuda.so"]
    assert [one.path.endswith(name) for one in reading.left_out] == [True]
    assert reading.left_out[0].why == "it cannot be read: permission denied"


def test_no_permission_at_all(tmp_path: Path, refuse: Refuse) -> None:
    """A folder that cannot be listed is a refusal with a cure."""
    refuse("scandir", tmp_path.name)
    with pytest.raises(SourceError, match="permission denied") as refusal:
        reader.read(tmp_path)
    assert "permissions" in refusal.value.cure


def _change(file: Path, happens: str) -> None:
    if happens == "vanishes":
        file.unlink()
    else:
        os.truncate(file, 100 if happens == "shrinks" else len(NEW) + 2**16)


@pytest.mark.parametrize("happens", ["vanishes", "shrinks", "grows"])
def test_files_that_change_while_they_are_read(happens: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is written or cut meanwhile is told apart from one that was read in peace; none ends the reading."""
    images.lay({"a.so": OLD, "b.so": NEW, "c.so": library("sm_75")}, tmp_path)
    real = binary.may_hold_code

    def meanwhile(head: bytes, path: str) -> bool:
        if path == "b.so":
            _change(tmp_path / "b.so", happens)
        return real(head, path)

    monkeypatch.setattr(binary, "may_hold_code", meanwhile)
    reading = reader.read(tmp_path)
    paths = present(reading)
    assert {"a.so", "c.so"} <= set(paths)
    told = bool(reading.left_out) or any(one.left_out for one in reading.libraries)
    assert told is (happens != "vanishes")  # what is open can be read to its end


def test_progress(tmp_path: Path) -> None:
    """Each file that is looked into is told, with what was seen so far."""
    told: list[tuple[str, int]] = []
    reading = reader.read(environment(tmp_path), progress=lambda path, size: told.append((path, size)))
    assert {path for path, _ in told} == set(present(reading))
    assert [size for _, size in told] == sorted(size for _, size in told)
    assert told[-1][1] <= reading.size


def test_variants_and_namesakes_are_no_copies(tmp_path: Path) -> None:
    """Equal bytes under another name, or in the folder of another variant, are another library."""
    files = {"sgl_kernel/sm90/common_ops.so": OLD, "sgl_kernel/sm100/common_ops.so": OLD, "torch/lib/libtorch_cuda.so": OLD,
             "a/libx.so": NEW, "b/libx.so": NEW}
    reading = reader.read(images.lay(files, tmp_path))
    assert sorted(present(reading)) == ["a/libx.so", "sgl_kernel/sm100/common_ops.so", "sgl_kernel/sm90/common_ops.so",
                                        "torch/lib/libtorch_cuda.so"]
    assert [left.path for left in reading.left_out] == ["b/libx.so"]
