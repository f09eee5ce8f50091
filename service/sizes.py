"""How large what a client sends may be and how JSON of that size is read, and how much of it is sent back."""

from __future__ import annotations

import gc
import json
from typing import Any, NoReturn

from service.errors import InvalidInput, TooLarge

MOST_NUMBERS = 2**20  # of maps, as JSON: some 20 MB, for which all else stands still a quarter of a second


def check_length(nbytes: int, max_bytes: int) -> None:
    """Raise TooLarge for a body that is longer than may be."""
    if nbytes > max_bytes:
        raise TooLarge(f"the body is larger than {max_bytes} bytes", field="body", limit=max_bytes)


def read_json(body: bytes | memoryview, max_bytes: int) -> Any:
    """JSON in UTF-8 and nothing beyond the standard; raises TooLarge, ValueError and RecursionError.

    All else stands still meanwhile, whatever thread it is in. The garbage collector is off: it would walk all
    there is again and again while small objects are made, and take five times as long as they.
    """
    if len(body) > max_bytes:
        detail = f"{len(body)} bytes of JSON, max_json_bytes is {max_bytes}"
        raise TooLarge(detail, field="body", limit=max_bytes)
    gc.disable()
    try:
        return json.loads(str(body, "utf-8"), parse_constant=_no_constant)
    finally:
        gc.enable()


def check_numbers(count: int, *, inputs: int = 1, field: str) -> None:
    """Raise InvalidInput where maps of so many numbers for each input are too many for JSON."""
    most = MOST_NUMBERS // inputs
    if count > most:
        raise InvalidInput(
            f"{field}: {count} numbers are too many for JSON: ask for part of the map, or for binary numbers",
            field=field,
            limit=most,
        )


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)
