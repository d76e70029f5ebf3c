"""A small engine, launched like the real ones, and deployments of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from fixtures.deployment.deployment import Deployment
from fixtures.deployment.script import Script
from fixtures.engines.base import Engine, Served
from fixtures.launchers.endpoint import EndpointHandle
from fixtures.launchers.handle import Command, Handle
from fixtures.launchers.process import ProcessHandle, launch
from fixtures.lineup import ModelEntry
from fixtures.load.client import Client
from fixtures.memory.sampler import Sampler
from fixtures.setup.environment import Environment
from fixtures.timesheet import Timesheet

PROGRAM = Path(__file__).with_name("small_server.py")
READY_S = 20.0
CONTEXT = 1024


class Small(Engine):
    """One server a model. `faults` breaks the servers of some models, by name."""

    name = "small"
    boot_limit_s = READY_S

    def __init__(self) -> None:
        self.faults: dict[str, str] = {}

    def command(self, environment: Environment, served: Sequence[Served], store: Path) -> Command:
        """The program beside this file, without site-packages so that it starts fast."""
        names = [model.name for model in served]
        words = [*(["shared"] if self.shares_server else []), *names]
        fault = next((self.faults[name] for name in names if name in self.faults), "")
        return Command((sys.executable, "-S", str(PROGRAM), "{port}", fault, *words), stop_grace_s=0.5)

    def version(self, client: Client, log: str) -> str | None:
        """As it says."""
        listed = client.request("GET", "/v1/models").json
        return str(listed["version"]) if isinstance(listed, dict) else None

    def capacity(self, client: Client, log: str, served: Served) -> int | None:
        """As it says."""
        listed = client.request("GET", "/v1/models").json
        return next((entry["capacity"] for entry in listed["data"] if entry["id"] == served.name), None)


class Shared(Small):
    """One server that loads all models, each in a process of its own."""

    shares_server = True
    sleeps = True

    def unload(self, client: Client, served: Served) -> None:
        """By request."""
        client.request("POST", "/unload", json={"model": served.name})

    def runner(self, handle: Handle, served: Served) -> int | None:
        """As it says."""
        client = Client(handle.url, served.name)
        listed = client.request("GET", "/v1/models").json
        client.close()
        return next((entry["pid"] for entry in listed["data"] if entry["id"] == served.name), None)


class Deployments:
    """Makes deployments of the small engine and ends them all."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.launched: list[list[str]] = []
        self._open: list[Deployment] = []
        self._samplers: list[Sampler] = []
        self._handles: list[ProcessHandle] = []

    def script(self, *names: str, engine: Small | None = None, ready_s: float = READY_S, wanted: Sequence[str] = (),
               endpoints: Sequence[str] = ()) -> Script:
        """A script over a deployment of these models; with `endpoints`, of servers that somebody else runs there."""
        used = engine or Small()
        urls = dict(zip(names, endpoints, strict=False))
        served = [Served(ModelEntry(name=name, context=CONTEXT), None, name, {"ready_s": ready_s}) for name in names]

        def start(models: Sequence[Served]) -> Handle:
            return EndpointHandle(urls[models[0].name]) if urls else self._launch(used, models)

        sampler = Sampler().start()
        deployment = Deployment(used, served, start, Timesheet(), sampler)
        deployment.grace_s = 1.0
        self._open.append(deployment)
        self._samplers.append(sampler)
        return Script(deployment, frozenset(wanted))

    def server(self, *names: str, engine: Small | None = None) -> ProcessHandle:
        """One server outside any deployment."""
        models = [Served(ModelEntry(name=name, context=CONTEXT), None, name, {}) for name in names]
        handle = self._launch(engine or Small(), models)
        self._handles.append(handle)
        return handle

    def _launch(self, engine: Small, served: Sequence[Served]) -> ProcessHandle:
        self.launched.append([model.name for model in served])
        nowhere = Environment(engine.name, "1.0", self.root)
        return launch(engine.command(nowhere, served, self.root), name="small", log=self.root / f"{len(self.launched)}.log",
                      scratch_root=self.root / "s", run_id="test-run")

    def close(self) -> None:
        """End what is still there."""
        for deployment in self._open:
            deployment.close()
        for sampler in self._samplers:
            sampler.stop()
        for handle in self._handles:
            handle.close(force=True)


def die(url: str, code: int = 3) -> None:
    """Make a server end by itself."""
    Client(url, "").request("POST", "/die", json={"code": code})
