"""A small server whose answers tell it from others of its kind: one process takes requests, another makes the words.

Run as a program: `gateway_server.py PORT WORDS PACE_S MODEL [HOST]`. It answers to any model's name and repeats it, as some
engines do; `WORDS` is a seed for its words, `PACE_S` the seconds between two of them.
"""

import hashlib
import json
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SEED, PACE_S, MODEL = "", 0.0, ""
LOCK = threading.Lock()
# Gives back each line that it is given: as long as it runs, words come.
ECHO = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"
WORKER = subprocess.Popen([sys.executable, "-S", "-u", "-c", ECHO], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                          bufsize=1)


def word(prompt: str, number: int) -> str:
    """One word, by way of the process that makes them."""
    made = hashlib.sha256(f"{SEED} {prompt} {number}".encode()).hexdigest()[:8]
    assert WORKER.stdin is not None
    assert WORKER.stdout is not None
    with LOCK:
        WORKER.stdin.write(made + "\n")
        return " " + WORKER.stdout.readline().strip()


class Handler(BaseHTTPRequestHandler):
    """HTTP/1.1, one answer a connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """The model, or that the process is there."""
        listed = {"data": [{"id": MODEL, "owned_by": "small", "capacity": 8192}], "version": "1.0"}
        self._json(200, {"status": "ok"} if self.path == "/health" else listed)

    def do_POST(self) -> None:
        """Generate."""
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
        prompt = body["messages"][-1]["content"]
        tokens = body.get("max_tokens", 16)
        if body.get("stream"):
            self._stream(body["model"], prompt, tokens)
            return
        text = "".join(word(prompt, number) for number in range(tokens))
        usage = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1}
        self._json(200, {"model": body["model"], "usage": usage, "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "length"}]})

    def _stream(self, name: str, prompt: str, tokens: int) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        if self.request_version != "HTTP/1.0":
            self.send_header("transfer-encoding", "chunked")
        self.send_header("connection", "close")
        self.end_headers()
        for number in range(tokens):
            time.sleep(PACE_S)
            self._event(name, {"content": word(prompt, number)}, None)
        self._event(name, {}, "length")
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")
        self.close_connection = True

    def _event(self, name: str, delta: dict[str, str], finish: str | None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        self._chunk(b"data: " + json.dumps({"model": name, "choices": [choice]}).encode() + b"\n\n")

    def _chunk(self, data: bytes) -> None:
        framed = self.request_version != "HTTP/1.0"
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n" if framed else data)

    def _json(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.send_header("content-type", "application/json")
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(content)


def main() -> None:
    """Serve until the end."""
    global SEED, PACE_S, MODEL
    SEED, PACE_S, MODEL = sys.argv[2], float(sys.argv[3]), sys.argv[4]
    host = sys.argv[5] if len(sys.argv) > 5 else "127.0.0.1"
    server = ThreadingHTTPServer((host, int(sys.argv[1])), Handler)
    server.daemon_threads = True
    server.serve_forever(poll_interval=0.02)


if __name__ == "__main__":
    main()
