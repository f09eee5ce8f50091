"""Bodies that are compressed, in both directions."""

from __future__ import annotations

import gzip
import io
import zlib

from service.errors import InvalidInput, TooLarge, UnsupportedMedia

ENCODINGS = ("gzip", "deflate")  # in the order in which answers prefer them
SMALLEST = 500  # bytes of an answer below which compression gains nothing (as Starlette's GZipMiddleware)
LEVEL = 1  # floats hardly get smaller at any other, and only slower


def decompress(body: bytes, encoding: str | None, *, max_bytes: int) -> bytes:
    """A request's body as its Content-Encoding says, of which no more than `max_bytes` are ever unpacked.

    Raises InvalidInput, TooLarge and UnsupportedMedia.
    """
    name = (encoding or "identity").strip().lower()
    if name == "identity":
        return body
    if name not in ENCODINGS:
        raise UnsupportedMedia(
            f"Content-Encoding {name[:80]!r}: one of {', '.join(ENCODINGS)}",
            field="content-encoding",
            limit=", ".join(ENCODINGS),
        )
    try:
        unpacked = _gunzip(body, max_bytes + 1) if name == "gzip" else _inflate(body, max_bytes + 1)
    except (OSError, EOFError, zlib.error):
        raise InvalidInput(f"the body is no sound {name}, or cut off", field="body") from None
    if len(unpacked) > max_bytes:
        raise TooLarge(f"the body is larger than {max_bytes} bytes unpacked", field="body", limit=max_bytes)
    return unpacked


def _gunzip(body: bytes, most: int) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(body)) as file:
        return file.read(most)


def _inflate(body: bytes, most: int) -> bytes:
    """In HTTP, deflate is the zlib format (RFC 9110, 8.4.1.2)."""
    inflater = zlib.decompressobj()
    unpacked = inflater.decompress(body, most)
    if len(unpacked) < most and (not inflater.eof or inflater.unused_data):
        raise EOFError
    return unpacked


def accepted(header: str | None) -> str | None:
    """The encoding that an Accept-Encoding prefers, of those that are written; None for none of them."""
    weights = dict.fromkeys(ENCODINGS, 0.0)
    for part in (header or "").split(","):
        name, *parameters = (word.strip().lower() for word in part.split(";"))
        if name in weights:
            weights[name] = _weight(parameters)
    best = max(weights, key=weights.__getitem__)
    return best if weights[best] > 0 else None


def _weight(parameters: list[str]) -> float:
    """The `q` of an encoding; 0, so that it is not used, where that is no number."""
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return min(float(parameter[2:]), 1.0)
            except ValueError:
                return 0.0
    return 1.0


def compress(body: bytes, encoding: str) -> bytes:
    """An answer's body in one of the encodings."""
    if encoding == "gzip":
        return gzip.compress(body, LEVEL, mtime=0)
    return zlib.compress(body, LEVEL)
