from __future__ import annotations

import struct
import time

import pytest

from service.decode.boxes import tame
from service.decode.limits import Limits
from service.errors import TooLarge, Undecodable


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", len(body) + 8, kind) + body


def counted(kind: bytes, count: int) -> bytes:
    gap = 8 if kind in (b"stsz", b"stz2") else 4
    return box(kind, bytes(gap), struct.pack(">I", count))


def handler(kind: bytes) -> bytes:
    return box(b"hdlr", bytes(8), kind, bytes(12))


def track(*inside: bytes, kind: bytes = b"vide", edits: bytes = b"") -> bytes:
    return box(
        b"trak",
        box(b"tkhd"),
        edits,
        box(b"mdia", box(b"mdhd"), handler(kind), box(b"minf", box(b"stbl", *inside))),
    )


def file(*tracks: bytes) -> bytes:
    return box(b"ftyp", b"isom") + box(b"moov", box(b"mvhd"), *tracks) + box(b"mdat", bytes(16))


def entry(*inside: bytes, depth: int = 24) -> bytes:
    head = bytearray(86 - 8)
    head[74:76] = struct.pack(">H", depth)
    return box(b"stsd", bytes(4), struct.pack(">I", 1), box(b"avc1", bytes(head), *inside))


def test_a_plain_file_stays_as_it_is() -> None:
    data = file(track(entry(box(b"avcC", bytes(8))), counted(b"stsz", 30)))
    assert tame(data, Limits()).data == data


def test_what_shows_no_pictures_is_passed_over() -> None:
    sound = track(counted(b"stsz", 5_000_000), kind=b"soun")
    extra = box(b"sidx", bytes(24)) + box(b"uuid", bytes(32))
    data = file(track(counted(b"stsz", 3)), sound, box(b"udta", handler(b"soun"))) + extra
    tamed = tame(data, Limits()).data
    assert len(tamed) == len(data)
    for kind in (b"sidx", b"uuid", b"udta"):
        assert kind not in tamed
    assert tamed.count(b"trak") == 1


def test_boxes_are_known_by_where_they_lie() -> None:
    # Demuxers read a box wherever it stands; a second handler makes pictures of sound, or the reverse.
    hidden = counted(b"stsz", 2**31)
    data = file(track(entry(hidden, handler(b"soun")), counted(b"stsz", 3), handler(b"soun")))
    tamed = tame(data, Limits()).data
    assert (tamed.count(b"stsz"), tamed.count(b"hdlr")) == (1, 1)


def test_compressed_indexes_are_passed_over() -> None:
    data = file(track(counted(b"stsz", 1)), box(b"cmov", box(b"dcom", b"zlib")))
    assert b"cmov" not in tame(data, Limits()).data


@pytest.mark.parametrize("kind", [b"stsz", b"stz2"])
def test_more_samples_than_believable_are_refused(kind: bytes) -> None:
    with pytest.raises(TooLarge, match="max_samples is 1000") as caught:
        tame(file(track(counted(kind, 600)), track(counted(kind, 401))), Limits(max_samples=1000))
    assert (caught.value.field, caught.value.limit) == ("video", 1000)


def test_samples_of_fragments_count() -> None:
    fragment = box(b"moof", box(b"mfhd"), box(b"traf", box(b"tfhd"), counted(b"trun", 2**32 - 1)))
    with pytest.raises(TooLarge):
        tame(file(track(counted(b"stsz", 0))) + fragment, Limits())


def test_edits_multiply_samples() -> None:
    edits = box(b"edts", counted(b"elst", 20_000))
    with pytest.raises(TooLarge):
        tame(file(track(counted(b"stsz", 1000), edits=edits)), Limits())


def test_a_cut_off_file_keeps_what_is_whole() -> None:
    data = file(track(counted(b"stsz", 3)))
    cut = data[:-7]
    assert tame(cut, Limits()).data == cut
    fragment = box(b"moof", box(b"mfhd"), box(b"traf", counted(b"trun", 3)))
    assert tame(data + fragment[:-4], Limits()).data[len(data) + 4 :][:4] == b"skip"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (box(b"ftyp", b"isom"), "moov"),
        (file(track(counted(b"stsz", 3)))[:60], "moov"),
        (file(), "no video stream"),
        (file(track(kind=b"soun")), "no video stream"),
        (file(box(b"trak", box(b"mdia", handler(b"vide"), handler(b"soun")))), "no video stream"),
        (file(track(struct.pack(">I4s", 99, b"stsz"))), "larger than"),
        (file(track(struct.pack(">I4s", 5, b"stsz"))), "impossible size"),
        (file(track(box(b"stsz", bytes(6)))), "too short"),
        (file(track(box(b"stsd", bytes(8), box(b"avc1", bytes(20))))), "too short"),
        (file(track(entry(depth=8))), "colour table"),
    ],
)
def test_a_broken_file_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(Undecodable, match=reason) as caught:
        tame(data, Limits())
    assert caught.value.field == "video"


def test_endless_boxes_are_refused_soon() -> None:
    start = time.monotonic()
    with pytest.raises(Undecodable, match="100000 boxes"):
        tame(box(b"free") * 2_000_000, Limits())
    assert time.monotonic() - start < 5
