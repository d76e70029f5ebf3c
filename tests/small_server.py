"""A small server in the place of an engine's: streams words, dies when told, and breaks one thing if asked to.

Run as a program: `small_server.py PORT FAULT MODEL…`. With a `shared` first model it loads and unloads the others, each in
a child process.
"""

import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN_S = 0.0005
CAPACITY = 8192
RUNNERS: dict[str, subprocess.Popen[bytes]] = {}
FAULT = ""
MODELS: list[str] = []


class Handler(BaseHTTPRequestHandler):
    """One request a connection, as the client asks for."""

    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """The models with the process that holds each."""
        listed = [{"id": name, "owned_by": "small", "pid": RUNNERS[name].pid if name in RUNNERS else None,
                   "capacity": CAPACITY} for name in MODELS]
        self._json(200, {"data": listed, "version": "1.0"})

    def do_POST(self) -> None:
        """Generate, load, unload, or die."""
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
        name = body.get("model", "")
        if self.path == "/die":
            os._exit(body["code"])
        if name not in MODELS:
            self._json(404, {"error": {"message": f"no model {name}"}})
        elif self.path == "/unload":
            runner = RUNNERS.pop(name, None)
            if runner:
                runner.kill()
                runner.wait()
            self._json(200, {})
        else:
            _load(name)
            self._stream(name, body.get("max_tokens", 16))

    def _stream(self, name: str, tokens: int) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        while FAULT == "never-speaks":
            self.wfile.write(b": still here\n\n")
            time.sleep(0.05)
        for number in range(tokens):
            time.sleep(TOKEN_S)
            self._event(name, {"content": f" {name}{number}"}, None)
        self._event(name, {}, "length")
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, name: str, delta: dict[str, str], finish: str | None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        self.wfile.write(b"data: " + json.dumps({"model": name, "choices": [choice]}).encode() + b"\n\n")

    def _json(self, status: int, body: dict[str, Any]) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())


def _load(name: str) -> None:
    shared = "shared" in MODELS
    if shared and (name not in RUNNERS or RUNNERS[name].poll() is not None):
        RUNNERS[name] = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE)  # it ends with this process


def main() -> None:
    """Start, or fail to."""
    global FAULT
    port, FAULT = int(sys.argv[1]), sys.argv[2]
    MODELS.extend(sys.argv[3:])
    if FAULT == "exit-0":
        print("ready", flush=True)
        sys.exit(0)
    if FAULT == "never-listens":
        time.sleep(600)
    if FAULT == "leaves-a-child":
        subprocess.Popen(["/bin/sleep", "600"], start_new_session=True)
    if FAULT == "child-ends-late":  # this process keeps the pipe, by its end the child learns of its own
        RUNNERS["late"] = subprocess.Popen(["/bin/sh", "-c", "cat; sleep 0.3"], stdin=subprocess.PIPE)
    signal.signal(signal.SIGTERM, signal.SIG_IGN if FAULT == "ignores-sigterm" else lambda number, frame: os._exit(0))
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    server.serve_forever(poll_interval=0.02)


if __name__ == "__main__":
    main()
