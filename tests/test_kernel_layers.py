"""An image is read as a container would have it: later layers hide what lies below, in whatever form it was saved."""

from __future__ import annotations

import gzip
import io
import json
import random
import tarfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from fixtures.kernels.image import Reading
from fixtures.kernels.inputs import reader
from fixtures.kernels.inputs.reader import SourceError
from tests import images
from tests.images import FOLDER, OPAQUE, Link, Members, library, present, removed, sha, tar

OLD, NEW = library("sm_80"), library("sm_90", "sm_120", padding=8)
PLACE = "usr/lib/python3/dist-packages/torch/lib/libtorch_cuda.so"
METADATA = b"Metadata-Version: 2.1\nName: Torch\nVersion: %b\n\nlong text\nVersion: 9\n"
SAVED: dict[str, Callable[[list[bytes]], Members]] = {
    "docker-24": images.oldest, "docker-25": images.newest, "oci": images.oci,
    "oci-gzip": lambda layers: images.oci(layers, "gzip"), "oci-zstd": lambda layers: images.oci(layers, "zstd")}
ROUNDS = [60, pytest.param(20_000, marks=pytest.mark.long)]
TREE = {"usr/": FOLDER, PLACE: OLD, "opt/readme.txt": b"x" * 100, "etc/hosts": b"127.0.0.1 localhost\n"}


def stream(data: bytes) -> Reading:
    """Read what comes once, in pieces as a pipe gives them."""
    return reader.read(io.BytesIO(data))


def saved(*layers: Members, form: str = "docker-25") -> Reading:
    """An image of these layers."""
    return stream(tar(SAVED[form]([tar(layer) for layer in layers])))


def without_end(members: Mapping[str, bytes]) -> bytes:
    """A tar that something may follow."""
    return tar(members)[:sum(512 + len(data) + -len(data) % 512 for data in members.values())]


@pytest.mark.parametrize("form", SAVED)
def test_every_form_gives_the_same(form: str, tmp_path: Path) -> None:
    """Streamed, from a file and unpacked, each form of a saved image holds the same, and a deletion shows."""
    layers = [tar(TREE), tar({"opt/new.so": NEW}), tar({f"{PLACE.rpartition('/')[0]}/.wh.libtorch_cuda.so": b""})]
    files = SAVED[form](layers)
    (tmp_path / "image.tar").write_bytes(tar(files))
    readings = [stream(tar(files)), reader.read(tmp_path / "image.tar")]
    if form != "docker-24":  # it has links, which `lay` does not write
        plain = {name: data for name, data in files.items() if isinstance(data, bytes)}
        readings.append(reader.read(images.lay(plain, tmp_path / "layout")))
    pack = images.PACKERS[form.partition("-")[2] if form.startswith("oci-") else ""]
    for reading in readings:
        assert present(reading) == {"opt/new.so": ["90", "120"]}
        assert removed(reading) == {PLACE: sha(pack(layers[2]))}
        assert [one.layer for one in reading.libraries] == [sha(pack(layers[1])), sha(pack(layers[0]))]
        assert (reading.files, reading.left_out) == (4, ())


def test_a_replaced_file_is_removed_by_the_layer_that_replaced_it() -> None:
    """Of two libraries at one path the later one is there; what packages say is what the later layer says."""
    lower, upper = ({PLACE: code, "usr/lib/python3/dist-packages/torch-1.dist-info/METADATA": METADATA % version,
                     "usr/lib/python3/dist-packages/torch/version.py": b"cuda: Optional[str] = '%b'\n" % cuda}
                    for code, version, cuda in ((OLD, b"2.7.1", b"12.6"), (NEW, b"2.8.0", b"12.8")))
    reading = saved(lower, upper)
    assert present(reading) == {PLACE: ["90", "120"]}
    assert removed(reading) == {PLACE: sha(tar(upper))}
    assert (reading.packages, reading.cuda) == ({"torch": "2.8.0"}, "12.8")


