"""A small image registry, which knows one image."""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


class Registry:
    """Serves `engine:v1.0` on 127.0.0.1; `status` other than 200 is its answer to every manifest."""

    def __init__(self, layer: bytes) -> None:
        packed, self.status, self.pulls = gzip.compress(layer, mtime=0), 200, 0
        config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {
            "type": "layers", "diff_ids": [_digest(layer)]}}).encode()
        self.blobs = {_digest(blob): blob for blob in (packed, config)}
        self.manifest = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json", "size": len(config), "digest": _digest(config)},
            "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": len(packed),
                        "digest": _digest(packed)}]}).encode()
        self.digest = _digest(self.manifest)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.name = f"127.0.0.1:{self._server.server_port}/engine"

    def __enter__(self) -> Registry:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def reply(self, path: str) -> tuple[int, str, bytes]:
        """Status, type and body."""
        last = path.rsplit("/", 1)[-1]
        if "/manifests/" in path:
            self.pulls += 1
            known = last in ("v1.0", self.digest)
            status = self.status if self.status != 200 else 200 if known else 404
            code = {401: "UNAUTHORIZED", 403: "DENIED", 404: "MANIFEST_UNKNOWN"}.get(status, "UNKNOWN")
            refusal = json.dumps({"errors": [{"code": code, "message": code.lower().replace("_", " ")}]}).encode()
            return status, MANIFEST if status == 200 else "application/json", self.manifest if status == 200 else refusal
        if "/blobs/" in path:
            return 200, "application/octet-stream", self.blobs[last]
        return 200, "application/json", b"{}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, kind, body = registry.reply(self.path)
                self.send_response(status)
                for name, value in (("content-type", kind), ("content-length", str(len(body))),
                                    ("docker-content-digest", _digest(body)),
                                    ("docker-distribution-api-version", "registry/2.0")):
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
