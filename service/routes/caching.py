"""What lets a client keep an answer, and ask whether it still holds."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.metadata import version

from fastapi import Request


def entity_tag(*parts: str) -> str:
    """A strong entity tag of all that an answer's bytes depend on, this release among it."""
    document = json.dumps([release(), *parts])
    return f'"{hashlib.sha256(document.encode()).hexdigest()[:32]}"'


@cache
def release() -> str:
    """The version of this server, which is read from disk."""
    return version("regard")


def is_known(request: Request, tag: str) -> bool:
    """Whether the client says in If-None-Match that it has this already.

    Weak tags match too (RFC 9110, 13.1.2). "*" does not: whether there is anything is not known yet.
    """
    given = ",".join(request.headers.getlist("if-none-match"))
    return tag in {one.strip().removeprefix("W/") for one in given.split(",")}


def cache_headers(tag: str, seconds: float) -> dict[str, str]:
    """Headers of what one client may keep for so many seconds."""
    return {
        "etag": tag,
        "cache-control": f"private, max-age={seconds:.0f}",
        "vary": "authorization",
    }
