"""guidellm: its JSON report has the TTFT of each request, and of the gaps the mean."""

from __future__ import annotations

import json
import os
from pathlib import Path

from bench.load import peers
from bench.load.clients.client import TOKENIZER, Command, Load, Seen, Told, number_of
from fixtures.setup.environment import Say


class Guidellm:
    """See bench.load.clients.client.Client."""

    name = "guidellm"
    limits = ("its report has only the mean gap of each request, so its ITL error is that of means; it asks for "
              "continuous usage; given as many worker processes as there are processors instead of ten")

    def ready(self, say: Say) -> None:
        self._installed = peers.ensure("guidellm", say)

    def command(self, url: str, load: Load, folder: Path) -> Command:
        data = folder / "prompts.jsonl"
        lines = [json.dumps({"prompt": prompt, "output_tokens_count": load.tokens}) for prompt in load.asked]
        data.write_text("\n".join(lines) + "\n", encoding="utf-8")
        options = {"--backend": f"kind=openai_http,target={url},model={load.model},request_format=/v1/completions",
                   "--profile": f"kind=concurrent,streams={load.streams}",
                   "--constraint": f"kind=max_requests,count={load.requests}",
                   "--tokenizer": f"kind=huggingface_auto,model={TOKENIZER}",
                   "--data": f"kind=json_file,path={data}", "--output": f"kind=json,path={folder / 'result.json'}"}
        words = [str(word) for pair in options.items() for word in pair]
        workers = str(len(os.sched_getaffinity(0)))
        env = {**self._installed.env, "HF_HUB_OFFLINE": "1", "GUIDELLM__MAX_WORKER_PROCESSES": workers,
               "HF_DATASETS_CACHE": str(folder / "datasets")}
        program = self._installed.python.with_name("guidellm")
        return Command([str(program), "run", *words, "--disable-console"], env)

    def read(self, folder: Path) -> Told:
        (benchmark,) = json.loads((folder / "result.json").read_text(encoding="utf-8"))["benchmarks"]
        requests = benchmark["requests"]
        seen = tuple(Seen(number_of(one["output"]), one["time_to_first_token_ms"] / 1000,
                          mean_gap_s=one["inter_token_latency_ms"] / 1000) for one in requests["successful"])
        return Told(seen, len(requests["errored"]) + len(requests["incomplete"]))
