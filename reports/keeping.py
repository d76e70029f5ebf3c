"""A run kept to be read elsewhere: its cells with their evidence, its facts, and of each server's log what tells something.

`python -m reports.keeping RUN FOLDER [--word PATH=WORD …]`; paths of the machine are shortened to words.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reports import store
from reports.store import CELLS, FACTS, StoreError

TELLING = re.compile(
    r"GiB|\bGB\b|mem usage|\bMiB\b|KV cache|CUDA graph|Graph captur|nccl==|all-reduce backends|model runner|offload|"
    r"library=CUDA|server_args=|non-default args|Maximum concurrency|max_total_num_tokens|ready to roll|startup complete|"
    r"kill_process_tree|Listening on|inference compute|unbalanced|Error\b|Exception\b|panic|Falling back")
NOISE = re.compile(r"(?:it/s|s/it)\]|HTTP/1\.1\" \d")
LINE_CHARACTERS = 400
Words = Mapping[str, str]


def keep(run: Path, target: Path, words: Words) -> Path:
    """Copy a run's record to the folder `target`, which is made. Raises StoreError for what is no run, OSError."""
    matrix = store.read(run)
    paths = sorted({path for cell in matrix.cells for path in cell.evidence} | _beside(run))
    if outside := [path for path in paths if not (run / path).resolve().is_relative_to(run.resolve())]:
        raise StoreError(f"{run}: evidence lies outside of it: {outside[0]}")
    texts = {name: _short((run / name).read_text(encoding="utf-8"), words) for name in (CELLS, FACTS)}
    texts |= {path: _kept(path, _short((run / path).read_text(encoding="utf-8", errors="replace"), words)) for path in paths}
    for path, text in texts.items():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_text(text, encoding="utf-8")
    return target


def _kept(path: str, text: str) -> str:
    return _document(text) if path.endswith(".json") else excerpt(text) if path.endswith(".log") else text


def excerpt(log: str) -> str:
    """The lines of a log that tell of memory, devices, graphs and failures, cut to a length, after how many there were."""
    lines = log.split("\n")
    kept = [line for line in lines if TELLING.search(line) and not NOISE.search(line)]
    cut = [f"{line[:LINE_CHARACTERS]}…" if len(line) > LINE_CHARACTERS else line for line in kept]
    head = f"# {len(cut)} of {len(lines)} lines: those that tell of memory, devices, graphs and failures"
    return "\n".join([head, *cut, ""])


def _beside(run: Path) -> set[str]:
    """What no cell names: the memory of devices over time, and servers of no cell's own."""
    return {str(file.relative_to(run)) for kind in ("*-device.json", "*.log") for file in (run / "logs").glob(kind)}


def _document(text: str) -> str:
    """A line for each of its keys: samples are long, and nobody reads them one below the other."""
    document: dict[str, Any] | list[Any] = json.loads(text)
    if isinstance(document, list):
        return text
    rows = [f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in document.items()]
    return "{\n" + ",\n".join(rows) + "\n}\n"


def _short(text: str, words: Words) -> str:
    for path, word in sorted(words.items(), key=lambda pair: -len(pair[0])):
        text = text.replace(path, word)
    return text


def _word(text: str) -> tuple[str, str]:
    path, equals, word = text.rpartition("=")
    if not path or not equals or not re.fullmatch(r"[\w./-]*", word):
        raise ValueError(f"--word {text}: write PATH=WORD, a word of letters, digits and . / - _")
    return path, word


def main(arguments: list[str] | None = None) -> int:
    """0, or 1 where the run cannot be kept."""
    parser = argparse.ArgumentParser(prog="python -m reports.keeping", description=__doc__)
    parser.add_argument("run", type=Path, help="a run's folder")
    parser.add_argument("target", type=Path, help="where it is kept")
    parser.add_argument("--word", action="append", default=[], metavar="PATH=WORD", help="what a path is shortened to")
    given = parser.parse_args(arguments)
    try:
        words = dict(_word(text) for text in given.word)
        print(f"kept in {keep(given.run, given.target, words)}")
    except (StoreError, OSError, ValueError) as fault:
        print(fault, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
