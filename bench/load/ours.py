"""cotenant's client as a process of its own: reads a task, runs the load, writes what it saw.

    python -m bench.load.ours TASK.json RESULT.json
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from fixtures.load import loop
from fixtures.load.answer import Answer
from fixtures.load.arrivals import Closed
from fixtures.load.client import Client
from fixtures.load.result import LoadResult
from fixtures.load.workload import Ask, Workload


def main(task: str, result: str) -> None:
    """Run one load."""
    asked = json.loads(Path(task).read_text(encoding="utf-8"))
    bodies = ({"prompt": prompt, "max_tokens": asked["tokens"], **asked["body"]} for prompt in asked["prompts"])
    workload = Workload([Ask("/v1/completions", body) for body in bodies], Closed(asked["streams"]), warm_up=0,
                        keep_alive=True)
    load = loop.run(Client(asked["url"], asked["model"]), workload)
    parsed_s = time.monotonic()
    dump = {"answers": [_answer(answer) for answer in load.answers], "remarks": _remarks(load), "parsed_s": parsed_s}
    Path(result).write_text(json.dumps(dump), encoding="utf-8")


def _answer(answer: Answer) -> dict[str, Any]:
    worded = answer.worded
    return {"ok": answer.ok and bool(worded), "text": worded[0].text if worded else "", "started_s": answer.started_s,
            "at_s": [chunk.at_s for chunk in worded], "earliest_s": [chunk.earliest_s for chunk in worded],
            "tokens": answer.usage.completion_tokens if answer.usage else None}


def _remarks(load: LoadResult) -> str:
    client = load.client
    stamps = "kernel stamps" if client.kernel_stamps else "no kernel stamps"
    return f"{stamps}, {100 * client.merged_share:.2g} % of reads merged, read {1000 * client.lag_p99_s:.2g} ms late (p99)"


if __name__ == "__main__":
    main(*sys.argv[1:])
