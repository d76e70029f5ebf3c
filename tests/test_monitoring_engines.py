"""What the real engines expose today is what was recorded of them."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import httpx
import pytest

from fixtures import setup
from fixtures.engines import registry as engines
from fixtures.engines.base import Served
from fixtures.launchers.attest import occupied
from fixtures.launchers.process import launch
from fixtures.lineup import ModelEntry
from fixtures.load.client import Client
from fixtures.monitoring.metrics import EXPOSED
from tests.scraping import OWN, names, recorded, served, text, value

pytestmark = pytest.mark.long


@pytest.mark.parametrize("engine", EXPOSED)
def test_the_recorded_scrape_is_still_what_the_engine_says(engine: str, tmp_path: Path) -> None:
    """The same names after the same requests; and while a long answer is made, what moves with every step moves."""
    with served(engine, tmp_path, *OWN.get(engine, ())) as (client, _):
        assert names(text(client)) == names(recorded(engine)), f"record it anew: python -m tests.scraping {engine}"
        exposed = EXPOSED[engine]
        assert exposed.progress
        assert exposed.running
        seen = _while_it_answers(client, exposed.progress.name, exposed.running.name)
    assert max(running for _, running in seen) >= 1, seen
    during = {progress for progress, running in seen if running}
    assert len(during) > 1, f"{exposed.progress.name} stood still while a request ran: {seen}"


def _while_it_answers(client: Client, *metrics: str) -> list[tuple[float, ...]]:
    """The values of these metrics, again and again, while three long answers are made side by side."""
    asked = [threading.Thread(target=client.chat, args=("Tell me a long story.",),
                              kwargs={"max_tokens": 900, "ignore_eos": True}) for _ in range(3)]
    for one in asked:
        one.start()
    seen = []
    while any(one.is_alive() for one in asked):
        scrape = text(client)
        seen.append(tuple(value(scrape, name) for name in metrics))
        time.sleep(0.02)
    return seen


def test_sglang_without_its_flag_answers_no_metrics(tmp_path: Path) -> None:
    """So that a missing flag shows as a target that is down."""
    with served("sglang", tmp_path) as (client, _):
        assert httpx.get(f"{client.base_url}/metrics", timeout=30).status_code == 404


def test_ollama_has_no_metrics(tmp_path: Path) -> None:
    """Once it has some, it can be watched."""
    environment = setup.ensure("ollama", setup.DEFAULT_VERSIONS["ollama"], print)
    command = engines.engine("ollama").command(environment, [Served(ModelEntry(name="any"), None, "", {})], tmp_path)
    with launch(command, name="ollama", log=tmp_path / "log", scratch_root=tmp_path, run_id="scrape") as handle:
        while not occupied(handle.port):
            assert handle.running(), handle.log.read_text()
            handle.wait(0.1)
        assert httpx.get(f"{handle.url}/api/version", timeout=30).status_code == 200
        assert httpx.get(f"{handle.url}/metrics", timeout=30).status_code == 404
