"""A server that is told to end: what it accepted is answered, and it ends in time whatever happens."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.settings import DEMO

ROOT = Path(__file__).parents[2]
DEADLINE = 30.0
PREDICT = "/v1/models/code-language/predict"
JSON = {"content-type": "application/json"}
# The server, in which every run takes so many seconds longer. A thread that sleeps is as deaf as native code.
SCRIPT = """
import sys, time
from service.__main__ import app
from service.predictor import Predictor
from service.server import Server

run, serve, seconds = Predictor.run, Server.run, float(sys.argv.pop(1))

def slowly(self, jobs):
    time.sleep(seconds)
    return run(self, jobs)

def serve_slowly(self):
    Predictor.run = slowly
    serve(self)

Server.run = serve_slowly
app(sys.argv[1:])
"""

Start = Callable[..., "Running"]


class Running:
    """A server process, ready, and what it logs."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log
        self.port = self._port()

    def _port(self) -> int:
        until(lambda: "running on" in self.text or self.process.poll() is not None)
        found = re.search(r"running on http://127\.0\.0\.1:(\d+)", self.text)
        assert found, self.text
        return int(found[1])

    @property
    def text(self) -> str:
        return self.log.read_text()

    def connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        connection.connect()
        return connection

    def status(self, path: str) -> int:
        with contextlib.closing(self.connect()) as connection:
            connection.request("GET", path)
            return connection.getresponse().status

    def ended(self) -> int:
        """Its exit code, once it has one."""
        return self.process.wait(DEADLINE)


def until(holds: Callable[[], Any]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)


