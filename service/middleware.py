"""A request's life, from its headers to the end of its answer: identity, trace, time, log and headers."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Callable

from opentelemetry.context import attach, detach
from opentelemetry.trace import Status, StatusCode, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import Problem
from service.logs import request_id, trace_id
from service.metrics import METHODS, Metrics
from service.problems import problem_response
from service.tracing import Tracing

SANE = re.compile(r"[\x21-\x7e]{1,128}")  # an id of a request that may stand in a header and in a log
LONGEST = 200  # characters of a path in a log
LOCKED = "default-src 'none'; frame-ancestors 'none'"
SECURITY = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": LOCKED,
}
DOCS = {"/docs", "/docs/oauth2-redirect"}  # take their scripts from a CDN

logger = logging.getLogger(__name__)
access = logging.getLogger("regard.access")
propagator = TraceContextTextMapPropagator()


class SecurityHeaders:
    """Middleware: what browsers may make of an answer, unless its route says otherwise."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY.items():
                    if not (name == "content-security-policy" and scope["path"] in DOCS):
                        headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, marked)


class RequestLife:
    """Middleware: an id, a span, a duration and a line in the log for every request; answers our own faults.

    While the server is `draining`, answers ask their clients to come back on another connection.
    """

    def __init__(
        self, app: ASGIApp, *, metrics: Metrics, tracing: Tracing, draining: Callable[[], bool]
    ) -> None:
        self.app = app
        self._metrics = metrics
        self._tracing = tracing
        self._draining = draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        life = _Life(scope, receive, send, self._tracing, self._draining)
        tokens = request_id.set(life.id), trace_id.set(life.trace), attach(life.context)
        try:
            await self._answer(life)
        finally:
            self._record(life)
            request_id.reset(tokens[0])
            trace_id.reset(tokens[1])
            detach(tokens[2])

    async def _answer(self, life: _Life) -> None:
        try:
            await self.app(life.scope, life.receive, life.send)
        except Exception:
            logger.exception("the server failed on a request")
            if life.status:  # too late for another answer: the connection is cut
                raise
            problem = Problem("the server failed on this request; its log says why")
            await problem_response(problem, life.scope["path"])(life.scope, life.receive, life.send)

    def _record(self, life: _Life) -> None:
        seconds = time.perf_counter() - life.started
        self._metrics.request(life.method, life.route, life.status, seconds)
        life.end_span()
        if access.isEnabledFor(logging.INFO):
            path = life.path[:LONGEST]
            fields = {
                "method": life.method,
                "path": path,
                "route": life.route,
                "status": life.status,
                "milliseconds": round(1000 * seconds, 3),
                "address": (life.scope.get("client") or ("",))[0],
                "client": life.scope.get("state", {}).get("client"),
            }
            line = "%s %s %d %.1f ms"
            access.info(line, life.method, path, life.status, 1000 * seconds, extra=fields)


class _Life:
    """One request: what is known of it from the start, and what its answer turned out to be."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, tracing: Tracing, draining: Callable[[], bool]
    ) -> None:
        headers = Headers(scope=scope)
        self.scope = scope
        self.started = time.perf_counter()
        self.status = 0  # until an answer has begun
        self.method = scope["method"] if scope["method"] in METHODS else "_OTHER"
        self.path = scope.get("raw_path", b"").decode("ascii", "backslashreplace")
        given = headers.get("x-request-id", "")
        self.id = given if SANE.fullmatch(given) else uuid.uuid4().hex
        self.context = propagator.extract(headers)
        self.span = tracing.server_span(self.method, time.time_ns(), self.context)
        if tracing.enabled:
            self.context = set_span_in_context(self.span, self.context)
        found = get_current_span(self.context).get_span_context()
        self.trace = f"{found.trace_id:032x}" if found.is_valid else ""
        self._receive = receive
        self._send = send
        self._draining = draining
        # A connection is not closed under a body that still comes: the answer would be lost with it.
        self._body_read = not ("content-length" in headers or "transfer-encoding" in headers)

    @property
    def route(self) -> str:
        """The template of the path, empty where no route matches."""
        found: str = getattr(self.scope.get("route"), "path", "")
        return found

    async def receive(self) -> Message:
        message = await self._receive()
        self._body_read = self._body_read or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self.id
            headers["x-total-time"] = f"{1000 * (time.perf_counter() - self.started):.3f}"
            propagator.inject(headers, self.context)
            if self._body_read and self._draining():
                headers["connection"] = "close"
        await self._send(message)

    def end_span(self) -> None:
        if not self.span.is_recording():
            return
        self.span.update_name(f"{self.method} {self.route}".rstrip())
        self.span.set_attributes(
            {
                "http.request.method": self.method,
                "http.route": self.route,
                "http.response.status_code": self.status,
                "url.path": self.path,
                "url.scheme": self.scope.get("scheme", "http"),
                "regard.request_id": self.id,
            }
        )
        if self.status >= 500 or not self.status:
            self.span.set_status(Status(StatusCode.ERROR))
        self.span.end()
