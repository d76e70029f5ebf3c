"""An image is named as people name it, pulled only if it may be, and recorded by its digest."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.configuration import ConfigurationError
from fixtures.docker import base, catalogue, image
from fixtures.docker.daemon import Daemon
from fixtures.docker.fault import DockerFault
from fixtures.docker.image import Pull, Reference
from tests import docker_engine
from tests.containers import Containers, program
from tests.launching import READY
from tests.registry import Registry

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.fixture(scope="module")
def engine() -> Daemon:
    return docker_engine.engine()


@pytest.fixture
def registry(engine: Daemon) -> Iterator[Registry]:
    """With one image, which no daemon has pulled yet; afterwards this one has it no more."""
    with Registry(docker_engine.filesystem(foreign=True)) as served:
        yield served
        for found in engine.client.images.list(name=served.name):
            engine.client.images.remove(str(found.id), force=True)


@pytest.mark.parametrize(("text", "parts", "printed"), [
    ("vllm/vllm-openai:v0.10.1.1", ("docker.io", "vllm/vllm-openai", "v0.10.1.1", ""), None),
    ("python:3.11-slim", ("docker.io", "library/python", "3.11-slim", ""), None),
    ("docker.io/library/python:3", ("docker.io", "library/python", "3", ""), "python:3"),
    ("registry.local:5000/vllm:tag", ("registry.local:5000", "vllm", "tag", ""), None),
    ("localhost/a/b/c", ("localhost", "a/b/c", "", ""), None),
    (f"ghcr.io/ggml-org/llama.cpp@{DIGEST}", ("ghcr.io", "ggml-org/llama.cpp", "", DIGEST), None),
    (f"ollama/ollama:0.17.4@{DIGEST}", ("docker.io", "ollama/ollama", "0.17.4", DIGEST), None),
    ("[::1]:5000/vllm:1", ("[::1]:5000", "vllm", "1", ""), None),
])
def test_a_name_is_read_and_written(text: str, parts: tuple[str, ...], printed: str | None) -> None:
    """As people write it, with what they leave out."""
    read = Reference.parse(text)
    assert (read.registry, read.repository, read.tag, read.digest) == parts
    assert str(read) == (printed or text)
    assert Reference.parse(str(read)) == read


@pytest.mark.parametrize(("text", "words"), [
    ("", "''"), ("VLLM/openai:1", "in small letters: vllm"), ("vllm/:1", "''"), ("vllm:", "'' is no tag"),
    ("vllm:a b", "'a b' is no tag"), ("vllm@sha256:12", "'sha256:12' is no digest"), ("vllm@x", "'x' is no digest"),
    ("https://registry.example/vllm:1", "is no registry"), ("-x.y/vllm:1", "'-x.y' is no registry"),
])
def test_a_wrong_name_says_what_is_wrong(text: str, words: str) -> None:
    """The whole and the part."""
    with pytest.raises(ConfigurationError, match="is no name of an image") as raised:
        Reference.parse(text)
    assert words in str(raised.value)


@pytest.mark.parametrize(("engine", "version", "asked", "expected"), [
    ("vllm", "v0.10.1.1", "", "vllm/vllm-openai:v0.10.1.1"),
    ("vllm", "0.10.1.1", "", "vllm/vllm-openai:v0.10.1.1"),
    ("vllm", DIGEST, "", f"vllm/vllm-openai@{DIGEST}"),
    ("vllm", "nightly", "", "vllm/vllm-openai:nightly"),
    ("sglang", "0.5.15-cu129", "", "lmsysorg/sglang:v0.5.15-cu129"),
    ("ollama", "v0.17.4", "", "ollama/ollama:0.17.4"),
    ("llamacpp", "b9246", "", "ghcr.io/ggml-org/llama.cpp:server-cuda-b9246"),
    ("llamacpp", "server-cuda13-b11206", "", "ghcr.io/ggml-org/llama.cpp:server-cuda13-b11206"),
    ("vllm", "0.10.1.1", "registry.local:5000/vllm:mine", "registry.local:5000/vllm:mine"),
    ("vllm", "0.10.1.1", "registry.local:5000/vllm", "registry.local:5000/vllm:v0.10.1.1"),
    ("own", "1.2", "registry.local/own", "registry.local/own:1.2"),
])
def test_the_image_of_an_engine(engine: str, version: str, asked: str, expected: str) -> None:
    """The published one at a version, tag or digest, or the one that is asked for."""
    assert str(image.of(engine, version, asked)) == expected


def test_no_version_is_the_catalogues_and_never_latest() -> None:
    """A tag that is another image tomorrow is only taken from a user who writes it."""
    for name, known in catalogue.published().items():
        named = image.of(name, "")
        assert known.default in named.tag
        assert bool(known.python) != bool(known.program)
    assert "latest" not in str(tomllib.loads(catalogue.FILE.read_text()))
    with pytest.raises(ConfigurationError, match="name its tag or digest"):
        image.of("vllm", "", "registry.local:5000/vllm")
    with pytest.raises(ConfigurationError, match="did you mean 'vllm'"):
        image.of("vlm", "1")
    with pytest.raises(ConfigurationError, match="neither a tag nor a digest"):
        image.of("vllm", "0.1!2")
    with pytest.raises(ConfigurationError, match="did you mean 'missing'"):
        image.pull_policy("mising")
    assert [image.pull_policy(word) for word in ("missing", "never", "always")] == ["missing", "never", "always"]


def test_an_image_is_pulled_once_and_said(engine: Daemon, registry: Registry) -> None:
    """By its tag; its digest is the registry's. `always` asks again."""
    reference, said = Reference.parse(f"{registry.name}:v1.0"), list[str]()
    with pytest.raises(DockerFault) as raised:
        image.provide(engine, reference, "never", said.append)
    assert (raised.value.cause, said, registry.pulls) == ("image-missing", [], 0)
    assert f"docker pull {reference}" in raised.value.cure
    found = image.provide(engine, reference, "missing", said.append)
    assert (found.digest, found.build) == (registry.digest, f"{registry.name}@{registry.digest}")
    assert said[0] == f"pulling the image {reference}"
    asked = registry.pulls
    for policy in ("missing", "never"):
        assert image.provide(engine, reference, policy, said.append) == found
    assert (registry.pulls, len(said)) == (asked, 2)
    image.provide(engine, reference, "always", said.append)
    assert registry.pulls > asked
    by_digest = image.provide(engine, reference.at(digest=registry.digest), "never", said.append)
    assert (by_digest.id, by_digest.digest) == (found.id, found.digest)


