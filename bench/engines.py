"""The standing comparison: several engines at the same work, one after another, and the table of what each took.

    python -m bench.engines [--engine vllm ...] [--model trilingual-8m] [--markdown]

Same prompts by token count in three languages, same length of answers where the engine can go on beyond the end of text,
same concurrency. Engines are set up under COTENANT_HOME on first use. Run it alone.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from pathlib import Path

from fixtures import setup
from fixtures.engines.base import Engine, Served
from fixtures.engines.registry import engine as engine_of
from fixtures.launchers.attest import occupied
from fixtures.launchers.process import ProcessHandle, launch
from fixtures.lineup import ModelEntry
from fixtures.load import comparison, loop
from fixtures.load.client import Client
from fixtures.load.comparison import Contender
from fixtures.load.prompts import Prompts
from fixtures.models.folder import ModelFolder

MODELS = Path(__file__).resolve().parent.parent / "fixtures" / "models"
BOOT_S = 180.0
IGNORES_EOS = ("vllm", "sglang", "llamacpp")  # Ollama's API has nothing of the kind
# How each log names the precision of the weights that it serves; the conversion for GGUF writes what the file says.
DTYPE = re.compile(r"dtype[=: '\"]+(?:torch\.)?(bfloat16|float16|float32)")


def main() -> int:
    """Run and print; 1 where no engine could be measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.engines", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", action="append", choices=list(setup.DEFAULT_VERSIONS))
    names = sorted(file.parent.name for file in MODELS.glob("*/config.json"))
    parser.add_argument("--model", default="trilingual-8m", choices=names)
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    contenders = [one for name in options.engine or setup.DEFAULT_VERSIONS if (one := _measured(name, options.model))]
    if not contenders:
        return 1
    print((comparison.markdown if options.markdown else comparison.plain)(contenders))
    return 0


def _measured(name: str, model: str) -> Contender | None:
    try:
        environment = setup.ensure(name, setup.DEFAULT_VERSIONS[name], _say)
    except setup.SetupFailed as refusal:
        _say(f"{name}: unavailable: {refusal.reason}. {refusal.cure}")
        return None
    folder = ModelFolder(MODELS / model)
    served = Served(ModelEntry(name=model, languages=("en", "zh", "ko")), folder, str(folder.path), {})
    with tempfile.TemporaryDirectory(prefix="cotenant-engines-") as scratch:
        engine = engine_of(name)
        command = engine.command(environment, [served], setup.home() / "store")
        with launch(command, name=name, log=Path(scratch) / "log", scratch_root=Path(scratch), run_id="bench") as handle:
            _say(f"{name}: started")
            return _contender(engine, handle, served)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _contender(engine: Engine, handle: ProcessHandle, served: Served) -> Contender:
    assert served.folder is not None, "the repository's models are folders"
    client = Client(handle.url, served.name)
    _await_answer(engine, handle, client, served)
    ignores = engine.name in IGNORES_EOS
    work = comparison.workload(Prompts.of_model(served.folder.path), served.entry.languages, ignore_eos=ignores,
                               options={"stream_options": engine.stream_options})
    result = loop.run(client, work)
    log = handle.log.read_text(errors="replace")
    version = engine.version(client, log) or ""
    return Contender(engine.name, version, served.name, _weights(engine.name, log), ignores, result)


def _await_answer(engine: Engine, handle: ProcessHandle, client: Client, served: Served) -> None:
    deadline, admitted = time.monotonic() + BOOT_S, False
    while handle.running() and time.monotonic() < deadline:
        if occupied(handle.port):
            if not admitted and client.request("GET", "/v1/models").status == 200:
                engine.admit(handle, client, served)
                admitted = True
            if admitted and client.chat("Hello!", max_tokens=2).ok:
                return
        handle.wait(0.2)
    raise SystemExit(f"{engine.name} did not answer within {BOOT_S:g} s:\n{handle.log.read_text(errors='replace')[-2000:]}")


def _weights(engine: str, log: str) -> str:
    if engine in ("llamacpp", "ollama"):
        return "float32 (GGUF)"
    found = DTYPE.search(log)
    return found[1] if found else ""


if __name__ == "__main__":
    sys.exit(main())
