"""Everything that can go wrong with a request, as one tree.

Problem
+- InvalidInput          400  a field that cannot be used as it is
|  +- UnknownOption      400  an option, map layer or head that does not exist
+- Unauthorized          401  no key, or one that is not known
+- Forbidden             403  a key that may not do this
+- NotFound              404  no such model, prediction or map
+- TooSlow               408  a body that did not arrive in time
+- Expired               410  a prediction that is no longer kept
+- TooLarge              413  a body, picture or clip beyond a limit
+- UnsupportedMedia      415  bytes that are not what they are said to be, or nothing we read
+- Undecodable           422  media of a known type that cannot be decoded
+- Overloaded            503  no room for this now; says when to come back
+- DeadlineExceeded      504  no answer within the request's timeout
+- VerificationFailed    500  attention that is not what it should be, where a proof was asked for
"""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import ClassVar

LONGEST = 1000  # characters of a detail: it may quote what the client sent


class Problem(Exception):
    """An error for the client: `application/problem+json` (RFC 9457) with the field and the limit named."""

    status: ClassVar[HTTPStatus] = HTTPStatus.INTERNAL_SERVER_ERROR

    def __init__(
        self, detail: str, *, field: str | None = None, limit: int | float | str | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = _encodable(detail)
        self.field = None if field is None else _encodable(field)
        self.limit = limit

    def document(self) -> dict[str, str | int | float]:
        """The body of the answer."""
        body: dict[str, str | int | float] = {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": int(self.status),
            "detail": self.detail[:LONGEST],
        }
        if self.field is not None:
            body["field"] = self.field
        if self.limit is not None:
            body["limit"] = self.limit
        return body


def _encodable(text: str) -> str:
    """Half of a surrogate pair, which JSON may hold and UTF-8 may not, as it is written in JSON."""
    return text.encode("utf-8", "backslashreplace").decode()


class InvalidInput(Problem):
    status = HTTPStatus.BAD_REQUEST


class UnknownOption(InvalidInput):
    pass


class Unauthorized(Problem):
    status = HTTPStatus.UNAUTHORIZED


class Forbidden(Problem):
    status = HTTPStatus.FORBIDDEN


class NotFound(Problem):
    status = HTTPStatus.NOT_FOUND


class TooSlow(Problem):
    status = HTTPStatus.REQUEST_TIMEOUT


class Expired(Problem):
    status = HTTPStatus.GONE


class TooLarge(Problem):
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class UnsupportedMedia(Problem):
    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE


class Undecodable(Problem):
    status = HTTPStatus.UNPROCESSABLE_ENTITY


class Overloaded(Problem):
    """`retry_after` is in seconds, from how fast work is being done at present; None until that is known."""

    status = HTTPStatus.SERVICE_UNAVAILABLE

    def __init__(
        self,
        detail: str,
        *,
        field: str | None = None,
        limit: int | float | str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail, field=field, limit=limit)
        self.retry_after: int | None = None
        if retry_after is not None:
            self.promise(retry_after)

    def promise(self, seconds: float) -> None:
        """Say when to come back, in whole seconds from 1 on, unless that was said already."""
        if self.retry_after is None:
            self.retry_after = max(1, math.ceil(seconds))


class VerificationFailed(Problem):
    """The device did not compute what it should have: no fault of the request."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR


class DeadlineExceeded(Problem):
    status = HTTPStatus.GATEWAY_TIMEOUT
