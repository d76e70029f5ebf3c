"""cotenant's own client, as a process of its own (bench.load.ours)."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.load.clients.client import Command, Load, Seen, Told, number_of
from fixtures.setup.environment import Say

CHECKOUT = Path(__file__).resolve().parents[3]


class Ours:
    """See bench.load.clients.client.Client."""

    name = "cotenant"
    limits = ""

    def ready(self, say: Say) -> None:
        """It is here."""

    def command(self, url: str, load: Load, folder: Path) -> Command:
        task = folder / "task.json"
        task.write_text(json.dumps({"url": url, "model": load.model, "streams": load.streams, "tokens": load.tokens,
                                    "prompts": load.asked, "body": dict(load.body)}), encoding="utf-8")
        return Command([sys.executable, "-m", "bench.load.ours", str(task), str(folder / "result.json")],
                       {"PYTHONPATH": str(CHECKOUT)})

    def read(self, folder: Path) -> Told:
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        answers = [answer for answer in result["answers"] if answer["ok"]]
        seen = tuple(_seen(answer) for answer in answers)
        return Told(seen, len(result["answers"]) - len(seen), result["remarks"], result["parsed_s"])


def _seen(answer: dict[str, Any]) -> Seen:
    at_s = answer["at_s"]
    gaps = tuple(later - earlier for earlier, later in pairwise(at_s))
    arrived, earliest = (tuple(answer["started_s"] + at for at in answer[name]) for name in ("at_s", "earliest_s"))
    return Seen(number_of(answer["text"]), at_s[0], gaps, tokens=answer["tokens"], arrived_s=arrived, earliest_s=earliest)
