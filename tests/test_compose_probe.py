"""The health check: it passes where a token was generated, and nowhere else."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import get_args

import pytest

from fixtures.compose import probe
from fixtures.compose.probe import Tool

TOOLS = get_args(Tool)


@contextlib.contextmanager
def answering(status: int, body: str) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    """A server on loopback that gives this answer to every POST; yields its port and what it was asked."""
    asked: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append((self.path, self.rfile.read(int(self.headers["Content-Length"])).decode()))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port, asked
        finally:
            server.shutdown()
            thread.join()


def passes(tool: Tool, port: int) -> bool:
    """Whether the health check passes, run here as Docker runs it in a container."""
    if shutil.which(tool) is None:
        pytest.skip(f"no {tool} on this machine")
    how, *words = probe.test(tool, port, "tinyllama:1.1b")
    argv = ["/bin/sh", "-c", *words] if how == "CMD-SHELL" else words
    return subprocess.run(argv, timeout=probe.TIMEOUT_S, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize(("status", "body", "healthy"), [
    (200, '{"choices": [{"text": "2"}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}', True),
    (200, '{"usage":{"completion_tokens":1}}', True),
    (200, '{"usage": {"prompt_tokens": 1, "completion_tokens": 0}}', False),
    (200, '{"choices": []}', False),
    (200, "OK", False),
    (200, "", False),
    (500, '{"error": {"message": "CUDA error"}}', False),
    (404, '{"error": {"message": "no such model"}}', False),
    (503, '{"status": "loading model"}', False),
])
def test_it_passes_with_a_token_alone(tool: Tool, status: int, body: str, healthy: bool) -> None:
    """An answer, a port or an empty generation is not enough."""
    with answering(status, body) as (port, _):
        assert passes(tool, port) is healthy


@pytest.mark.parametrize("tool", TOOLS)
def test_it_asks_for_one_token_of_the_model(tool: Tool) -> None:
    """The request is a real one, and a cheap one."""
    with answering(200, '{"usage": {"completion_tokens": 1}}') as (port, asked):
        assert passes(tool, port)
    ((path, body),) = asked
    assert path == "/v1/completions"
    assert json.loads(body) == {"model": "tinyllama:1.1b", "prompt": "1", "max_tokens": 1}


@pytest.mark.parametrize("tool", TOOLS)
def test_it_fails_where_nobody_listens(tool: Tool) -> None:
    """A refused connection is no health."""
    with answering(200, "") as (port, _):
        pass
    assert not passes(tool, port)


@pytest.mark.parametrize("tool", TOOLS)
def test_a_proxy_is_not_asked(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker gives containers the caller's proxy, which knows no loopback of theirs."""
    with answering(200, '{"usage": {"completion_tokens": 1}}') as (port, _):
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        assert passes(tool, port)


def test_it_ends_before_docker_ends_it() -> None:
    """So that what it says is what Docker keeps."""
    for tool in TOOLS:
        assert str(probe.TIMEOUT_S - 5) in " ".join(probe.test(tool, 1, "m"))
