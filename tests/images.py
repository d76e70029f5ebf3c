"""Archives that hold GPU code: wheels, tars, layers, and saved images in every form that they are written in."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fixtures.kernels.image import Library, Reading
from tests import fatbins

OPAQUE = ".wh..wh..opq"


def library(*targets: str, modules: int = 1, padding: int = 0) -> bytes:
    """A shared library whose modules all have images for these targets."""
    return fatbins.library([[fatbins.code(target) for target in targets]] * modules) + bytes(padding)


def targets(found: Library | None) -> list[str]:
    """The architectures of its first module, such as 90a."""
    assert found is not None
    return [str(image.architecture) for module in found.modules[:1] for image in module.images]


def present(reading: Reading) -> dict[str, list[str]]:
    """By path, what the libraries that can be loaded were built for."""
    return {one.path: targets(one) for one in reading.libraries if one.present}


def removed(reading: Reading) -> dict[str, str | None]:
    """By path, the layer that removed a library."""
    return {one.path: one.removed_by for one in reading.libraries if not one.present}


def wheel(members: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return out.getvalue()


# --- tars -----------------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Link:
    """A member that leads to another one."""

    to: str
    hard: bool = False


FOLDER = object()
Members = Mapping[str, "bytes | Link | object"]


def tar(members: Members, form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar: bytes are files, FOLDER a folder."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as file:
        for name, what in members.items():
            _add(file, tarfile.TarInfo(name), what)
    return out.getvalue()


def _add(file: tarfile.TarFile, info: tarfile.TarInfo, what: object) -> None:
    if isinstance(what, bytes):
        info.size = len(what)
        file.addfile(info, io.BytesIO(what))
        return
    if isinstance(what, Link):
        info.type, info.linkname = tarfile.LNKTYPE if what.hard else tarfile.SYMTYPE, what.to
    else:
        info.type = tarfile.DIRTYPE
    file.addfile(info)


def zstd(data: bytes, *options: str) -> bytes:
    """Packed by the zstd program."""
    return subprocess.run(["zstd", "-q", "-c", *options], input=data, capture_output=True, check=True, timeout=20).stdout


PACKERS: dict[str, Callable[[bytes], bytes]] = {"": bytes, "gzip": lambda data: gzip.compress(data, 1), "zstd": zstd}


# --- saved images ---------------------------------------------------------------------------------------------------------

def sha(data: bytes) -> str:
    """A digest as images have them."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _blob(data: bytes) -> str:
    return f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def config(layers: Sequence[bytes], architecture: str = "amd64") -> bytes:
    """An image's configuration; `layers` as they are unpacked."""
    return _json({"architecture": architecture, "os": "linux",
                  "rootfs": {"type": "layers", "diff_ids": [sha(layer) for layer in layers]}})


def oldest(layers: Sequence[bytes]) -> dict[str, bytes | Link | object]:
    """What `docker save` wrote before version 25: a folder for each layer, the manifest last."""
    said = config(layers)
    names = [f"{sha(layer + bytes([place]))[7:]}" for place, layer in enumerate(layers)]
    files: dict[str, bytes | Link | object] = {}
    for place, (name, layer) in enumerate(zip(names, layers, strict=True)):
        first = layers.index(layer)
        files |= {f"{name}/": FOLDER, f"{name}/VERSION": b"1.0", f"{name}/json": b"{}"}
        files[f"{name}/layer.tar"] = layer if first == place else Link(f"../{names[first]}/layer.tar")
    files[f"{sha(said)[7:]}.json"] = said
    entry = {"Config": f"{sha(said)[7:]}.json", "RepoTags": ["engine:1"], "Layers": [f"{name}/layer.tar" for name in names]}
    return files | {"manifest.json": _json([entry])}


def oci(layers: Sequence[bytes], packing: str = "", architecture: str = "amd64") -> dict[str, bytes]:
    """The files of an OCI image layout: blobs first, as a tar of it is sorted."""
    packed = [PACKERS[packing](layer) for layer in layers]
    said = config(layers, architecture)
    kind = "application/vnd.oci.image.layer.v1.tar" + (f"+{packing}" if packing else "")
    manifest = _json({"schemaVersion": 2, "config": {"digest": sha(said), "size": len(said)},
                      "layers": [{"mediaType": kind, "digest": sha(data), "size": len(data)} for data in packed]})
    index = _json({"schemaVersion": 2, "manifests": [descriptor(manifest, architecture)]})
    blobs = {_blob(data): data for data in (*packed, said, manifest)}
    return dict(sorted(blobs.items())) | {"index.json": index, "oci-layout": b'{"imageLayoutVersion": "1.0.0"}'}


def descriptor(manifest: bytes, architecture: str) -> dict[str, object]:
    """How an index names a manifest."""
    return {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": sha(manifest), "size": len(manifest),
            "platform": {"os": "linux", "architecture": architecture}}


def newest(layers: Sequence[bytes]) -> dict[str, bytes]:
    """What `docker save` writes since version 25: an OCI layout with the old manifest beside it."""
    said = config(layers)
    entry = {"Config": _blob(said), "RepoTags": ["engine:1"], "Layers": [_blob(layer) for layer in layers]}
    return oci(layers) | {"manifest.json": _json([entry])}


def several(images: Mapping[str, Sequence[bytes]]) -> dict[str, bytes]:
    """An OCI layout for several architectures behind one list, as builders for several platforms write it."""
    files: dict[str, bytes] = {}
    listed = []
    for architecture, layers in images.items():
        layout = oci(layers, "gzip", architecture)
        listed += json.loads(layout.pop("index.json"))["manifests"]
        files |= layout
    inner = _json({"schemaVersion": 2, "manifests": listed})
    outer = _json({"schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.index.v1+json",
                                                      "digest": sha(inner), "size": len(inner)}]})
    return files | {_blob(inner): inner, "index.json": outer}


def lay(files: Mapping[str, bytes], root: Path) -> Path:
    """Lay them down below a folder."""
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root

