"""Logs are an artefact: what engines print of keys and home folders does not leave the machine with them."""

from __future__ import annotations

import time
from pathlib import Path

from reports import scrub

TOKEN = "hf_" + "Zx9" * 9


def test_secrets_go_and_everything_else_stays(tmp_path: Path) -> None:
    """Only the lines with a secret change, byte for byte, also in a log that is no UTF-8; the lines keep their numbers."""
    log = tmp_path / "01-vllm-a.log"
    before = (b"INFO non-default args: {'api_key': 'abcdef123456', 'max_tokens': 16}\r\n\xff\xfe\x00 KV cache 1024 tokens\n"
              + f"loading /home/ann/models/x\nHF_TOKEN={TOKEN}\nlast line without an end".encode())
    log.write_bytes(before)
    assert scrub.logs(tmp_path) == [log]
    after = log.read_bytes()
    assert b"abcdef123456" not in after
    assert TOKEN.encode() not in after
    assert b"/home/ann" not in after
    lines = after.split(b"\n")
    assert len(lines) == len(before.split(b"\n"))
    assert lines[1] == b"\xff\xfe\x00 KV cache 1024 tokens"
    assert lines[-1] == b"last line without an end"
    assert b"'max_tokens': 16" in lines[0]


def test_a_log_without_secrets_is_not_written(tmp_path: Path) -> None:
    """Nor what is no log, nor what a link leads to."""
    log, other, link = tmp_path / "a.log", tmp_path / "cells.txt", tmp_path / "b.log"
    log.write_text("ready\n")
    other.write_text(f"token={TOKEN}\n")
    link.symlink_to(other)
    before = log.stat().st_ino
    assert scrub.logs(tmp_path) == []
    assert log.stat().st_ino == before
    assert TOKEN in other.read_text()


def test_a_key_over_many_lines(tmp_path: Path) -> None:
    """A private key goes whole."""
    log = tmp_path / "a.log"
    body = "\n".join("QUJD" * 16 for _ in range(20))
    log.write_text(f"before\n-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----\nafter\n")
    scrub.logs(tmp_path)
    assert log.read_text() == "before\n***\nafter\n"


def test_a_large_log_takes_seconds(tmp_path: Path) -> None:
    """8 MB of usual lines, and one line of 2 MB."""
    log = tmp_path / "a.log"
    log.write_text("INFO 11-21 17:00:01 engine.py:310] Avg prompt throughput: 1.0 tokens/s, Running: 1 reqs\n" * 90_000
                   + "x" * 2_000_000 + f"\nHF_TOKEN={TOKEN}\n")
    began = time.process_time()
    scrub.logs(tmp_path)
    assert time.process_time() - began < 15
    assert TOKEN not in log.read_text()
