"""aiperf: one line a record with TTFT and every gap; the texts, by which records are matched, lie in a file of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.load import peers
from bench.load.clients.client import TOKENIZER, Command, Load, Seen, Told, number_of
from fixtures.setup.environment import Say


class Aiperf:
    """See bench.load.clients.client.Client."""

    name = "aiperf"
    limits = "token counts from the server, not from its tokenizer; no user interface, no server or GPU metrics"

    def ready(self, say: Say) -> None:
        self._installed = peers.ensure("aiperf", say)

    def command(self, url: str, load: Load, folder: Path) -> Command:
        data = folder / "prompts.jsonl"
        lines = [json.dumps({"text": prompt, "output_length": load.tokens}) for prompt in load.asked]
        data.write_text("\n".join(lines) + "\n", encoding="utf-8")
        options = {"--model": load.model, "--url": url, "--endpoint-type": "completions", "--tokenizer": TOKENIZER,
                   "--input-file": data, "--custom-dataset-type": "single_turn", "--concurrency": load.streams,
                   "--request-count": load.requests, "--export-level": "records", "--output-artifact-dir": folder,
                   "--ui": "none"}
        words = [str(word) for pair in options.items() for word in pair]
        flags = ["--streaming", "--use-server-token-count", "--use-legacy-max-tokens", "--export-outputs-json",
                 "--no-server-metrics", "--no-gpu-telemetry"]
        # Told to stay off the hub, this version takes a folder for the name of a repository and refuses it.
        return Command([str(self._installed.python.with_name("aiperf")), "profile", *words, *flags], self._installed.env)

    def read(self, folder: Path) -> Told:
        outputs = json.loads((folder / "outputs.json").read_text(encoding="utf-8"))["data"]
        texts = {output["x_request_id"]: output["response_text"] or "" for output in outputs}
        lines = (folder / "profile_export.jsonl").read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines]
        good = [record for record in records if "time_to_first_token" in record["metrics"]]
        return Told(tuple(_seen(record, texts) for record in good), len(records) - len(good))


def _seen(record: dict[str, Any], texts: dict[str, str]) -> Seen:
    metrics = record["metrics"]
    gaps = metrics.get("inter_chunk_latency", {"value": []})["value"]
    number = number_of(texts.get(record["metadata"]["x_request_id"], ""))
    return Seen(number, metrics["time_to_first_token"]["value"] / 1000, tuple(gap / 1000 for gap in gaps))