@pytest.mark.parametrize(("status", "tag", "cure"), [
    (403, "v1.0", "docker login 127.0.0.1"), (401, "v1.0", "docker login 127.0.0.1"), (200, "v2.0", "correct the tag"),
    (404, "v1.0", "correct the tag"),
])
def test_a_registry_that_refuses(engine: Daemon, registry: Registry, status: int, tag: str, cure: str) -> None:
    """Its words, and what they call for."""
    registry.status = status
    with pytest.raises(DockerFault) as raised:
        image.provide(engine, Reference.parse(f"{registry.name}:{tag}"), "missing", print)
    assert (raised.value.cause, cure in raised.value.cure) == ("image-not-pulled", True), raised.value.reason


@pytest.mark.parametrize("policy", ["missing", "always"])
def test_a_registry_that_is_silent(engine: Daemon, policy: Pull) -> None:
    """The daemon's words, and the way without a registry."""
    with pytest.raises(DockerFault) as raised:
        image.provide(engine, Reference.parse("127.0.0.1:9/engine:v1.0"), policy, print)
    assert (raised.value.cause, "refused" in raised.value.reason) == ("image-not-pulled", True)
    assert "docker load" in raised.value.cure


def test_an_image_that_came_from_no_registry(engine: Daemon) -> None:
    """Is known by its id."""
    found = docker_engine.shell_image(engine)
    try:
        assert found.digest == found.id
        assert found.build == f"{found.reference.name} (local image {found.id})"
    finally:
        engine.client.images.remove(str(found.id), force=True)


def test_the_base_has_the_python_that_is_asked_for(engine: Daemon) -> None:
    """The local one where its python3 fits; another version is not passed off for it."""
    found = docker_engine.python_image(engine)
    assert base.look(engine, found).python == "3.11"
    with pytest.raises(DockerFault, match=r"has Python 3\.11") as raised:
        base.provide(engine, "3.12", "never", print)
    assert raised.value.cause == "base-image-missing"
    with pytest.raises(DockerFault, match="cotenant/base:trixie is not there") as raised:
        base.provide(engine, "3.13", "never", print)
    assert "debootstrap --variant=minbase --include=ca-certificates,python3,libgomp1,libnuma1 trixie" in raised.value.cure
    assert "docker import - cotenant/base:trixie" in raised.value.cure


def test_libraries_that_the_base_lacks_are_this_machines(engine: Daemon, tmp_path: Path) -> None:
    """Wheels take them for granted: with the mounts, each is there that this machine has."""
    found = docker_engine.python_image(engine)
    start, mounts = Containers(tmp_path, engine, found), base.libraries(engine, found)
    load = "import ctypes, sys\nfor name in sys.argv[1:]: print(ctypes.CDLL(name))\n"
    lacking = base.look(engine, found).lacking
    try:
        start(program(load + READY, *(Path(mount.target).name for mount in mounts)), mounts=mounts)
        if lacking:
            with pytest.raises(AssertionError, match="cannot open shared object"):
                start(program(load + READY, *lacking))
    finally:
        start.close()


def test_an_image_without_python(engine: Daemon) -> None:
    """Has none."""
    found = docker_engine.shell_image(engine)
    try:
        assert base.look(engine, found) == base.Inside("", ())
    finally:
        engine.client.images.remove(str(found.id), force=True)
