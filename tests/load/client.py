"""A load client that costs little beside the server: whole HTTP/1.1 requests, one reply read for each."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
HEADER = rb"\r\n%s: *([^\r]*)"
ASK_SECONDS = 90  # longer than the server's own limit


class Lost(ConnectionError):
    """The connection ended before the reply was complete."""


@dataclass(frozen=True)
class Reply:
    """What came back, and after how many seconds."""

    status: int
    head: bytes
    body: bytes
    seconds: float

    def header(self, name: bytes) -> bytes | None:
        found = re.search(HEADER % re.escape(name), self.head, re.IGNORECASE)
        return found[1] if found else None


def request(path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
    """A POST as it goes over the wire."""
    lines = [f"POST {path} HTTP/1.1", "host: load", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Connection(asyncio.Protocol):
    """One kept-alive connection with one request under way at most."""

    def __init__(self) -> None:
        self._transport: Any = None
        self._received = bytearray()
        self._whole = 0  # bytes of head and body together, once the head has come
        self._head = 0
        self._waiting: asyncio.Future[None] | None = None
        self._ended = False
        self._last = False  # the server said that this was the last reply

    @classmethod
    async def open(cls, port: int) -> Connection:
        """Raises OSError where the server takes none."""
        _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return connection

    @property
    def usable(self) -> bool:
        """Whether another request may be sent."""
        return not (self._ended or self._last)

    @property
    def unasked(self) -> bytes:
        """What the server sent beyond the replies."""
        return bytes(self._received)

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._whole and (end := self._received.find(b"\r\n\r\n")) >= 0:
            length = LENGTH.search(self._received, 0, end)
            self._head, self._whole = end, end + 4 + (int(length[1]) if length else 0)
        if self._whole and len(self._received) >= self._whole and self._waiting and not self._waiting.done():
            self._waiting.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._ended = True
        if self._waiting and not self._waiting.done():
            self._waiting.set_exception(Lost(f"{error or 'closed'} after {len(self._received)} bytes"))

    def send(self, sent: bytes) -> None:
        """Send without waiting for the reply; for clients that leave."""
        self._transport.write(sent)

    async def ask(self, sent: bytes) -> Reply:
        """Send a request and wait for the whole reply; raises Lost and TimeoutError."""
        if self._ended:
            raise Lost("closed before the request was sent")
        self._waiting = asyncio.get_running_loop().create_future()
        started = time.perf_counter()
        self._transport.write(sent)
        async with asyncio.timeout(ASK_SECONDS):
            await self._waiting
        seconds = time.perf_counter() - started
        self._waiting = None
        head, body = bytes(self._received[: self._head]), bytes(self._received[self._head + 4 : self._whole])
        del self._received[: self._whole]
        self._head = self._whole = 0
        reply = Reply(int(head[9:12]), head, body, seconds)
        self._last = reply.header(b"connection") == b"close"
        return reply

    def reset(self) -> None:
        """Leave at once, whatever is under way."""
        self._transport.abort()

    def close(self) -> None:
        """Leave in good order, whatever is under way."""
        self._transport.close()
