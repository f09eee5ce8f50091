"""What is sent again, how often and when; and what never is."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from regard_client import AsyncClient, Client, ConnectionFailed, Overloaded, Problem, UnexpectedAnswer
from regard_client.retries import Pause, Retries, retry_after

ADDRESS = "http://regard.test"
REQUEST = httpx.Request("GET", ADDRESS)
LISTED = {"models": [{"name": "one", "version": "1", "state": "ready"}]}
NEVER_ARRIVED = [httpx.ConnectError("refused"), httpx.ConnectTimeout("no answer")]
PERHAPS_ARRIVED = [
    httpx.ReadTimeout(""),
    httpx.ReadError("reset"),
    httpx.WriteError("reset"),
    httpx.WriteTimeout(""),
    httpx.RemoteProtocolError("server disconnected"),
    httpx.DecodingError("no gzip"),
]


def busy(retry: str | None = None, **headers: str) -> httpx.Response:
    """A 503 as the server writes it."""
    document = {"status": 503, "detail": "no room", "field": "max_requests", "limit": 256}
    headers |= {} if retry is None else {"retry-after": retry}
    headers["content-type"] = "application/problem+json"
    return httpx.Response(503, json=document, headers=headers)


class Clock:
    """Time passes in pauses, and `seconds` in each request."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.now = 0.0
        self.seconds = seconds
        self.pauses: list[float] = []

    def run(self, answers: list[Any], *, count: int = 3, seconds: float = 60.0) -> tuple[Any, int]:
        """What an exchange comes to when it is answered like that, and how often it was sent."""
        talk = Retries(count=count, seconds=seconds, clock=lambda: self.now).exchange(REQUEST)
        sent = 0
        try:
            step = next(talk)
            while True:
                if isinstance(step, Pause):
                    self.pauses.append(step.seconds)
                    self.now += step.seconds
                    step = next(talk)
                    continue
                answer = answers[min(sent, len(answers) - 1)]
                sent += 1
                self.now += self.seconds
                step = talk.throw(answer) if isinstance(answer, Exception) else talk.send(answer)
        except StopIteration as end:
            return end.value, sent
        except (Problem, ConnectionFailed) as error:
            return error, sent


def test_a_full_server_is_asked_again_when_it_says() -> None:
    clock, good = Clock(), httpx.Response(200)
    assert clock.run([busy("2"), busy("7"), good]) == (good, 3)
    assert clock.pauses == [2.0, 7.0]


def test_a_date_is_counted_from_the_servers_own() -> None:
    long_ago = datetime(2020, 2, 29, 12, 0, 0, tzinfo=UTC)
    dates = {"date": format_datetime(long_ago, usegmt=True)}
    later = format_datetime(long_ago + timedelta(seconds=9), usegmt=True)
    clock = Clock()
    clock.run([busy(later, **dates), httpx.Response(200)])
    assert clock.pauses == [9.0]


