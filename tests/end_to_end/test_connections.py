"""Clients that are slow, over real connections."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import urlsplit

KEEP_ALIVE_SECONDS = 5
SECONDS = 30


@contextmanager
def connected(server: str) -> Iterator[socket.socket]:
    address = urlsplit(server)
    with socket.create_connection((address.hostname, address.port), timeout=SECONDS) as connection:
        yield connection


def drip(server: str) -> float:
    """Seconds until a connection is closed whose headers come a byte at a time and never end."""
    with connected(server) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nx-slow: ")
        started = time.monotonic()
        connection.settimeout(0.25)
        while time.monotonic() < started + SECONDS:
            try:
                connection.sendall(b"a")
                if connection.recv(100) == b"":
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        return time.monotonic() - started


def upload(server: str) -> bytes:
    """What is answered to a body that is refused at once and sent for longer than the keep-alive time."""
    parts = 24
    with connected(server) as connection:
        head = (
            f"POST /v1/models/nothing/predict HTTP/1.1\r\nhost: x\r\ncontent-length: {parts * 1000}\r\n\r\n"
        )
        connection.sendall(head.encode())
        for _ in range(parts):
            connection.sendall(b"a" * 1000)
            time.sleep(1.4 * KEEP_ALIVE_SECONDS / parts)
        return connection.recv(1000)


def test_headers_that_never_end_are_cut_and_slow_bodies_are_answered(server: str) -> None:
    with ThreadPoolExecutor(2) as clients:
        dripping, uploading = clients.submit(drip, server), clients.submit(upload, server)
        assert uploading.result(SECONDS).startswith(b"HTTP/1.1 404 ")
        assert KEEP_ALIVE_SECONDS - 1 < dripping.result(SECONDS) < 2 * KEEP_ALIVE_SECONDS
