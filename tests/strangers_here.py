"""Compose files as strangers write them, with an image and models for this machine."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from fixtures.docker.daemon import Daemon
from fixtures.models.convert import to_gguf
from fixtures.setup import Environment
from tests.runs import CHECKOUT

FILES = Path(__file__).with_name("strangers")
MODELS = {"chat": "trilingual-2m", "draft": "trilingual-4m"}
LIBGOMP = Path("/usr/lib/x86_64-linux-gnu/libgomp.so.1")


@dataclass(frozen=True)
class Strangers:
    """A folder with the files, their models and an `.env`; `stack` is what one of them calls itself."""

    folder: Path
    image: str
    stack: str

    def file(self, name: str) -> str:
        """The option that names one."""
        return f"--compose-file={self.folder / name}.yaml"

    def say(self, **variables: object) -> None:
        """Set variables of the files."""
        known = {"LLAMA_IMAGE": self.image, "STACK": self.stack, "CHAT_PORT": 18081, **variables}
        (self.folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in known.items()))


@contextmanager
def llama_image(engine: Daemon, environment: Environment, folder: Path) -> Iterator[str]:
    """An image with a llama-server, made on the base image by the classic builder; removed afterwards."""
    (packages,) = environment.root.glob("lib/python3*/site-packages")
    for name in ("Dockerfile", "llama-server"):
        shutil.copy(FILES / name, folder)
    shutil.copytree(packages, folder / "packages")
    (folder / "lib").mkdir()
    shutil.copy(LIBGOMP.resolve(), folder / "lib" / LIBGOMP.name)
    tag = f"cotenant-test/llama.cpp:server-{uuid4().hex[:8]}"
    engine.client.images.build(path=str(folder), tag=tag, rm=True, forcerm=True)
    try:
        yield tag
    finally:
        engine.client.images.remove(tag, force=True)


def strangers_in(folder: Path, image: str) -> Strangers:
    """Everything in place."""
    for file in FILES.glob("*.yaml"):
        shutil.copy(file, folder)
    (folder / "models").mkdir()
    for name, model in MODELS.items():
        to_gguf(CHECKOUT / "fixtures" / "models" / model, folder / "models" / f"{name}.gguf")
    found = Strangers(folder, image, f"stack{uuid4().hex[:8]}")
    found.say()
    return found
