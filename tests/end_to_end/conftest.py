"""A real server process on a free port, asked over real HTTP."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import onnxruntime
import pytest

from service.settings import DEMO

ROOT = Path(__file__).parents[2]
DEVICE = os.environ.get("REGARD_DEVICE", "cpu")
START_SECONDS = 60

Serve = Callable[[Path, Path], AbstractContextManager[str]]


@contextmanager
def running(models: Path, log: Path) -> Iterator[str]:
    """`regard serve` on these models, ready; yields its address and ends it with SIGTERM."""
    command = [sys.executable, "-m", "service", "serve", "--models", str(models), "--port", "0"]
    command += ["--device", DEVICE]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield _ready(process, log)
        finally:
            process.terminate()
            process.wait(30)
            assert "Finished server process" in log.read_text()


def _ready(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        if found := re.search(r"running on (http://127\.0\.0\.1:\d+)", log.read_text()):
            assert httpx.get(f"{found[1]}/readyz").status_code == 200
            return found[1]
        time.sleep(0.1)
    raise AssertionError(f"not ready after {START_SECONDS} s: {log.read_text()}")


@pytest.fixture(scope="session", autouse=True)
def device() -> None:
    """Skip everything where the device asked for is not at hand."""
    if DEVICE == "cpu":
        return
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has no CUDA provider")
    if not Path("/dev/nvidiactl").exists():
        pytest.skip("no CUDA device is at hand")


@pytest.fixture(scope="session")
def serve() -> Serve:
    """Starts a server on a model repository, logging into a file."""
    return running


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The built-in models."""
    with running(DEMO, tmp_path_factory.mktemp("server") / "log") as address:
        yield address


@pytest.fixture(scope="session")
def client(server: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server, timeout=60) as client:
        yield client
