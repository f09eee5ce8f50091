"""One request and its answer, tried again while the server has no room or is not there."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from itertools import count
from typing import Any, TypeVar

import httpx

from regard_client.errors import ConnectionFailed, Overloaded, Problem

T = TypeVar("T")

LONGEST = 500  # characters shown of an answer that is no document of the API
DIGITS = 9  # of a number of seconds: more is for ever


@dataclass(frozen=True)
class Pause:
    """A step of a talk: wait so many seconds."""

    seconds: float


# What is said and understood, as a generator: it yields requests to send and pauses to make, and returns what
# came of them. Whoever runs it sends answers in, or throws httpx's error. So it knows of no input and output.
Talk = Generator[httpx.Request | Pause, Any, T]


@dataclass(frozen=True, kw_only=True)
class Retries:
    """How often a request is sent again, and for how long after the first time.

    `backoff` is the first pause in seconds where the server names none; it doubles.
    """

    count: int
    seconds: float
    backoff: float = 0.5
    clock: Callable[[], float] = time.monotonic

    def exchange(self, request: httpx.Request) -> Talk[httpx.Response]:
        """The answer to a request. It is sent again after a 503, and where no connection was made at all.

        A request that may have arrived is not, whatever became of it. Raises Problem and ConnectionFailed.
        """
        started, backoff = self.clock(), self.backoff
        for attempt in count():
            failure: Problem | ConnectionFailed
            pause = None
            try:
                response: httpx.Response = yield request
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = _failed(request, error)
                failure.__cause__ = error
            except httpx.RequestError as error:
                raise _failed(request, error) from error
            else:
                if response.is_success:
                    return response
                failure = problem(response)
                if not isinstance(failure, Overloaded):
                    raise failure
                pause = failure.retry_after
            if pause is None:
                pause, backoff = backoff, 2 * backoff
            if attempt >= self.count or self.clock() - started + pause > self.seconds:
                raise failure
            yield Pause(pause)
        raise AssertionError


def _failed(request: httpx.Request, error: httpx.RequestError) -> ConnectionFailed:
    return ConnectionFailed(f"{request.method} {request.url}: {str(error) or type(error).__name__}")


def problem(response: httpx.Response) -> Problem:
    """What is wrong, from an answer that is no success; it need not be the server's own but a proxy's."""
    document = _document(response)
    detail = document.get("detail")
    if not isinstance(detail, str):
        detail = f"{response.reason_phrase} {response.text[:LONGEST]}".strip()
    field, limit = document.get("field"), document.get("limit")
    field = field if isinstance(field, str) else None
    limit = limit if isinstance(limit, str | int | float) else None
    if response.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
        return Overloaded(detail, field=field, limit=limit, retry_after=retry_after(response.headers))
    return Problem(detail, status=response.status_code, field=field, limit=limit)


def _document(response: httpx.Response) -> dict[str, Any]:
    if response.headers.get("content-type", "").partition(";")[0] != "application/problem+json":
        return {}
    try:
        document = response.json()
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def retry_after(headers: httpx.Headers) -> float | None:
    """Seconds that `Retry-After` asks for (RFC 9110, 10.2.3), None where it does not say.

    A date counts from the server's own `Date`: the clocks need not agree.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdecimal():
        return float("inf") if len(value.lstrip("0")) > DIGITS else float(value)
    until, now = _date(value), _date(headers.get("date", ""))
    return None if until is None else max(0.0, (until - (now or datetime.now(UTC))).total_seconds())


def _date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
