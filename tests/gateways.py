"""Gateways for the tests: nginx as it is here, before small servers, whole or with a fault planted in its configuration."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from fixtures.deployment import gateway
from fixtures.deployment.gateway import Front
from fixtures.engines.base import Served
from fixtures.gateway import down, health, nginx, route, stream
from fixtures.gateway.configuration import Backend
from fixtures.gateway.nginx import Nginx
from fixtures.launchers.handle import Command
from fixtures.setup.environment import Environment
from fixtures.verdict import Judgement, Unavailable
from tests.small import Deployments, Small

PROGRAM = Path(__file__).with_name("gateway_server.py")
PROBE_S = 0.5
PACE_S = 0.002
VICTIM = "second"


class Telling(Small):
    """A server a model, each with words of its own."""

    def __init__(self, *, alike: bool = False, pace_s: float = PACE_S) -> None:
        super().__init__()
        self.alike, self.pace_s = alike, pace_s

    def command(self, environment: Environment, served: Sequence[Served], store: Path) -> Command:
        """The program beside this file."""
        name = served[0].name
        words = ("same" if self.alike else name, str(self.pace_s), name)
        return Command((sys.executable, "-S", "-u", str(PROGRAM), "{port}", *words), stop_grace_s=0.5)


Plant = Callable[[str], str]


def whole(text: str) -> str:
    """No fault."""
    return text


def here() -> Nginx:
    """nginx with njs; a test that needs it is skipped where it is missing, and fails where all must be there."""
    try:
        found = nginx.find()
    except Unavailable as refusal:
        _missing(f"{refusal.reason}: {refusal.cure}")
    if found.njs is None:
        _missing(f"{found.program} has no njs: {nginx.CURE}")
    return found


def _missing(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def without_njs(found: Nginx) -> Nginx:
    """The same nginx, its module left alone."""
    return replace(found, njs=None)


@contextmanager
def front(make: Deployments, plant: Plant = whole, *, found: Nginx | None = None, engine: Small | None = None,
          names: Sequence[str] = ("first", VICTIM)) -> Iterator[Front]:
    """A gateway with this fault before small servers."""
    script = make.script(*names, engine=engine or Telling())
    for name in names:
        script.model(name)

    def planted(used: Nginx, models: Sequence[Backend]) -> str:
        return plant(nginx.template(used, models, PROBE_S))

    log = make.root / f"nginx-{len(make.launched)}.log"
    with gateway.launched(script.deployment, log, make.root / "s", "test-run", found=found or here(), make=planted) as made:
        yield made


def replaced(*pairs: tuple[str, str]) -> Plant:
    """A fault planted by replacing words; all of them must stand there."""

    def plant(text: str) -> str:
        for old, new in pairs:
            assert old in text, f"the configuration does not say: {old}"
            text = text.replace(old, new)
        return text

    return plant


@contextmanager
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployments]:
    """Makes deployments; their folder has a short path, for sockets. What may take ten seconds may take one."""
    for module, name, value in ((down, "REFUSED_S", 1.0), (down, "BACK_S", 2.0), (gateway, "PATIENCE_S", 1.5),
                                (gateway, "REFUSALS", 2), (gateway, "BACK_S", 2.0), (health, "LIMIT_S", 2.0),
                                (route, "LOGGED_S", 0.3)):
        monkeypatch.setattr(module, name, value)
    with tempfile.TemporaryDirectory(prefix="cot") as folder:
        monkeypatch.setenv("COTENANT_HOME", folder + "/home")
        deployments = Deployments(Path(folder))
        yield deployments
        deployments.close()


def routed(made: Front) -> Judgement:
    """gateway.route."""
    return route.judge(route.observe(made.door, made.direct(), made.activity(), prompts=route.PROMPTS[:2]))


def streamed(made: Front) -> Judgement:
    """gateway.stream of one model."""
    return stream.judge(stream.observe(made.door, VICTIM, made.direct()[VICTIM], most=4))


def fell(made: Front) -> Judgement:
    """gateway.down."""
    return down.judge(gateway.fall(made, VICTIM))


def told(made: Front) -> Judgement:
    """gateway.health."""
    return health.judge(gateway.ask_health(made, VICTIM, kill=True))
