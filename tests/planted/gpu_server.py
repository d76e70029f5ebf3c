"""vLLM or SGLang as seen from outside, on a GPU that is not there: their command lines and log lines, memory on a fake
device, and a real llama.cpp on the CPU to answer.

Run by llama.cpp's interpreter in the place of an engine's `python -m …`. Reads COTENANT_PLANTED_GGUF (folder with
`<served name>.gguf`), COTENANT_FAKE_NVML (see tests/nvml.py) and COTENANT_PLANTED_FAULT:

    small-pool     healthy with a third of the KV cache that its share leaves, as after a concurrent start
    on-the-cpu     nothing on the device
    over-share     holds 6 GiB more than its share
    keeps-memory   the device is still full after its end
    leaks          takes 100 MiB more with every second
"""

import argparse
import os
import signal
import sys
import threading
import time
from pathlib import Path

import xllamacpp

GIB, MIB = 2**30, 2**20
WEIGHTS, OTHER = GIB, int(0.9 * GIB)
CONTEXT_BYTES = int(0.7 * GIB)  # what a process holds on a device outside its share
PER_TOKEN = 16 * 1024
STATE = Path(os.environ["COTENANT_FAKE_NVML"])
FAULT = os.environ.get("COTENANT_PLANTED_FAULT", "")


def main() -> None:
    """Say what the engine would say, take its memory, serve until SIGTERM."""
    module, words = sys.argv[2], sys.argv[3:]
    options = _options(words)
    budget = _budget(options)
    cache = max(0, budget - WEIGHTS - OTHER) // (3 if FAULT == "small-pool" else 1)
    if "vllm" in module:
        print(f"INFO Model loading took {WEIGHTS / GIB:.2f} GiB and 1.0 seconds\n"
              f"INFO Available KV cache memory: {cache / GIB:.2f} GiB\n"
              f"INFO GPU KV cache size: {cache // PER_TOKEN:,} tokens", flush=True)
    else:
        half = cache / GIB / 2
        print(f"Load weight end. elapsed=0.1 s, type=X, avail mem=1.0 GB, mem usage={WEIGHTS / GIB:.2f} GB.\n"
              f"KV Cache is allocated. dtype: x, #tokens: {cache // PER_TOKEN}, K size: {half:.2f} GB, "
              f"V size: {half:.2f} GB", flush=True)
    held = WEIGHTS + cache + OTHER + CONTEXT_BYTES + (6 * GIB if FAULT == "over-share" else 0)
    if FAULT != "on-the-cpu":
        _hold(os.getpid(), held)
    signal.signal(signal.SIGTERM, lambda *_: _end(held))
    server = _serve(options)
    print(f"listening on {server.listening_address}", flush=True)
    began = time.monotonic()
    while not threading.Event().wait(0.05):
        if FAULT == "leaks":
            _hold(os.getpid(), held + int(100 * MIB * (time.monotonic() - began)))


def _options(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", "--model-path", dest="model")
    parser.add_argument("--served-model-name", dest="name")
    parser.add_argument("--port", type=int)
    parser.add_argument("--max-model-len", "--context-length", dest="context", type=int)
    parser.add_argument("--gpu-memory-utilization", dest="of_total", type=float)
    parser.add_argument("--mem-fraction-static", dest="of_free", type=float)
    return parser.parse_known_args(words)[0]


def _budget(options: argparse.Namespace) -> int:
    """A share of the device's total, or of what is free now."""
    device = dict(line.split(" ", 1) for line in (STATE / "devices" / "0").read_text().splitlines())
    total = int(device["memory_total"])
    if options.of_total is not None:
        return int(options.of_total * total)
    living = (file for file in (STATE / "processes").iterdir() if Path("/proc", file.name).exists())
    used = sum(int(file.read_text().split()[1]) for file in living)
    return int(options.of_free * (total - int(device["memory_idle"]) - used))


def _hold(pid: int, size: int, *words: str) -> None:
    file = STATE / "processes" / str(pid)
    file.with_suffix(".new").write_text(f"0 {size} {' '.join(words)}\n")
    file.with_suffix(".new").replace(file)


def _end(held: int) -> None:
    if FAULT == "keeps-memory":
        _hold(os.getpid(), held, "compute", "keep")
    os._exit(0)


def _serve(options: argparse.Namespace) -> "xllamacpp.Server":
    params = xllamacpp.CommonParams()
    params.model.path = str(Path(os.environ["COTENANT_PLANTED_GGUF"]) / f"{options.name}.gguf")
    params.model_alias = {options.name}
    params.hostnames = ["127.0.0.1"]
    params.port = options.port
    params.n_parallel, params.n_ctx = 4, 4 * options.context
    params.cpuparams.n_threads = 1
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
