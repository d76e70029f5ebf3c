"""Real engines' /metrics: recorded in tests/scrapes, and recorded anew.

    COTENANT_HOME=… python -m tests.scraping vllm sglang llamacpp
"""

from __future__ import annotations

import re
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx

from fixtures import setup
from fixtures.engines.base import Served
from fixtures.engines.registry import engine
from fixtures.launchers.process import ProcessHandle, launch
from fixtures.lineup import ModelEntry
from fixtures.load.client import Client
from fixtures.models.folder import ModelFolder
from fixtures.monitoring.metrics import EXPOSED

SCRAPES = Path(__file__).with_name("scrapes")
MODEL = Path(__file__).resolve().parent.parent / "fixtures" / "models" / "trilingual-2m"
BOOT_S = 180.0
# llama.cpp out of its wheel always exposes them.
OWN = {"sglang": (EXPOSED["sglang"].flag,)}
_SERIES = re.compile(r"^([a-zA-Z_:][\w:]*)[{ ]", re.MULTILINE)
_HEADER = "# Recorded"


def recorded(name: str) -> str:
    """What the engine answered when it was recorded, without the header."""
    (file,) = SCRAPES.glob(f"{name}-*.prom")
    return "".join(line for line in file.read_text(encoding="utf-8").splitlines(keepends=True)
                   if not line.startswith(_HEADER))


def names(scrape: str) -> set[str]:
    """The names of all series of an exposition; `_created` ones, which say when a series began, are left out."""
    return {name for name in _SERIES.findall(scrape) if not name.endswith("_created")}


@contextmanager
def served(name: str, root: Path, *arguments: str) -> Iterator[tuple[Client, ProcessHandle]]:
    """The engine as a run starts it on a CPU, after three short answers; `arguments` are added to its command line."""
    model = Served(ModelEntry(name=MODEL.name), ModelFolder(MODEL), str(MODEL), {}, arguments=arguments)
    environment = setup.ensure(name, setup.DEFAULT_VERSIONS[name], print)
    command = engine(name).command(environment, [model], setup.home() / "store")
    with launch(command, name=name, log=root / f"{name}.log", scratch_root=root, run_id="scrape") as handle:
        client = Client(handle.url, model.name)
        _wait(client, handle)
        for words in ("Tell me of the sea.", "Tell me of the sea and the sky."):
            assert client.chat(words, max_tokens=32).ok
        yield client, handle


def _wait(client: Client, handle: ProcessHandle) -> None:
    deadline = time.monotonic() + BOOT_S
    while not client.chat("Hello!", max_tokens=2).ok:
        assert handle.running(), f"it ended: {handle.log.read_text()[-2000:]}"
        assert time.monotonic() < deadline, f"no answer within {BOOT_S:g} s: {handle.log.read_text()[-2000:]}"
        handle.wait(0.5)


def text(client: Client) -> str:
    """The whole of /metrics, which is longer than what a client keeps of other answers."""
    answer = httpx.get(f"{client.base_url}/metrics", timeout=30)
    answer.raise_for_status()
    return answer.text


def value(scrape: str, name: str) -> float:
    """The sum of a metric's series; 0 where there is none."""
    return sum(float(found) for found in re.findall(rf"^{re.escape(name)}(?:{{.*}})? (\S+)$", scrape, re.MULTILINE))


def record(name: str) -> Path:
    """Scrape anew and keep it."""
    with tempfile.TemporaryDirectory() as root, served(name, Path(root), *OWN.get(name, ())) as (client, handle):
        scrape, argv = text(client), handle.command
    version = setup.DEFAULT_VERSIONS[name]
    home = str(setup.home())
    words = shlex.join(argv).replace(home, "$COTENANT_HOME").replace(str(MODEL.parents[2]), "$CHECKOUT")
    for old in SCRAPES.glob(f"{name}-*.prom"):
        old.unlink()
    file = SCRAPES / f"{name}-{version}.prom"
    header = (f"{_HEADER} from {name} {version} on {datetime.now(UTC):%Y-%m-%d}, after three short answers, by "
              f"`python -m tests.scraping {name}`\n{_HEADER} of: {words}\n")
    file.write_text(header + scrape, encoding="utf-8")
    return file


if __name__ == "__main__":
    for asked_for in sys.argv[1:]:
        print(record(asked_for))