def test_a_date_without_the_servers_own_is_counted_from_now() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    assert 3590 < (retry_after(httpx.Headers({"retry-after": later})) or 0) <= 3600


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 5 ", 5.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("9" * 5000, float("inf")),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("²", None),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
        ("Wed, 21 Oct 99999999 07:28:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    assert retry_after(httpx.Headers([(b"retry-after", value.encode())])) == seconds


def test_pauses_double_where_the_server_names_none() -> None:
    clock = Clock()
    failure, sent = clock.run([busy()])
    assert isinstance(failure, Overloaded)
    assert (failure.field, failure.limit, failure.retry_after) == ("max_requests", 256, None)
    assert (sent, clock.pauses) == (4, [0.5, 1.0, 2.0])


def test_retries_end_by_their_number() -> None:
    clock = Clock()
    failure, sent = clock.run([busy("1")], count=2)
    assert isinstance(failure, Overloaded)
    assert (sent, clock.pauses, failure.retry_after) == (3, [1.0, 1.0], 1.0)
    assert Clock().run([busy("1")], count=0)[1] == 1


def test_nobody_waits_for_what_would_come_too_late() -> None:
    clock = Clock()
    failure, sent = clock.run([busy("61")])
    assert (sent, clock.pauses, failure.retry_after) == (1, [], 61.0)


def test_the_time_of_the_requests_counts() -> None:
    clock = Clock(seconds=25)
    _, sent = clock.run([busy("10")], count=99)
    assert sent == 2  # 25, 35, 60: a third would begin after 70
    assert clock.pauses == [10.0]


@pytest.mark.parametrize(
    "status", [301, 307, 400, 401, 403, 404, 408, 410, 413, 415, 422, 429, 500, 502, 504]
)
def test_no_other_answer_is_asked_for_again(status: int) -> None:
    failure, sent = Clock().run([httpx.Response(status, headers={"retry-after": "1"}, text="<h1>no</h1>")])
    assert isinstance(failure, Problem)
    assert not isinstance(failure, Overloaded)
    assert (failure.status, sent) == (status, 1)
    assert "<h1>no</h1>" in failure.detail


@pytest.mark.parametrize("error", NEVER_ARRIVED, ids=repr)
def test_a_connection_is_tried_again(error: Exception) -> None:
    good = httpx.Response(200)
    assert Clock().run([error, error, good]) == (good, 3)
    failure, sent = Clock().run([error])
    assert isinstance(failure, ConnectionFailed)
    assert sent == 4


@pytest.mark.parametrize("error", PERHAPS_ARRIVED, ids=repr)
def test_what_may_have_arrived_is_never_sent_again(error: Exception) -> None:
    failure, sent = Clock().run([error])
    assert isinstance(failure, ConnectionFailed)
    assert sent == 1
    assert str(failure) not in ("", f"GET {ADDRESS}: ")


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long both clients slept, in no time."""
    found: list[float] = []

    async def nap(seconds: float) -> None:
        found.append(seconds)

    monkeypatch.setattr("regard_client.client.sleep", found.append)
    monkeypatch.setattr("regard_client.async_client.sleep", nap)
    return found


Ask = Callable[[httpx.MockTransport, list[bytes]], list[str]]


def blocking(transport: httpx.MockTransport, pictures: list[bytes]) -> list[str]:
    with Client(ADDRESS, transport=transport) as client:
        assert [one.name for one in client.models()] == ["one"]
        return [one.label for one in client.predict("one", pictures, top_k=1)]


def awaiting(transport: httpx.MockTransport, pictures: list[bytes]) -> list[str]:
    async def ask() -> list[str]:
        async with AsyncClient(ADDRESS, transport=transport) as client:
            assert [one.name for one in await client.models()] == ["one"]
            return [one.label for one in await client.predict("one", pictures, top_k=1)]

    return asyncio.run(asyncio.wait_for(ask(), 30))


@pytest.mark.parametrize("ask", [blocking, awaiting])
def test_a_form_is_sent_again_whole(ask: Ask, naps: list[float]) -> None:
    bodies: list[bytes] = []
    prediction = {"label": "yes", "score": 1.0, "top": [], "input": {"kind": "smell"}, "maps": []}

    def server(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json=LISTED)
        bodies.append(request.read())
        if len(bodies) < 3:
            return busy("4")
        about = {"id": "x", "model": "one", "version": "1", "timing": {"total_ms": 1}}
        return httpx.Response(200, json={**about, "predictions": [prediction, prediction]})

    assert ask(httpx.MockTransport(server), [b"\x89PNG" * 1000, b"GIF89a"]) == ["yes", "yes"]
    assert len(bodies) == 3
    assert len(set(bodies)) == 1
    assert b"\x89PNG" * 1000 in bodies[0]
    assert naps == [4.0, 4.0]


@pytest.mark.parametrize("ask", [blocking, awaiting])
def test_an_answer_of_something_else_is_an_error_of_its_own(ask: Ask) -> None:
    for answer in (b"<html>", b"[]", b"{}", b'{"models": [1]}', b'{"models": [{"name": 1}]}', b"[" * 100_000):
        content = answer
        with pytest.raises(UnexpectedAnswer):
            ask(httpx.MockTransport(lambda _: httpx.Response(200, content=content)), [])  # noqa: B023


@pytest.mark.parametrize("ask", [blocking, awaiting])
def test_every_input_has_a_prediction(ask: Ask) -> None:
    answer = {"models": LISTED["models"], "predictions": [], "id": "x", "timing": {"total_ms": 1}}
    with pytest.raises(UnexpectedAnswer, match="0 predictions for 2 inputs"):
        ask(httpx.MockTransport(lambda _: httpx.Response(200, json=answer)), [b"GIF89a", b"GIF89a"])


def test_a_real_servers_refusal_is_understood(serve: Any, naps: list[float]) -> None:
    with serve(max_requests=1) as address, Client(address, retries=2) as client:
        url = httpx.URL(address)
        with socket.create_connection((url.host, url.port), timeout=30) as other:
            other.sendall(
                b"POST /v1/models/code-language/predict HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n"
                b"content-type: text/plain\r\nexpect: 100-continue\r\n\r\n"
            )
            assert b"100 Continue" in other.recv(1000)  # its body is awaited: it was admitted
            with pytest.raises(Overloaded) as caught:
                client.predict("code-language", "fn main() {}")
    assert (caught.value.field, caught.value.limit) == ("max_requests", 1)
    assert caught.value.retry_after is not None
    assert naps == [caught.value.retry_after] * 2


def test_nobody_listening_is_told_after_all_attempts(naps: list[float]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with (
        Client(f"http://127.0.0.1:{port}", retries=2) as client,
        pytest.raises(ConnectionFailed, match=f":{port}") as caught,
    ):
        client.models()
    assert isinstance(caught.value.__cause__, httpx.ConnectError)
    assert naps == [0.5, 1.0]