@pytest.mark.parametrize("above", [
    {f"usr/lib/python3/dist-packages/torch/lib/{OPAQUE}": b""},
    {f"usr/lib/{OPAQUE}": b""},
    {"usr/lib/python3/.wh.dist-packages": b""},
    {"usr/lib/python3": b"a file where a folder was"},
    {"usr/lib/python3": Link("/elsewhere")},
    {PLACE: Link("libtorch_cuda.so.1")},
    {PLACE: FOLDER},
    {"./usr/../usr/lib/python3/.wh.dist-packages": b""},
], ids=str)
def test_whatever_hides_a_file_removes_it(above: Members) -> None:
    """Whiteouts of the file and of a folder above, opaque folders, and another kind of file in its place."""
    reading = saved(TREE, above)
    assert present(reading) == {}
    assert removed(reading) == {PLACE: sha(tar(above))}


@pytest.mark.parametrize("above", [
    {"usr/lib/python3/dist-packages/torch/lib/.wh.libtorch": b""},
    {"usr/lib/python3/dist-packages/torch/lib/": FOLDER, "usr/": FOLDER},
    {f"opt/{OPAQUE}": b""},
    {"usr/lib/python3/dist-packages/torch/lib/.wh..wh.plnk": b""},
    {"libtorch_cuda.so": b"x" * 100},
], ids=str)
def test_nothing_else_removes_it(above: Members) -> None:
    """What goes by a like name, lies elsewhere or only mentions a folder leaves the file there."""
    reading = saved(TREE, above)
    assert present(reading) == {PLACE: ["80"]}
    assert removed(reading) == {}


def test_a_whiteout_hides_lower_layers_only() -> None:
    """What a layer clears away and brings itself, before or behind the whiteout, is there."""
    folder = PLACE.rpartition("/")[0]
    for order in (1, -1):
        above = dict(list({f"{folder}/{OPAQUE}": b"", f"{folder}/.wh.libtorch_cuda.so": b"", PLACE: NEW}.items())[::order])
        assert present(saved(TREE, above)) == {PLACE: ["90", "120"]}
    assert present(saved({f"{folder}/{OPAQUE}": b""}, TREE)) == {PLACE: ["80"]}


def test_a_hard_link_outlives_its_first_name() -> None:
    """A file with two names is one library, under the name that is left."""
    cached = "root/.cache/uv/archive/libtorch_cuda.so"
    below = {cached: OLD, PLACE: Link(cached, hard=True)}
    assert present(saved(below)) == {PLACE: ["80"]}
    assert present(saved(below, {"root/.cache/.wh.uv": b""})) == {PLACE: ["80"]}
    above = {f"{PLACE.rpartition('/')[0]}/.wh.libtorch_cuda.so": b""}
    assert present(saved(below, above)) == {cached: ["80"]}
    assert list(removed(saved(below, above, {"root/.wh..cache": b""})).values()) == [sha(tar({"root/.wh..cache": b""}))]


def test_a_path_through_a_link_at_the_root() -> None:
    """Where /lib leads to /usr/lib, what a layer does below /lib is done below /usr/lib."""
    below = {"lib": Link("usr/lib"), "usr/lib/libx.so": OLD}
    assert present(saved(below, {"lib/.wh.libx.so": b""})) == {}
    assert removed(saved(below, {"lib/libx.so": NEW})) == {"usr/lib/libx.so": sha(tar({"lib/libx.so": NEW}))}


def test_layers_against_what_happens_to_files() -> None:
    """Random layers give what is left of the files when the layers are applied one after another."""
    source = random.Random(5)
    for _ in range(25):
        files: dict[str, str] = {}
        layers = [_random_layer(source, files) for _ in range(source.randint(1, 5))]
        assert present(saved(*layers)) == {path: [target] for path, target in files.items()}, layers


def _random_layer(source: random.Random, files: dict[str, str]) -> dict[str, bytes]:
    """A layer, applied to `files` as it is made: what it removes first, then what it brings."""
    layer: dict[str, bytes] = {}
    for _ in range(source.randint(0, 3)):
        top, middle, name = source.choice("ab"), source.choice("cd"), source.choice(("x.so", "y.so"))
        whiteout, gone = source.choice([(f"{top}/{middle}/{OPAQUE}", f"{top}/{middle}/"),
                                        (f"{top}/.wh.{middle}", f"{top}/{middle}/"),
                                        (f"{top}/{middle}/.wh.{name}", f"{top}/{middle}/{name}")])
        layer[whiteout] = b""
        for path in [path for path in files if path.startswith(gone)]:
            del files[path]
    for _ in range(source.randint(0, 3)):
        path = f"{source.choice('ab')}/{source.choice('cd')}/{source.choice(('x.so', 'y.so'))}"
        files[path] = source.choice(["80", "90", "120"])
        layer[path] = library(f"sm_{files[path]}", padding=source.randint(1, 10**5))
    return layer


