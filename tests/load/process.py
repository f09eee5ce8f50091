"""A server process under load: started, watched from outside, ended."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"
START_SECONDS = 120
STOP_SECONDS = 60


class Process:
    """`regard serve` on a free port."""

    def __init__(self, log: Path, models: Path, **settings: Any) -> None:
        with socket.socket() as free:
            free.bind((HOST, 0))
            self.port: int = free.getsockname()[1]
        self.log = log
        environment = {f"REGARD_{name.upper()}": str(value) for name, value in settings.items()}
        command = [sys.executable, "-m", "service", "serve"]
        command += ["--models", str(models), "--port", str(self.port)]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env={**os.environ, **environment}, stdout=output, stderr=subprocess.STDOUT
            )
        self._seen = psutil.Process(self._process.pid)

    @property
    def resident(self) -> int:
        """Bytes of main memory."""
        found: int = self._seen.memory_info().rss
        return found

    @property
    def cpu_seconds(self) -> float:
        """User and system time, of all threads."""
        times = self._seen.cpu_times()
        return float(times.user + times.system)

    def get(self, path: str) -> bytes:
        """One answer on a connection of its own; raises HTTPError."""
        with urllib.request.urlopen(f"http://{HOST}:{self.port}{path}", timeout=30) as reply:
            found: bytes = reply.read()
        return found

    def counted(self, model: str) -> int:
        """Inputs that were run for a model, of all its versions, whether anybody got an answer or not."""
        found = json.loads(self.get(f"/v2/models/{model}/stats"))
        return sum(
            batch["batch_size"] * batch["compute_infer"]["count"]
            for version in found["model_stats"]
            for batch in version["batch_stats"]
        )

    def gauge(self, name: str) -> float:
        """A value of /metrics that has no labels."""
        found = re.search(rf"^regard_{name} (\S+)$", self.get("/metrics").decode(), re.MULTILINE)
        assert found, f"/metrics has no regard_{name}"
        return float(found[1])

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self._process.poll() is None, self.log.read_text()
            try:
                self.get("/readyz")
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
            else:
                return
        raise AssertionError(f"not ready after {START_SECONDS} s: {self.log.read_text()}")

    def terminate(self) -> None:
        """SIGTERM, once."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self, timeout: float = STOP_SECONDS) -> int:
        """The exit status."""
        return self._process.wait(timeout)

    def stop(self) -> None:
        """End it, however it stands."""
        if self._process.poll() is None:
            self.terminate()
            try:
                self.wait()
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
                raise AssertionError(f"still there {STOP_SECONDS} s after SIGTERM") from None


@contextmanager
def running(log: Path, models: Path, **settings: Any) -> Iterator[Process]:
    """A server that is ready; ended afterwards."""
    process = Process(log, models, **settings)
    try:
        process.wait_until_ready()
        yield process
    finally:
        process.stop()
