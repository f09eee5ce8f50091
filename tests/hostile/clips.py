"""Clips that are made to cost: small files with large indexes, absurd times or sizes, or none of it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from fractions import Fraction

WriteClip = Callable[..., bytes]

MIB = 2**20
CLUSTER, TRACKS, CUES, TAGS = (
    b"\x1f\x43\xb6\x75",
    b"\x16\x54\xae\x6b",
    b"\x1c\x53\xbb\x6b",
    b"\x12\x54\xc3\x67",
)
UNKNOWN = b"\x01" + b"\xff" * 7


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", len(body) + 8, kind) + body


def element(kind: bytes, body: bytes) -> bytes:
    return kind + (1 << 56 | len(body)).to_bytes(8, "big") + body


def patched(data: bytes, kind: bytes, at: int, value: bytes) -> bytes:
    """The bytes `at` after the last `kind` overwritten."""
    place = data.rindex(kind) + at
    return data[:place] + value + data[place + len(value) :]


def webm(good: bytes, *between: bytes, clusters: bytes | None = None) -> bytes:
    """A WebM with further elements between its index and its frames."""
    index, cluster = good.rindex(b"\x15\x49\xa9\x66"), good.rindex(CLUSTER)
    head = good[: good.index(b"\x18\x53\x80\x67")] + b"\x18\x53\x80\x67" + UNKNOWN
    return b"".join((head, good[index:cluster], *between, good[cluster:] if clusters is None else clusters))


def nested(depth: int, size: int) -> bytes:
    """Boxes one in the other."""
    data = b""
    for _ in range(depth):
        data = struct.pack(">I4s", len(data) + 8, b"moov") + data
    return box(b"ftyp", b"isom", bytes(4)) + data + bytes(size)


def mp4_bombs(good: bytes) -> Iterator[tuple[str, bytes]]:
    for count in (2**32 - 1, 999_999, 2**31):
        yield f"{count} samples", patched(good, b"stsz", 12, struct.pack(">I", count))
        yield f"{count} samples of one byte", patched(good, b"stsz", 8, struct.pack(">II", 1, count))
        for kind in (b"stts", b"stsc", b"stco", b"stss"):
            yield f"{count} entries in {kind.decode()}", patched(good, kind, 8, struct.pack(">I", count))
    for scale in (0, 1, 2**31 - 1, 2**32 - 1):
        yield f"time scale {scale}", patched(good, b"mdhd", 16, struct.pack(">I", scale))
        yield f"duration {scale}", patched(good, b"mdhd", 20, struct.pack(">I", scale))
        yield f"frames lasting {scale}", patched(good, b"stts", 16, struct.pack(">I", scale))
    for kind in (b"moov", b"trak", b"stbl", b"stsd", b"mdat", b"avc1"):
        for size in (0, 1, 7, 2**31, 2**32 - 1):
            yield f"{kind.decode()} of {size} bytes", patched(good, kind, -4, struct.pack(">I", size))
    for wide, high in ((65_535, 65_535), (0, 0), (1, 65_535), (65_535, 1), (7_000, 7_000)):
        yield f"frames of {wide} x {high}", patched(good, b"avc1", 28, struct.pack(">HH", wide, high))
    yield "nested boxes", nested(2_000, 0)
    yield "many boxes", box(b"ftyp", b"isom", bytes(4)) + box(b"moov", box(b"trak") * (32 * MIB // 8))
    yield "no boxes", box(b"ftyp", b"isom", bytes(4)) + bytes(32 * MIB)
    track = good[good.index(b"trak") - 4 :]
    track = track[: struct.unpack(">I", track[:4])[0]]
    at, end = (
        good.index(b"moov") - 4,
        good.index(b"moov") - 4 + struct.unpack_from(">I", good, good.index(b"moov") - 4)[0],
    )
    yield "5000 tracks", good[:at] + box(b"moov", good[at + 8 : end], track * 5000) + good[end:]


def webm_bombs(good: bytes) -> Iterator[tuple[str, bytes]]:
    half = 16 * MIB
    yield "webm of 8000000 tracks", webm(good, element(TRACKS, b"\xae\x80" * (half // 2)))
    yield "webm of 1000000 cues", webm(good, element(CUES, b"\xbb\x84\xb7\x82\xf1\x80" * (half // 6)))
    yield "webm of 8000000 tags", webm(good, element(TAGS, b"\x73\x73\x83\x67\xc8\x80" * (half // 6)))
    tiny, laced = b"\xa3\x85\x81\0\0\x80\0", b"\xa3\x41\x06\x81\0\0\x84\xff" + bytes(257)
    for name, block in (
        ("one byte", tiny),
        ("256 frames", laced),
        ("nothing", b"\xa3\x80"),
        ("void", b"\xec\x80"),
    ):
        yield (
            f"webm of blocks of {name}",
            webm(good, clusters=element(CLUSTER, b"\xe7\x81\0" + block * (half // len(block)))),
        )
    yield "webm of empty clusters", webm(good, (CLUSTER + b"\x80") * (half // 5))
    group = element(
        b"\xa0", tiny.replace(b"\xa3", b"\xa1", 1) + element(b"\x75\xa1", b"\xa6\x80" * (half // 2))
    )
    yield "webm of block additions", webm(good, clusters=element(CLUSTER, b"\xe7\x81\0" + group))
    hidden = b"\xa3" + element(b"", b"\x81\0\0\x80" + element(TAGS, b"\x73\x73\x80" * (half // 3)))[0:]
    yield "webm with tags in a frame", webm(good, clusters=element(CLUSTER, b"\xe7\x89" + bytes(9) + hidden))
    depth = b""
    for _ in range(1_000):
        depth = element(b"\xa0", depth)
    yield "webm of nested groups", webm(good, clusters=element(CLUSTER, depth))
    for size in (b"\x40\x00", b"\x4f\xff", b"\x7f\xfe"):
        wide = good.replace(b"\xb0\x81\x40", b"\xb0\x81" + size[:1]).replace(
            b"\xb0\x82\x00\x40", b"\xb0\x82" + size
        )
        yield f"webm of width {size.hex()}", wide
    yield (
        "webm that says it holds 2^56",
        patched(good, b"\x18\x53\x80\x67", 4, b"\x01\xff\xff\xff\xff\xff\xff\xfe"),
    )


def gif_bombs(good: bytes) -> Iterator[tuple[str, bytes]]:
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    for wide, high in ((65_535, 65_535), (7_000, 7_000), (65_535, 1), (4_000, 3_000)):
        yield f"gif of {wide} x {high}", patched(good, b"GIF89a", 6, struct.pack("<HH", wide, high))
    head = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    yield "gif of 2000000 frames", head + frame * 2_000_000 + b";"
    yield "gif of one comment", head + b"\x21\xfe" + b"\x01a" * (16 * MIB) + b"\0" + frame + b";"


def odd_clips(write: WriteClip) -> Iterator[tuple[str, bytes]]:
    yield "sound alone", write("mp4", "mpeg4", sound=True, pictures=False)
    for rate in (Fraction(1, 1000), Fraction(65_535, 1), Fraction(1, 65_535)):
        yield f"{rate} frames a second", write("mp4", "mpeg4", rate=rate, frames=5)
        yield (
            f"mkv, {rate} frames a second",
            write("matroska", "mjpeg", rate=rate, frames=5, pixels="yuvj420p"),
        )
    yield "10001 frames", write("mp4", "mpeg4", frames=10_001, size=(16, 16))
    yield "frames of 4096 x 2304", write("mp4", "mpeg4", frames=3, size=(4096, 2304))


def bombs(good: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Of every container."""
    yield from mp4_bombs(good["mp4-h264"])
    yield from webm_bombs(good["webm-vp8"])
    yield from gif_bombs(good["gif"])
