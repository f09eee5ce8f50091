"""The HTTP server: how it begins, and how it ends without losing what it accepted."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import HANDLED_SIGNALS

from service.settings import Settings

HEAD_BYTES = 64 * 1024  # of one request's line and headers
CLOSING_SECONDS = 1.0  # of the grace, to cut what did not end and to send the last spans
POLL_SECONDS = 0.02
READ_SECONDS = 0.05  # in which the event loop reads what waits on a connection
UNFINISHED = 1  # exit code where something accepted was not answered

logger = logging.getLogger(__name__)


class Connection(HttpToolsProtocol):
    """One client's connection, closed when nothing is under way on it for the keep-alive time.

    That holds from its first moment on: for one that sends nothing, too, and one whose headers do not end in
    that time, however often another byte of them comes. An answer that is not read is given up in the end.
    """

    unread_seconds = 60.0
    _head = 0
    _in_head = False
    _begun = 0.0  # when the connection was made, or the headers began that still come
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begun = self.loop.time()
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head:
            self._head += len(data)
            if self._head > HEAD_BYTES:
                self.send_400_response("The request's headers are too long.")
        if self.cycle is None or self.cycle.response_complete:
            self._wait()

    def on_message_begin(self) -> None:
        self._head, self._in_head = 0, True
        self._begun = self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def pause_writing(self) -> None:
        """The client does not read what it was sent: it has so long to go on."""
        super().pause_writing()
        self._unread = self.loop.call_later(self.unread_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Close, but read first what has come meanwhile: where the loop is late, timers come before data."""
        self.timeout_keep_alive_task = self.loop.call_later(READ_SECONDS, super().timeout_keep_alive_handler)

    def _wait(self) -> None:
        """Headers have their time from their beginning; what is left of a body that was refused, from now."""
        since = self._begun if self.cycle is None or self._in_head else self.loop.time()
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_at(
            since + self.timeout_keep_alive, self.timeout_keep_alive_handler
        )


class Server(uvicorn.Server):
    """Ends in steps on SIGTERM or SIGINT, so that no client sees a connection break under a request.

    1. Draining, `drain_seconds`: everything is served, readiness is off, answers close their connections.
    2. Closing, at most `grace_seconds`: nobody else is let in, accepted requests are answered. Connections on
       which nothing is under way are closed by the keep-alive time, as ever, and never sooner: a request may
       be on its way.
    3. The end, whatever a run does in native code.

    A second signal ends the process at once.
    """

    def __init__(self, app: FastAPI, settings: Settings, *, on_drain: Callable[[], None]) -> None:
        config = uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            http=Connection,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
        )
        super().__init__(config)
        self._settings = settings
        self._on_drain = on_drain
        self._signalled = threading.Event()
        self._drained_at = 0.0  # on the monotonic clock

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are ours until the end; unlike uvicorn's, a process that ended well says so by its code."""
        threading.Thread(target=self._watch, name="end", daemon=True).start()
        before = {number: signal.signal(number, self.handle_exit) for number in HANDLED_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Between two instructions of anything: no logging here, whose locks may be held.
        if self._signalled.is_set():
            os._exit(128 + sig)
        self._drained_at = time.monotonic() + self._settings.drain_seconds
        self._on_drain()
        self._signalled.set()

    def _watch(self) -> None:
        """In a thread of its own: end the process when its time is over, should the event loop not."""
        self._signalled.wait()
        logger.info("draining for %g s; a second signal ends at once", self._settings.drain_seconds)
        time.sleep(self._settings.drain_seconds + self._settings.grace_seconds)
        logger.error("not everything ended in time; the process is stopped")
        logging.shutdown()
        os._exit(UNFINISHED)

    async def on_tick(self, counter: int) -> bool:
        if self._signalled.is_set() and time.monotonic() >= self._drained_at:
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        state = self.server_state
        await self._close_listeners()
        logger.info("closing: %d connections, %d requests", len(state.connections), len(state.tasks))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0, self._settings.grace_seconds - CLOSING_SECONDS)):
                while state.connections or state.tasks:
                    await asyncio.sleep(POLL_SECONDS)
        if state.connections:
            logger.warning("%d connections did not end and are cut", len(state.connections))
            for connection in list(state.connections):
                connection.transport.abort()
        await self.lifespan.shutdown()

    async def _close_listeners(self) -> None:
        """Let nobody else in, but everybody whose connection the kernel has made already."""
        loop = asyncio.get_running_loop()
        serve = functools.partial(
            Connection, config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        for server in self.servers:
            # A listening socket lives until its last descriptor is closed: here after the last accept.
            spares = [socket.socket(fileno=os.dup(one.fileno())) for one in server.sockets]
            server.close()
            for accepted in [one for spare in spares for one in _accept_all(spare)]:
                await loop.connect_accepted_socket(serve, accepted)


def _accept_all(listening: socket.socket) -> list[socket.socket]:
    """Every connection that waits, and then none any more."""
    accepted = []
    with listening:
        listening.setblocking(False)
        while True:
            try:
                accepted.append(listening.accept()[0])
            except BlockingIOError:
                return accepted
