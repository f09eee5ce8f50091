"""Bodies in and out of gzip and deflate, against those of the standard library."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest

from service.errors import InvalidInput, TooLarge, UnsupportedMedia
from service.v2.compression import accepted, compress, decompress

BODY = bytes(range(256)) * 40
PACK = {"gzip": gzip.compress, "deflate": zlib.compress}
UNPACK = {"gzip": gzip.decompress, "deflate": zlib.decompress}


@pytest.mark.parametrize("encoding", PACK)
def test_a_body_is_unpacked(encoding: str) -> None:
    assert decompress(PACK[encoding](BODY), encoding, max_bytes=len(BODY)) == BODY
    assert decompress(PACK[encoding](BODY), encoding.upper(), max_bytes=len(BODY) + 1) == BODY
    assert decompress(PACK[encoding](b""), encoding, max_bytes=10) == b""


@pytest.mark.parametrize("encoding", [None, "", "identity"])
def test_a_body_without_an_encoding_is_itself(encoding: str | None) -> None:
    assert decompress(BODY, encoding, max_bytes=1) == BODY


def test_a_gzip_of_several_members_is_one_body() -> None:
    assert decompress(gzip.compress(b"ab") + gzip.compress(b"cd"), "gzip", max_bytes=4) == b"abcd"


@pytest.mark.parametrize("encoding", PACK)
def test_a_bomb_is_refused_without_unpacking_it(encoding: str) -> None:
    bomb = PACK[encoding](bytes(50_000_000))
    assert len(bomb) < 60_000
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge, match="larger than 1000000 bytes") as caught:
            decompress(bomb, encoding, max_bytes=1_000_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.limit == 1_000_000
    assert peak < 4_000_000


@pytest.mark.parametrize("encoding", PACK)
@pytest.mark.parametrize("limit", [len(BODY) - 1, len(BODY)])
def test_the_limit_is_of_what_is_unpacked(encoding: str, limit: int) -> None:
    if limit < len(BODY):
        with pytest.raises(TooLarge):
            decompress(PACK[encoding](BODY), encoding, max_bytes=limit)
    else:
        assert decompress(PACK[encoding](BODY), encoding, max_bytes=limit) == BODY


@pytest.mark.parametrize("encoding", PACK)
def test_a_body_that_is_not_sound_is_refused(encoding: str) -> None:
    packed = PACK[encoding](BODY)
    damaged = packed[:-6] + bytes(6)
    for body in (b"{}", packed[:-1], packed[:30], packed + b"more", damaged):
        with pytest.raises(InvalidInput, match=f"no sound {encoding}"):
            decompress(body, encoding, max_bytes=10**6)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "gzip, deflate", "x-gzip", "\xe4"])
def test_an_encoding_that_is_not_read_is_named(encoding: str) -> None:
    with pytest.raises(UnsupportedMedia, match="one of gzip, deflate"):
        decompress(BODY, encoding, max_bytes=10**6)


@pytest.mark.parametrize(
    ("header", "encoding"),
    [
        (None, None),
        ("", None),
        ("identity", None),
        ("br, zstd", None),
        ("*", None),
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("deflate, gzip", "gzip"),
        ("GZIP;q=1.0, deflate;q=0.5", "gzip"),
        ("gzip;q=0.4, deflate;q=0.5", "deflate"),
        ("gzip;q=0, deflate;q=0", None),
        ("gzip;q=nonsense", None),
        ("gzip;q=nan, deflate;q=-1", None),
        (",,;;=,", None),
    ],
)
def test_an_answer_is_packed_as_the_client_prefers(header: str | None, encoding: str | None) -> None:
    assert accepted(header) == encoding


@pytest.mark.parametrize("encoding", UNPACK)
def test_a_packed_answer_is_what_others_unpack(encoding: str) -> None:
    packed = compress(BODY, encoding)
    assert len(packed) < len(BODY)
    assert UNPACK[encoding](packed) == BODY