def ask(connection: http.client.HTTPConnection, text: str) -> http.client.HTTPResponse:
    """An answer, read in full."""
    connection.request("POST", PREDICT, json.dumps({"text": text}), JSON)
    response = connection.getresponse()
    body = json.loads(response.read())
    assert response.status == 200, body
    assert body["model"] == "code-language"
    return response


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest of the built-in models alone."""
    root = tmp_path_factory.mktemp("models")
    (root / "code-language").symlink_to(DEMO / "code-language")
    return root


@pytest.fixture
def start(repository: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts a server with these settings."""
    with contextlib.ExitStack() as stack:

        def run(run_seconds: float = 0, **settings: float) -> Running:
            log = tmp_path / "log"
            environment = {f"REGARD_{name.upper()}": str(value) for name, value in settings.items()}
            output = stack.enter_context(log.open("wb"))
            command = ["serve", "--models", str(repository), "--port", "0", "--device", "cpu"]
            process = subprocess.Popen(
                [sys.executable, "-c", SCRIPT, str(run_seconds), *command],
                cwd=ROOT,
                env=os.environ | environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return Running(process, log)

        yield run


class Caller(threading.Thread):
    """Asks until nobody answers the door; a request that is not answered once it is in, is lost."""

    def __init__(self, server: Running, *, fresh: bool, pause: float = 0.0) -> None:
        super().__init__(daemon=True)
        self.server = server
        self.fresh = fresh
        self.pause = pause
        self.answered = 0
        self.lost: list[str] = []

    def run(self) -> None:
        deadline = time.monotonic() + DEADLINE
        connection = None
        while time.monotonic() < deadline:
            if connection is None:
                try:
                    connection = self.server.connect()
                except ConnectionError:
                    return
            try:
                response = ask(connection, f"fn main() {{ {self.answered} }}")
            except Exception as error:
                self.lost.append(repr(error))
                return
            self.answered += 1
            if self.fresh or response.getheader("connection") == "close":
                connection.close()
                connection = None
            time.sleep(self.pause)


@pytest.mark.parametrize(
    ("number", "drain_seconds"), [(signal.SIGTERM, 0), (signal.SIGTERM, 0.5), (signal.SIGINT, 0)]
)
def test_nothing_that_was_let_in_is_lost(start: Start, number: int, drain_seconds: float) -> None:
    server = start(drain_seconds=drain_seconds)
    callers = [Caller(server, fresh=True, pause=index / 500) for index in range(4)]
    callers += [Caller(server, fresh=False, pause=index / 50) for index in range(6)]
    for caller in callers:
        caller.start()
    until(lambda: all(caller.answered > 5 for caller in callers))
    before = sum(caller.answered for caller in callers)
    server.process.send_signal(number)
    assert server.ended() == 0, server.text
    for caller in callers:
        caller.join(DEADLINE)
    assert [caller.lost for caller in callers if caller.lost] == []
    assert sum(caller.answered for caller in callers) > before
    assert "Finished server process" in server.text


def test_while_it_drains_all_is_served_but_it_is_not_ready(start: Start) -> None:
    server = start(drain_seconds=2)
    with contextlib.closing(server.connect()) as connection:
        assert ask(connection, "a").getheader("connection") is None
        server.process.send_signal(signal.SIGTERM)
        until(lambda: "draining" in server.text)
        assert ask(connection, "b").getheader("connection") == "close"
    statuses = {path: server.status(path) for path in ("/readyz", "/v2/health/ready", "/healthz")}
    assert statuses == {"/readyz": 503, "/v2/health/ready": 503, "/healthz": 200}
    assert server.ended() == 0


def test_a_request_whose_body_is_on_its_way_and_one_that_runs_are_answered(start: Start) -> None:
    server = start(run_seconds=0.5)
    body = b'{"text": "a"}'
    with contextlib.closing(server.connect()) as running, contextlib.closing(server.connect()) as arriving:
        running.request("POST", PREDICT, body, JSON)
        arriving.putrequest("POST", PREDICT)
        for name, value in {**JSON, "content-length": str(len(body))}.items():
            arriving.putheader(name, value)
        arriving.endheaders(body[:5])
        server.process.send_signal(signal.SIGTERM)
        until(lambda: "closing" in server.text)
        arriving.send(body[5:])
        assert [one.getresponse().status for one in (running, arriving)] == [200, 200]
    assert server.ended() == 0


def test_a_client_that_hangs_does_not_hold_it_longer_than_the_grace(start: Start) -> None:
    server = start(grace_seconds=2)
    with contextlib.closing(server.connect()) as connection:
        connection.putrequest("POST", PREDICT)
        connection.putheader("content-length", "10")
        connection.endheaders(b"{")
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.ended() == 0
    assert time.monotonic() - began < 6
    assert "1 connections did not end" in server.text


def test_a_run_that_hangs_does_not_hold_it_longer_than_the_grace(start: Start) -> None:
    server = start(run_seconds=600, grace_seconds=2)
    with contextlib.closing(server.connect()) as connection:
        connection.request("POST", PREDICT, '{"text": "a"}', JSON)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.ended() == 1
    assert time.monotonic() - began < 6
    assert "not everything ended in time" in server.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(start: Start, number: int) -> None:
    server = start(drain_seconds=60)
    server.process.send_signal(signal.SIGTERM)
    until(lambda: "draining" in server.text)
    began = time.monotonic()
    server.process.send_signal(number)
    assert server.ended() == 128 + number
    assert time.monotonic() - began < 6


def test_connections_that_never_make_a_request_are_closed(start: Start) -> None:
    server = start()
    with contextlib.ExitStack() as stack:
        address = ("127.0.0.1", server.port)
        silent, halting, endless = (
            stack.enter_context(socket.create_connection(address, timeout=DEADLINE)) for _ in range(3)
        )
        halting.sendall(b"POST / HTTP/1.1\r\nhost:")
        with contextlib.suppress(ConnectionError):  # of what it does not read
            endless.sendall(b"GET / HTTP/1.1\r\n" + b"x-filler: 1\r\n" * 10_000)
            assert endless.recv(100).startswith((b"HTTP/1.1 400", b""))
        assert (silent.recv(1), halting.recv(1)) == (b"", b"")
