"""Who may ask for what: API keys, of which the settings hold the hashes alone."""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Sequence
from hashlib import sha256
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import Forbidden, Problem, Unauthorized
from service.problems import problem_response

KeyScope = Literal["predict", "admin"]
OPEN = re.compile(r"/|/ui/.*|/docs(/oauth2-redirect)?|/openapi\.json|/healthz|/readyz|/v2/health/.*")
ADMIN = re.compile(r"/metrics/?|/v2/repository/models/.*")


def _hexadecimal(value: SecretStr) -> SecretStr:
    if re.fullmatch(r"[0-9a-f]{64}", value.get_secret_value()) is None:
        raise ValueError("a SHA-256 has 64 digits 0-9a-f; `regard key NAME` makes one")
    return value


class Key(BaseModel):
    """A client by name, the hash of its key, and what it may do."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    sha256: Annotated[SecretStr, AfterValidator(_hexadecimal)]
    scopes: tuple[KeyScope, ...] = Field(("predict",), min_length=1)

    @property
    def digest(self) -> bytes:
        return bytes.fromhex(self.sha256.get_secret_value())


def make_key(name: str, scopes: Sequence[str]) -> tuple[str, Key]:
    """A new key as its client sends it, and as the settings hold it; raises ValidationError.

    Its 256 random bits need no slow hash: there is nothing to guess.
    """
    secret = secrets.token_urlsafe(32)
    digest = sha256(secret.encode()).hexdigest()
    return secret, Key.model_validate({"name": name, "sha256": digest, "scopes": scopes})


def needed_scope(path: str) -> KeyScope | None:
    """What a key has to have for a path; None where none is needed.

    A path that nobody knows needs one too: what is added later is closed until it is said to be open.
    """
    if OPEN.fullmatch(path):
        return None
    return "admin" if ADMIN.fullmatch(path) else "predict"


class Keys:
    """Middleware: refuses whom the settings do not know, before anything of a body is read.

    Puts the name of the key into `request.state.client`, None where there are no keys or none is needed.
    `admin` alone cannot predict, nor `predict` load or unload a model or read metrics.
    """

    def __init__(self, app: ASGIApp, *, keys: Sequence[Key]) -> None:
        self.app = app
        self._keys = [(key.digest, key) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            client = self._client(scope)
        except Problem as problem:
            await problem_response(problem, scope["path"])(scope, receive, send)
            return
        scope.setdefault("state", {})["client"] = client
        await self.app(scope, receive, send)

    def _client(self, scope: Scope) -> str | None:
        needed = needed_scope(scope["path"])
        if not self._keys or needed is None:
            return None
        kind, _, secret = Headers(scope=scope).get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not secret:
            raise Unauthorized("an API key is needed: Authorization: Bearer KEY", field="authorization")
        key = self._find(secret.strip())
        if key is None:
            raise Unauthorized("this API key is not known", field="authorization")
        if needed not in key.scopes:
            raise Forbidden(f"the key {key.name} has no scope {needed}", field="authorization", limit=needed)
        return key.name

    def _find(self, secret: str) -> Key | None:
        """The key of a secret. All are compared in full, so that time tells nothing of any."""
        digest, found = sha256(secret.encode()).digest(), None
        for known, key in self._keys:
            if hmac.compare_digest(digest, known):
                found = key
        return found
