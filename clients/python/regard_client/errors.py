"""Everything that can go wrong between a client and its server, as one tree.

RegardError
+- ConnectionFailed    no answer: refused, broken off, or none in time
+- UnexpectedAnswer    an answer that is not of this API
+- Problem             the server says what is wrong: status, detail, field, limit
   +- Overloaded       503, there is no room now: retry_after
"""

from __future__ import annotations

from http import HTTPStatus


class RegardError(Exception):
    """Anything this package raises of its own; wrong arguments are TypeError and ValueError."""


class ConnectionFailed(RegardError):
    """No answer came."""


class UnexpectedAnswer(RegardError):
    """An answer came that a Regard server does not give."""


class Problem(RegardError):
    """What the server found wrong: `field` is the one to blame and `limit` its bound, where it has them."""

    def __init__(
        self,
        detail: str,
        *,
        status: int,
        field: str | None = None,
        limit: str | float | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.field = field
        self.limit = limit

    def __str__(self) -> str:
        about = [f"{name} {value}" for name, value in (("field", self.field), ("limit", self.limit)) if value]
        return f"{self.status}: {self.detail}" + (f" ({', '.join(about)})" if about else "")


class Overloaded(Problem):
    """`retry_after` is in seconds from the answer on, None where the server did not say."""

    def __init__(
        self,
        detail: str,
        *,
        field: str | None = None,
        limit: str | float | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail, status=HTTPStatus.SERVICE_UNAVAILABLE, field=field, limit=limit)
        self.retry_after = retry_after
