"""The peers: which versions, and how their environments come about. All of it lies under COTENANT_HOME."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fixtures import setup
from fixtures.setup import SetupFailed, environment, home, tool
from fixtures.setup.environment import Say


@dataclass(frozen=True)
class Peer:
    """A load client from PyPI. `beside` is the engine whose environment already holds it, `packages` what that lacks."""

    name: str
    version: str
    packages: tuple[str, ...]
    beside: str | None = None


PEERS = {
    "vllm": Peer("vllm bench serve", "0.32.0", ("pandas==3.1.1",), "vllm"),
    "sglang": Peer("sglang.bench_serving", "0.5.23", ("datasets==5.2.0",), "sglang"),
    "guidellm": Peer("guidellm", "0.8.1", ("guidellm==0.8.1",)),
    "aiperf": Peer("aiperf", "0.13.0", ("aiperf==0.13.0",)),
}


class Unavailable(Exception):
    """A client that cannot be had or cannot run here; the words say why."""


@dataclass(frozen=True)
class Installed:
    """`python` runs the peer with `pythonpath` in front."""

    python: Path
    pythonpath: tuple[Path, ...] = ()

    @property
    def env(self) -> dict[str, str]:
        """Variables of its process: nothing is looked up on a hub, nothing is reported home, no proxy for loopback."""
        return {"PYTHONPATH": os.pathsep.join(map(str, self.pythonpath)), "NO_PROXY": "*", "no_proxy": "*",
                "DO_NOT_TRACK": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
                "TOKENIZERS_PARALLELISM": "false"}


def ensure(key: str, say: Say) -> Installed:
    """Find or install a peer. Raises Unavailable."""
    peer = PEERS[key]
    try:
        return _beside(key, peer, say) if peer.beside else _own(key, peer, say)
    except SetupFailed as refusal:
        raise Unavailable(f"{refusal.reason}. {refusal.cure}") from None
    except OSError as fault:
        raise Unavailable(f"{fault.filename or home()}: {fault.strerror or fault}") from None


def _own(key: str, peer: Peer, say: Say) -> Installed:
    root = home() / "bench" / f"{key}-{peer.version}"
    if not _finished(root, peer):
        say(f"{peer.name} {peer.version}: installing")
        settings = tool.uv_environment()
        tool.run([tool.uv(), "venv", "--quiet", "--clear", "--python", sys.executable, root], peer.name, env=settings)
        _install(peer, ["--python", root / "bin" / "python"], settings, say)
        _finish(root, peer)
    return Installed(root / "bin" / "python")


def _beside(key: str, peer: Peer, say: Say) -> Installed:
    """The engine's own environment stays as it is: what the peer needs besides lies in a folder of its own."""
    assert peer.beside is not None, "the caller looked"
    engine = setup.ensure(peer.beside, peer.version, say)
    assert engine.python is not None, "these engines are Python packages"
    root = home() / "bench" / f"{key}-{peer.version}"
    if not _finished(root, peer):
        say(f"{peer.name} {peer.version}: installing {', '.join(peer.packages)} beside {engine.root.name}")
        same = engine.root / "requirements.txt"
        _install(peer, ["--python", engine.python, "--target", root, "--constraint", same], tool.uv_environment(), say)
        _finish(root, peer)
    return Installed(engine.python, (*engine.pythonpath, root))


def _install(peer: Peer, options: list[str | Path], settings: Mapping[str, str], say: Say) -> None:
    tool.run([tool.uv(), "pip", "install", *options, *peer.packages], f"bench {peer.name}", env=settings, say=say)


def _finished(root: Path, peer: Peer) -> bool:
    stamp = environment.read_stamp(root)
    return stamp is not None and stamp.get("packages") == _digest(peer)


def _finish(root: Path, peer: Peer) -> None:
    environment.write_stamp(root, packages=_digest(peer))


def _digest(peer: Peer) -> str:
    return hashlib.sha256("\n".join(peer.packages).encode()).hexdigest()
