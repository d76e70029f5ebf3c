"""`sglang.bench_serving`, its Python client and its Rust client: one line of results with TTFT and gaps of each request."""

from __future__ import annotations

import json
from pathlib import Path

from bench.load import peers
from bench.load.clients.client import TOKENIZER, Command, Load, Seen, Told, number_of
from fixtures.setup.environment import Say


class Sglang:
    """See bench.load.clients.client.Client."""

    def __init__(self, rust: bool = False) -> None:
        self._module = "sglang.benchmark.rust_client" if rust else "sglang.bench_serving"
        self.name = f"sglang.bench_serving ({'Rust' if rust else 'Python'})"
        self.limits = "" if rust else "it counts the tokens of each answer again before it reports"

    def ready(self, say: Say) -> None:
        self._installed = peers.ensure("sglang", say)

    def command(self, url: str, load: Load, folder: Path) -> Command:
        data = folder / "sharegpt.json"
        talks = [{"conversations": [{"from": "human", "value": prompt}, {"from": "gpt", "value": "tok " * 8}]}
                 for prompt in load.asked]
        data.write_text(json.dumps(talks), encoding="utf-8")
        options = {"--backend": "vllm", "--base-url": url, "--model": load.model, "--tokenizer": TOKENIZER,
                   "--dataset-name": "sharegpt", "--dataset-path": data, "--sharegpt-output-len": load.tokens,
                   "--num-prompts": load.requests, "--max-concurrency": load.streams, "--warmup-requests": 0,
                   "--output-file": folder / "result.jsonl"}
        words = [str(word) for pair in options.items() for word in pair]
        env = {**self._installed.env, "HF_HUB_OFFLINE": "1"}
        return Command([str(self._installed.python), "-m", self._module, *words, "--output-details", "--disable-tqdm"], env)

    def read(self, folder: Path) -> Told:
        result = json.loads((folder / "result.jsonl").read_text(encoding="utf-8").splitlines()[-1])
        rows = list(zip(*(result[name] for name in ("generated_texts", "ttfts", "itls", "errors")), strict=True))
        seen = tuple(Seen(number_of(text), ttft, tuple(gaps)) for text, ttft, gaps, error in rows if not error)
        return Told(seen, len(rows) - len(seen))
