"""The scrub: secrets leave the logs of engines, which print their arguments and environment, before anybody is sent them."""

from __future__ import annotations

import os
from pathlib import Path

from reports.redact import hide_keys, redact


def logs(folder: Path) -> list[Path]:
    """Redact every log below the folder in place, once nobody writes it any more; returns those that were changed."""
    return [path for path in sorted(folder.rglob("*.log")) if path.is_file() and not path.is_symlink() and _scrubbed(path)]


def _scrubbed(path: Path) -> bool:
    """Whether something had to go. What is no UTF-8 stays byte for byte as it is."""
    before = path.read_bytes().decode("utf-8", "surrogateescape")
    after = _redacted(before)
    if after == before:
        return False
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_bytes(after.encode("utf-8", "surrogateescape"))
    fresh.replace(path)
    return True


def _redacted(text: str) -> str:
    """Line by line, so that one broken line takes no other with it; only private keys run over many."""
    return "".join(redact(line) for line in hide_keys(text).splitlines(keepends=True))
