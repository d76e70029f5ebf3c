"""Runs the load client beside its peers against a server that writes down what it sent when.

    python -m bench.load [--streams 16,64,256,512,1024] [--client NAME ...] [--flood-runs 5] [--ten-runs 3]
    python -m bench.load --stalls
    python -m bench.load --against URL --model NAME [--tokenizer FOLDER]

Peers are installed under COTENANT_HOME on first use. Exit 1 where ours does not hold a bar or cannot run.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.load import against, comparison, stalls, table
from bench.load.clients import Client, Ours, every
from bench.load.peers import Unavailable
from bench.load.server import NoServer


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print; 1 where a bar is not held or nothing could be measured."""
    options = _parser().parse_args(arguments)
    try:
        report = _report(options)
    except (Unavailable, NoServer) as refusal:
        print(refusal, file=sys.stderr)
        return 1
    print(report, flush=True)
    return 1 if re.search(rf"\| fail \||\| {Ours.name} \| unavailable", report) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", default="64,256,512", type=_counts, help="numbers of streams, by commas")
    parser.add_argument("--client", action="append", default=[], help="only peers whose name begins so; ours always")
    parser.add_argument("--flood-runs", type=int, default=5)
    parser.add_argument("--flood-batch", default="1,16", type=_counts,
                        help="events a send() in a flood, by commas: engines send one, 1; a server that is no limit, 16")
    parser.add_argument("--ten-runs", type=int, default=3)
    parser.add_argument("--stalls", action="store_true", help="plant three stalls and see whether ours finds them")
    parser.add_argument("--against", metavar="URL", help="a real server, without /v1")
    parser.add_argument("--model", help="the name that it serves")
    parser.add_argument("--tokenizer", type=Path, help="folder of its tokenizer, for vllm bench serve")
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=4)
    return parser


def _counts(text: str) -> list[int]:
    counts = [int(word) for word in text.split(",")]
    if min(counts) < 1:
        raise ValueError(f"not numbers of streams: {text}")
    return counts


def _report(options: argparse.Namespace) -> str:
    if options.stalls:
        return stalls.table(stalls.run())
    if options.against:
        if not options.model:
            raise Unavailable("--against needs --model: the name that the server serves")
        return against.run(against.Task(options.against, options.model, options.concurrency, options.requests,
                                        options.tokens, options.rounds, options.tokenizer), _say)
    clients = _chosen(options.client)
    where = table.machine()
    plan = comparison.Plan(options.streams, options.ten_runs, options.flood_runs, options.flood_batch)
    outcomes = comparison.compare(clients, plan, _say)
    floods = [table.flood_table(outcomes, batch) for batch in options.flood_batch]
    parts = [where, table.errors_table(outcomes, options.streams), *floods, table.ten_table(outcomes),
             "\n".join(table.notes(outcomes))]
    return "\n\n".join(part for part in parts if part)


def _chosen(names: Sequence[str]) -> list[Client]:
    ours, *peers = every()
    wanted = [peer for peer in peers if not names or any(peer.name.startswith(name) for name in names)]
    return [ours, *wanted]


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
