"""Pictures that are made to cost: small files that say they are large, or unfold into much."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

Cases = dict[str, bytes]
GIF_FRAME = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *chunks: bytes, bits: int = 8, color: int = 2) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IEND", b"")


def idat(nbytes: int) -> bytes:
    """So many zeros, compressed."""
    packer = zlib.compressobj(9)
    return chunk(
        b"IDAT", b"".join(packer.compress(bytes(2**20)) for _ in range(nbytes >> 20)) + packer.flush()
    )


def gif(width: int, height: int, *parts: bytes) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0)
    return head + b"\0\0\0\xff\xff\xff" + b"".join(parts) + b";"


def jpeg(width: int, height: int, good: bytes) -> bytes:
    """A small JPEG that says it is of another size."""
    at = max(good.find(b"\xff\xc0"), good.find(b"\xff\xc2")) + 5
    return good[:at] + struct.pack(">HH", height, width) + good[at + 4 :]


def webp(width: int, height: int, good: bytes) -> bytes:
    """A small WebP behind a canvas of another size."""
    canvas = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes([0, 0, 0, 0]) + canvas + good[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def scans(good: bytes, number: int) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    last = good.rindex(b"\xff\xda")
    return good[:last] + number * good[last:-2] + b"\xff\xd9"


def bombs(pictures: Cases) -> Iterator[tuple[str, bytes, int]]:
    """Name, file, and the status it must get; 0 where either will do."""
    progressive = pictures["jpeg-progressive"]
    for width, height in ((65_535, 65_535), (65_535, 1), (1, 65_535), (0, 0), (7_000, 7_000)):
        large = width * height > 50_000_000
        yield f"jpeg of {width} x {height}", jpeg(width, height, pictures["jpeg"]), 413 if large else 0
        yield f"progressive jpeg {width} x {height}", jpeg(width, height, progressive), 413 if large else 0
        yield f"gif of {width} x {height}", gif(width, height, GIF_FRAME), 413 if large else 0
    for width, height in ((2**31 - 1, 2**31 - 1), (2**31 - 1, 1), (1, 50_000_000), (2**32 - 1, 2**32 - 1)):
        yield f"png of {width} x {height}", png(width, height, idat(2**20)), 0 if width == 2**32 - 1 else 413
    yield "png of 7000 x 7000 in zeros", png(7000, 7000, idat(147 << 20)), 200
    yield "png of 7000 x 7000 with alpha", png(7000, 7000, idat(197 << 20), color=6), 200
    yield "png of 1000 x 1000 and 200 MB too many", png(1000, 1000, idat(200 << 20)), 0
    yield "png of which nothing follows", png(7000, 7000), 0
    yield "png whose IDAT says 2 GB", png(64, 64)[:33] + b"\x7f\xff\xff\xffIDAT", 422
    text = b"Comment\0\0" + zlib.compress(bytes(64 << 20), 9)
    yield "png with texts that unfold", png(64, 64, *[chunk(b"zTXt", text)] * 40, idat(2**20)), 0
    yield "png with a profile that unfolds", png(64, 64, chunk(b"iCCP", b"a" + text[7:]), idat(2**20)), 0
    yield "png of 40000 chunks", png(64, 64, *[chunk(b"tEXt", b"a\0b")] * 40_000, idat(2**20)), 0
    yield (
        "png that says it has 2^31 frames",
        png(64, 64, chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)), idat(2**20)),
        0,
    )
    yield "gif of 100000 frames", gif(1, 1, GIF_FRAME * 100_000), 200
    yield (
        "gif frame beyond its screen",
        gif(8, 8, b"\x2c" + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x02\x44\x01\x00"),
        0,
    )
    yield (
        "gif of 20000 comments",
        gif(8, 8, (b"\x21\xfe" + (b"\xff" + bytes(255)) * 4 + b"\0") * 20_000, GIF_FRAME),
        0,
    )
    for size in (16_383, 2**24):
        yield f"webp of {size}", webp(size, size, pictures["webp"]), 0
        yield f"animated webp of {size}", webp(size, size, pictures["webp-animated"][30:]), 0
    yield (
        "webp whose chunk says 4 GB",
        pictures["webp"][:16] + b"\xff\xff\xff\xff" + pictures["webp"][20:],
        422,
    )
    yield "jpeg of 99 scans", scans(progressive, 99 - progressive.count(b"\xff\xda")), 200
    yield "jpeg of 101 scans", scans(progressive, 101), 413
    yield (
        "jpeg with 30000 comments",
        pictures["jpeg"][:2] + b"\xff\xfe\0\x03a" * 30_000 + pictures["jpeg"][2:],
        0,
    )
    yield "jpeg of 7000 x 7000 in 90 scans", scans(jpeg(7000, 7000, progressive), 80), 0
    yield "jpeg of fill bytes", b"\xff\xd8" + b"\xff" * 2**25, 413
    yield "gif of one comment", gif(8, 8, b"\x21\xfe" + b"\x01a" * 2**23 + b"\0", GIF_FRAME), 413
    yield "png of 2000000 chunks", png(64, 64, chunk(b"abcD", b"") * 2_000_000, idat(2**20)), 413
    yield (
        "jpeg of 8000000 comments",
        pictures["jpeg"][:2] + b"\xff\xfe\0\2" * 8_000_000 + pictures["jpeg"][2:],
        413,
    )
