"""Pages of other sites may not make a browser change anything here."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import Forbidden
from service.problems import problem_response

SAFE = {"GET", "HEAD", "OPTIONS"}


class SameOrigin:
    """Middleware: refuses a request that a browser sends for a page of another site, unless it is trusted.

    A browser posts to any address it can reach, this machine's own too, and asks nobody where the body looks
    like a form's or a text's. The rules are those of Go's `http.CrossOriginProtection`: no page can choose
    what stands in Sec-Fetch-Site and Origin, and what is no browser sends neither.
    """

    def __init__(self, app: ASGIApp, *, trusted: Sequence[str]) -> None:
        self.app = app
        self._trusted = frozenset(trusted)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in SAFE and self._foreign(Headers(scope=scope)):
            problem = Forbidden(
                "pages of other sites may not ask; see the setting cors_origins", field="origin"
            )
            await problem_response(problem, scope["path"])(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _foreign(self, headers: Headers) -> bool:
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin in self._trusted:
            return False
        if site is not None:
            return site not in ("same-origin", "none")
        return origin is not None and origin.partition("://")[2] != headers.get("host")
