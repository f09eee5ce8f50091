"""A request has an id, a trace, a duration, one line in the log and safe headers, whatever becomes of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse
from fastapi.testclient import TestClient

from service import logs
from service.errors import Overloaded, Unauthorized
from service.metrics import Metrics
from service.middleware import RequestLife, SecurityHeaders
from service.problems import add_handlers
from service.tracing import Tracing

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


class Server:
    """An application that does what middleware has to bear with."""

    def __init__(self) -> None:
        self.draining = False
        self.metrics = Metrics()
        self.seen: list[tuple[str, str]] = []
        self.app = FastAPI()
        self.app.get("/ok/{name}")(self.ok)
        self.app.post("/body")(self.body)
        self.app.post("/unread")(self.ok)
        self.app.get("/{version}/fault")(self.fault)
        self.app.get("/cut")(self.cut)
        self.app.get("/{version}/full")(self.full)
        self.app.get("/{version}/closed")(self.closed)
        self.app.get("/page")(self.page)
        add_handlers(self.app)
        self.app.add_middleware(
            RequestLife, metrics=self.metrics, tracing=Tracing(), draining=lambda: self.draining
        )
        self.app.add_middleware(SecurityHeaders)

    async def ok(self) -> Response:
        self.seen.append((logs.request_id.get(), logs.trace_id.get()))
        return Response("ok")

    async def body(self, request: Request) -> Response:
        return Response(await request.body())

    async def fault(self) -> Response:
        raise RuntimeError("secret of ours")

    async def cut(self) -> Response:
        def pieces() -> Iterator[bytes]:
            yield b"begun"
            raise RuntimeError("too late")

        return StreamingResponse(pieces())

    async def full(self) -> Response:
        raise Overloaded("the queue is full", retry_after=2.2)

    async def closed(self) -> Response:
        raise Unauthorized("who are you?")

    async def page(self) -> Response:
        return Response("<p>", headers={"content-security-policy": "sandbox"})


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def client(server: Server) -> TestClient:
    return TestClient(server.app)


def durations(metrics: Metrics) -> dict[tuple[str, str, str], float]:
    return {
        (
            sample.labels["http_request_method"],
            sample.labels["http_route"],
            sample.labels["http_response_status_code"],
        ): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "http_server_request_duration_seconds_count"
    }


@pytest.mark.parametrize("given", ["abc", "A-1_2.3:/+=@", "x" * 128])
def test_a_sound_id_is_kept(client: TestClient, server: Server, given: str) -> None:
    assert client.get("/ok/a", headers={"x-request-id": given}).headers["x-request-id"] == given
    assert server.seen == [(given, "")]
    assert logs.request_id.get() == ""


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "a\tb", "é", "a\x7f"])
def test_any_other_is_replaced_by_one_that_is_new(client: TestClient, given: str) -> None:
    answers = [client.get("/ok/a", headers={"x-request-id": given.encode("latin-1")}) for _ in range(2)]
    first, second = (answer.headers["x-request-id"] for answer in answers)
    assert len(first) == len(second) == 32
    assert given not in (first, second)
    assert first != second


def test_a_trace_is_taken_over(client: TestClient, server: Server) -> None:
    answer = client.get("/ok/a", headers={"traceparent": PARENT})
    assert answer.headers["traceparent"] == PARENT  # no span of ours where tracing is off
    assert server.seen[0][1] == TRACE
    assert "traceparent" not in client.get("/ok/a", headers={"traceparent": "00-zz-1-01"}).headers


def test_an_answer_says_what_it_took(client: TestClient) -> None:
    assert 0 < float(client.get("/ok/a").headers["x-total-time"]) < 5000


def test_durations_are_counted_by_route_and_never_by_path(client: TestClient, server: Server) -> None:
    for path in ("/ok/a", "/ok/b", "/nothing/a", "/nothing/b", "/v1/fault"):
        client.get(path)
    client.post("/ok/a")
    assert durations(server.metrics) == {
        ("GET", "/ok/{name}", "200"): 2,
        ("GET", "", "404"): 2,
        ("GET", "/{version}/fault", "500"): 1,
        ("POST", "/ok/{name}", "405"): 1,
    }


def test_one_line_is_logged_for_each_request(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "regard.access")
    client.get("/ok/a%0a2026%20ERROR%0d%1b[31m?text=secret")
    client.get("/nothing/" + "x" * 1000)
    first, second = [record for record in caplog.records if record.name == "regard.access"]
    assert first.getMessage().startswith("GET /ok/a%0a2026%20ERROR%0d%1b[31m 200 ")
    assert vars(first) | {"route": "/ok/{name}", "status": 200, "method": "GET"} == vars(first)
    assert "secret" not in caplog.text
    assert len(second.getMessage()) < 300


def test_a_fault_of_ours_is_answered_and_logged_with_its_request(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    answer = client.get("/v1/fault")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert answer.json()["detail"] == "the server failed on this request; its log says why"
    assert client.get("/v2/fault").json() == {"error": answer.json()["detail"]}
    assert "secret of ours" in caplog.text
    assert answer.headers["x-request-id"]


def test_an_answer_that_breaks_off_is_not_ended_as_if_it_were_whole(client: TestClient) -> None:
    with pytest.raises(RuntimeError, match="too late"):
        client.get("/cut")


def test_problems_have_their_headers_and_the_shape_of_their_protocol(client: TestClient) -> None:
    for path, header, value in (("full", "retry-after", "3"), ("closed", "www-authenticate", "Bearer")):
        ours, theirs = client.get(f"/v1/{path}"), client.get(f"/v2/{path}")
        assert ours.headers[header] == theirs.headers[header] == value
        assert ours.status_code == theirs.status_code == ours.json()["status"]
        assert theirs.json() == {"error": ours.json()["detail"]}
        assert theirs.headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", ["/ok/a", "/nothing", "/v1/fault", "/v1/full", "/v1/closed", "/v2/nothing"])
def test_every_answer_is_locked_up(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"


def test_a_route_may_have_a_policy_of_its_own(client: TestClient) -> None:
    assert client.get("/page").headers["content-security-policy"] == "sandbox"
    assert "content-security-policy" not in client.get("/docs").headers


def test_while_draining_answers_close_their_connections(client: TestClient, server: Server) -> None:
    assert "connection" not in client.get("/ok/a").headers
    server.draining = True
    for path in ("/ok/a", "/nothing", "/v1/fault"):
        assert client.get(path).headers["connection"] == "close"
    assert client.post("/body", content=b"a").headers["connection"] == "close"


def test_a_connection_is_not_closed_under_a_body_that_is_not_read(client: TestClient, server: Server) -> None:
    server.draining = True
    assert "connection" not in client.post("/unread", content=b"a").headers


def test_a_request_that_is_given_up_is_recorded(server: Server) -> None:
    async def forever(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    async def nothing(*_: Any) -> Any: ...

    life: Callable[..., Awaitable[None]] = RequestLife(
        forever, metrics=server.metrics, tracing=Tracing(), draining=lambda: False
    )

    async def give_up() -> None:
        scope = {"type": "http", "method": "GET", "path": "/", "raw_path": b"/", "headers": []}
        task = asyncio.create_task(life(scope, nothing, nothing))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(give_up())
    assert durations(server.metrics) == {("GET", "", "0"): 1}
