"""What the tests of monitoring share: lineups that are watched, the programs that judge the files, and a stand-in for
servers that says what real ones said."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fixtures import lineup
from fixtures.monitoring import alerts, dashboard, dcgm
from fixtures.monitoring.watched import Watched

# Every engine with metrics, with and without limits, with and without a GPU.
WATCHED = (("mixed", "mixed", "h200"), ("shapes", "sglang", "rtx5090"), ("study-balanced", "vllm", "rtx5090"),
           ("trilingual", "llamacpp", "cpu"), ("trilingual", "vllm", "cpu"), ("shapes", "vllm", "gb10"))
RATE_INTERVAL = "$__rate_interval"  # Grafana's own, not PromQL


def watched(name: str, engine: str, profile: str, **options: Any) -> Watched:
    """A committed lineup, or the tests' own of this name."""
    own = Path(__file__).parent / "lineups" / f"{name}.toml"
    return Watched.of(lineup.load(str(own) if own.exists() else name), engine, profile, **options)


def expressions(shown: Watched, *, interval: str = "1m") -> list[str]:
    """Every expression of its dashboard and its rules."""
    panels = [target["expr"].replace(RATE_INTERVAL, interval) for panel in dashboard.of(shown)["panels"]
              for target in panel.get("targets", ())]
    return [*panels, *(rule["expr"] for rule in rules(shown))]


def rules(shown: Watched) -> list[dict[str, Any]]:
    """All rules of its groups."""
    return [rule for group in alerts.of(shown)["groups"] for rule in group["rules"]]


def program(name: str, package: str) -> str:
    """Where a program is. Skips the test where it is missing, and fails it where nothing may be skipped."""
    if found := shutil.which(name):
        return found
    reason = f"{name} is not here: install {package}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def promtool(*words: str | Path, cwd: Path | None = None) -> str:
    """Ask promtool; returns what it printed, and fails the test where it is not content."""
    done = subprocess.run([program("promtool", "prometheus"), *map(str, words)], cwd=cwd, capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def with_value(scrape: str, name: str, value: float) -> str:
    """An exposition in which every series of a metric has another value."""
    changed, times = re.subn(rf"^({re.escape(name)}(?:{{.*}})?) \S+$", rf"\1 {value}", scrape, flags=re.MULTILINE)
    assert times, f"no series {name}"
    return changed


def with_observations(scrape: str, histogram: str, times: int, seconds: float) -> str:
    """An exposition after some more observations of a histogram."""
    def counted(line: re.Match[str]) -> str:
        bound = re.search(r'le="([^"]+)"', line[1])
        inside = bound is None or float(bound[1]) >= seconds
        return f"{line[1]} {float(line[2]) + (times if inside else 0)}"

    series = rf"^({re.escape(histogram)}_(?:bucket|count)(?:{{.*}})?) (\S+)$"
    changed, found = re.subn(series, counted, scrape, flags=re.MULTILINE)
    assert found, f"no histogram {histogram}"
    return changed


def idle_gpu(gpu: str = "0", used_mib: float = 1000.0, free_mib: float = 142_000.0) -> str:
    """What dcgm-exporter would say by its documentation: made up, for none was seen here."""
    values = {dcgm.USED: used_mib, dcgm.FREE: free_mib, dcgm.POWER: 80.0, dcgm.TEMPERATURE: 35.0, dcgm.BUSY: 0.0}
    labels = f'gpu="{gpu}",UUID="GPU-0",device="nvidia{gpu}",modelName="NVIDIA H200",Hostname="host"'
    own = {dcgm.XIDS: ',xid="31"', dcgm.CLOCK_EVENTS: ',clock_event="hw_thermal"'}
    return "".join(f"# TYPE {name} gauge\n{name}{{{labels}{own.get(name, '')}}} {values.get(name, 0.0)}\n"
                   for name in dcgm.COUNTERS)


class Replay:
    """Serves `text` as /metrics on a port of its own. Change it, and the next scrape has the change; with a `status` of 0
    it hangs up without an answer."""

    def __init__(self, text: str) -> None:
        self.text, self.status = text, 200
        replay = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = replay.text.encode()
                if not replay.status:
                    return
                self.send_response(replay.status)
                self.send_header("content-type", "text/plain; version=0.0.4; charset=utf-8")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Not a word."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def replaying(text: str) -> Iterator[Replay]:
    """A server for as long as the block runs."""
    replay = Replay(text)
    try:
        yield replay
    finally:
        replay.close()