# --- which image ----------------------------------------------------------------------------------------------------------

def test_of_several_architectures_the_usual_one_is_read() -> None:
    """A list of manifests leads to the image for amd64; that there are others is said."""
    reading = stream(tar(images.several({"arm64": [tar({"a.so": OLD})], "amd64": [tar({"b.so": NEW})]})))
    assert present(reading) == {"b.so": ["90", "120"]}
    assert [one.path for one in reading.left_out] == ["the image for linux/arm64"]


def test_attestations_are_no_images() -> None:
    """What a builder says about an image, kept as an image for an unknown platform, is passed over without a word."""
    files = images.oci([tar(TREE)])
    index = json.loads(files["index.json"])
    about = {"digest": images.sha(b"{}"), "platform": {"os": "unknown", "architecture": "unknown"},
             "annotations": {"vnd.docker.reference.type": "attestation-manifest"}}
    reading = stream(tar(files | {"index.json": json.dumps({"manifests": [about, *index["manifests"]]}).encode()}))
    assert (present(reading), reading.left_out) == ({PLACE: ["80"]}, ())


def test_of_several_images_one_is_read(tmp_path: Path) -> None:
    """What was saved beside it is named."""
    first, second = (images.newest([tar({f"{name}.so": code})]) for name, code in (("a", OLD), ("b", NEW)))
    both = json.dumps(json.loads(first["manifest.json"]) + json.loads(second["manifest.json"])).encode()
    (tmp_path / "both.tar").write_bytes(tar(first | second | {"manifest.json": both}))
    for reading in (stream((tmp_path / "both.tar").read_bytes()), reader.read(tmp_path / "both.tar")):
        assert present(reading) == {"a.so": ["80"]}
        assert [one.path for one in reading.left_out] == ["engine:1"]


def test_a_container_is_read_as_plain_files() -> None:
    """What `docker export` writes is a tar of files, with no layers to it."""
    reading = stream(tar(TREE))
    assert present(reading) == {PLACE: ["80"]}
    assert reading.libraries[0].layer is None


def test_the_same_layer_twice() -> None:
    """An empty layer that comes again and again neither counts twice nor hides anything."""
    assert present(saved({}, TREE, {}, {})) == {PLACE: ["80"]}
    old = saved({}, TREE, {}, {}, form="docker-24")
    assert (old.files, old.left_out) == (3, ())
    again = saved(TREE, {}, TREE)
    assert (present(again), removed(again), again.files) == ({PLACE: ["80"]}, {}, 3)


def test_one_path_twice_in_a_layer() -> None:
    """What comes later in a layer takes the place of what came before, be it a library or not."""
    for second, found in ((NEW, {"a.so": ["90", "120"]}), (b"no library any more" * 9, {}), (Link("b.so"), {})):
        twice = without_end({"a.so": OLD}) + tar({"a.so": second})
        assert present(stream(twice)) == found


# --- bad input ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("form", ["docker-24", "docker-25", "oci-gzip", "oci-zstd"])
def test_cut_off_anywhere(form: str, tmp_path: Path) -> None:
    """A saved image that ends too early gives what came before, and says so."""
    whole = tar(SAVED[form]([tar({"a.so": OLD, "b.so": NEW}), tar({".wh.a.so": b""})]))
    for size in range(0, len(whole), 331):
        (tmp_path / "cut.tar").write_bytes(whole[:size])
        for source in (io.BytesIO(whole[:size]), tmp_path / "cut.tar"):
            with suppress(SourceError):
                reading = reader.read(source)
                assert reading.left_out or (present(reading), len(removed(reading))) == ({"b.so": ["90", "120"]}, 1), size


