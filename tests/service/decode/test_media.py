from __future__ import annotations

import pytest

from service.decode.media import CLIPS, PICTURES, check_declared, identify, sniff
from service.errors import InvalidInput, UnsupportedMedia


def ftyp(major: bytes, *others: bytes) -> bytes:
    body = b"ftyp" + major + bytes(4) + b"".join(others)
    return (len(body) + 4).to_bytes(4, "big") + body + b"\0\0\0\x08free"


def ebml(doctype: bytes) -> bytes:
    body = b"\x42\x86\x81\x01\x42\x82" + bytes([0x80 | len(doctype)]) + doctype
    return b"\x1a\x45\xdf\xa3" + bytes([0x80 | len(body)]) + body


@pytest.mark.parametrize(
    ("data", "media"),
    [
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        (b"GIF87a", "image/gif"),
        (b"GIF89a", "image/gif"),
        (ftyp(b"isom"), "video/mp4"),
        (ftyp(b"mp42"), "video/mp4"),
        (ftyp(b"avc1"), "video/mp4"),
        (ftyp(b"qt  "), "video/quicktime"),
        (ftyp(b"XAVC", b"mp42"), "video/mp4"),
        (b"\0\0\0\x08wide", "video/quicktime"),
        (ebml(b"webm"), "video/webm"),
        (ebml(b"matroska"), "video/x-matroska"),
        (ebml(b"other"), None),
        (ftyp(b"avif", b"mif1", b"isom"), None),
        (ftyp(b"heic", b"mif1"), None),
        (ftyp(b"none"), None),
        (b"\0\0\0\0ftyp", None),
        (b"RIFF\0\0\0\0WAVE", None),
        (b"#EXTM3U\n/etc/passwd", None),
        (b"ffconcat version 1.0", None),
        (b"<svg xmlns=", None),
        (b"\xff", None),
        (b"", None),
    ],
)
def test_bytes_are_known_by_their_first_few(data: bytes, media: str | None) -> None:
    assert sniff(data) == media


@pytest.mark.parametrize("declared", [None, "", "application/octet-stream", "image/jpeg", "IMAGE/JPG; q=1"])
def test_a_type_that_agrees_is_accepted(declared: str | None) -> None:
    check_declared(declared, "image/jpeg")


@pytest.mark.parametrize(
    ("declared", "actual"),
    [
        ("video/mp4", "video/quicktime"),
        ("video/quicktime", "video/mp4"),
        ("video/x-matroska;codecs=avc1", "video/webm"),
        ("video/webm", "video/x-matroska"),
        ("video/x-m4v", "video/mp4"),
    ],
)
def test_names_of_one_container_agree(declared: str, actual: str) -> None:
    check_declared(declared, actual)


@pytest.mark.parametrize("declared", ["image/png", "text/plain", "video/mp4", "nonsense"])
def test_a_type_that_disagrees_is_refused(declared: str) -> None:
    with pytest.raises(UnsupportedMedia, match="image/jpeg") as caught:
        check_declared(declared, "image/jpeg")
    assert caught.value.field == "content-type"


def test_no_bytes_are_said_to_be_none() -> None:
    with pytest.raises(InvalidInput, match="no bytes") as caught:
        identify(b"", declared=None, accepted=PICTURES, field="image")
    assert caught.value.field == "image"


def test_unknown_bytes_are_unsupported() -> None:
    with pytest.raises(UnsupportedMedia, match="none of image/jpeg") as caught:
        identify(b"hello", declared="image/jpeg", accepted=PICTURES, field="image")
    assert caught.value.field == "image"


def test_a_clip_is_no_picture() -> None:
    with pytest.raises(UnsupportedMedia, match="video/mp4"):
        identify(ftyp(b"isom"), declared=None, accepted=PICTURES, field="image")


def test_a_gif_is_both_a_picture_and_a_clip() -> None:
    for accepted in (PICTURES, CLIPS):
        assert identify(b"GIF89a", declared="image/gif", accepted=accepted, field="f") == "image/gif"