def test_a_cut_library_is_read_as_far_as_it_goes() -> None:
    """What is cut off in a library's last module leaves the modules before, with the reason beside them."""
    code = library("sm_90", modules=9)
    layer = tar({"a.so": code})
    reading = stream(layer[:512 + len(code) // 2])
    assert 0 < len(reading.libraries[0].modules) < 9
    assert any("too early" in why for why in reading.libraries[0].left_out)


@pytest.mark.parametrize("rounds", ROUNDS)
def test_damaged_headers(rounds: int) -> None:
    """Whatever changes in the headers and manifests of a saved image, what is found is one of its libraries."""
    source = random.Random(2)
    whole = tar(images.newest([tar({"a.so": OLD, "x/b.so": NEW}), tar({"x/.wh.b.so": b"", "l": Link("a.so", hard=True)})]))
    headers = [at for at in range(len(whole)) if whole[at:at + 1] not in b"\0" and at % 512 < 400]
    for _ in range(rounds):
        damaged = bytearray(whole)
        for _ in range(source.randint(1, 3)):
            damaged[source.choice(headers)] = source.choice([0, 0x20, 0x2F, 0x30, 0x37, 0x80, 0xFF, source.randrange(256)])
        with suppress(SourceError):
            reading = stream(bytes(damaged))
            assert len(reading.libraries) <= 2
            assert all(len(one.path) <= 1025 and one.path.isprintable() for one in reading.libraries)


def test_a_cut_layer() -> None:
    """A layer that was stored cut off, in the middle of a file that nobody looks into, is told by its digest."""
    layer = without_end({"a.so": OLD, "readme.txt": b"x" * 5000})[:-2000]
    reading = stream(tar(images.oci([layer])))
    assert (present(reading), [one.path for one in reading.left_out]) == ({"a.so": ["80"]}, [sha(layer)])


def test_a_layer_that_is_not_there() -> None:
    """A manifest that names a blob which the archive lacks: said, and the rest is read."""
    files = images.newest([tar({"a.so": OLD}), tar({"b.so": NEW})])
    gone = json.loads(files["manifest.json"])[0]["Layers"][1]
    del files[gone]
    reading = stream(tar(files))
    assert present(reading) == {"a.so": ["80"]}
    assert [one.path for one in reading.left_out] == [gone.replace("blobs/sha256/", "sha256:")]


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("form", ["gzip", "zstd"])
def test_damaged_layers(form: str, rounds: int) -> None:
    """Bytes that change in a packed layer are said, and hold nothing up."""
    source = random.Random(1)
    packed = images.PACKERS[form](tar({"a.so": OLD, "b.so": source.randbytes(10**5), "c.so": NEW}))
    for _ in range(rounds):
        damaged = bytearray(packed)
        for _ in range(source.randint(1, 4)):
            damaged[source.randrange(len(damaged))] ^= 1 << source.randrange(8)
        with suppress(SourceError):
            reading = stream(bytes(damaged))
            assert reading.left_out or present(reading) == {"a.so": ["80"], "c.so": ["90", "120"]}


def test_damaged_manifests() -> None:
    """Manifests of every other shape are none: no exception but the one that says so."""
    layer = tar(TREE)
    for text in (b"{}", b"[", b"[{}]", b'[{"Layers": 3}]', b'[{"Layers": ["../../etc/passwd", ""]}]', b"[" * 10**5,
                 b'[{"Layers": ["blobs/sha256/x"], "Config": {"a": 1}}]', b'{"layers": [{"digest": 7}, 7]}',
                 b'{"manifests": [{"digest": "sha256:../../../etc/passwd"}]}', b'{"manifests": {"digest": []}}'):
        for name in ("manifest.json", "index.json"):
            with suppress(SourceError):
                reading = stream(tar({"a.so": OLD, "layer.tar": layer, name: text}))
                assert reading.left_out


def test_a_layout_does_not_lead_out_of_its_folder(tmp_path: Path) -> None:
    """A manifest, or a link in the layout, that names a file elsewhere on this machine is not followed."""
    (tmp_path / "secret.tar").write_bytes(tar(TREE))
    layout = tmp_path / "layout"
    layout.mkdir()
    (layout / "link.tar").symlink_to("../secret.tar")
    (layout / "manifest.json").write_text('[{"Layers": ["../secret.tar", "link.tar"]}]')
    with pytest.raises(SourceError, match="no such file"):
        reader.read(layout)


def test_members_that_would_leave_the_image() -> None:
    """Paths are taken from the root that no `..` leaves; those that would play with a terminal are escaped."""
    reading = stream(tar({"../../../etc/a.so": OLD, "/b.so": NEW, "c\x1b[2J.so": OLD + b"1", "d" * 3000: OLD + b"22"}))
    assert sorted(present(reading)) == ["b.so", "c\\x1b[2J.so", "d" * 1024 + "…", "etc/a.so"]


def test_names_of_every_format() -> None:
    """Long names, names that are not ASCII and names that are not UTF-8 come through in each tar format."""
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        long = "/".join(["folder" * 5] * 12) + "/ä.so"
        assert list(present(stream(tar({long: OLD}, form)))) == [long]
    split = "/".join(["folder" * 5] * 7) + "/a.so"
    assert list(present(stream(tar({split: OLD}, tarfile.USTAR_FORMAT)))) == [split]
    broken = bytearray(tar({"b?.so": OLD}, tarfile.USTAR_FORMAT))
    broken[1] = 0xFF
    broken[148:156] = b"%06o\0 " % (sum(broken[:148]) + sum(broken[156:512]) + 8 * 32)
    assert list(present(stream(bytes(broken)))) == ["b\\udcff.so"]


def test_a_name_as_long_as_memory() -> None:
    """An extension header of gigabytes is not taken in."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**33
    reading = stream(without_end({"a.so": OLD}) + info.tobuf(tarfile.GNU_FORMAT) + bytes(2**20))
    assert present(reading) == {"a.so": ["80"]}
    assert [one.why for one in reading.left_out if "8589934592 bytes" in one.why]


def test_files_with_holes() -> None:
    """A library that is stored with holes is named as not read, and what follows it is read."""
    info = tarfile.TarInfo("a.so")
    info.type, info.size = b"S", len(OLD)
    head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    head[482] = 1
    head[148:156] = b"%06o\0 " % (sum(head[:148]) + sum(head[156:]) + 8 * 32)
    reading = stream(bytes(head) + bytes(512) + OLD + bytes(-len(OLD) % 512) + tar({"b.so": NEW}))
    assert present(reading) == {"b.so": ["90", "120"]}
    assert [one.path for one in reading.left_out] == ["a.so"]


@pytest.mark.parametrize("form", ["gzip", "zstd"])
def test_a_layer_that_unpacks_to_gigabytes(form: str) -> None:
    """A bomb is left at the first gigabyte, and what came before it is read."""
    start = without_end({"a.so": OLD})
    info = tarfile.TarInfo("b.so")
    info.size = 2**36
    zeros = gzip.compress(bytes(2**26)) if form == "gzip" else images.zstd(bytes(2**26))
    begin = time.perf_counter()
    reading = stream(images.PACKERS[form](start + info.tobuf(tarfile.GNU_FORMAT)) + zeros * 64)
    assert time.perf_counter() - begin < 15
    assert present(reading) == {"a.so": ["80"]}
    assert any("bomb" in one.why for one in reading.left_out)


def test_a_window_as_large_as_memory() -> None:
    """A layer that can be unpacked only with a gigabyte of memory is refused with the reason; a large window is not."""
    assert present(stream(images.zstd(tar(TREE), "--ultra", "-21"))) == {PLACE: ["80"]}
    with pytest.raises(SourceError, match="memory"):
        stream(images.zstd(tar(TREE), "--long=30"))


def test_archives_in_archives() -> None:
    """Tars and wheels among the files of a layer are named, not read."""
    reading = saved({"a.so": OLD, "srv/x.whl": images.wheel({"b.so": NEW}), "srv/y.tar.gz": b"x" * 100})
    assert present(reading) == {"a.so": ["80"]}
    assert [one.path for one in reading.left_out] == ["srv/x.whl", "srv/y.tar.gz"]
