"""What bytes are, by their first few, and whether that is what they were said to be."""

from __future__ import annotations

import re

from service.errors import InvalidInput, UnsupportedMedia

PICTURES = ("image/jpeg", "image/png", "image/webp", "image/gif")
CLIPS = ("video/mp4", "video/quicktime", "video/webm", "video/x-matroska", "image/gif")

_PREFIXES = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)
_EBML = b"\x1a\x45\xdf\xa3"
_DOCTYPE = re.compile(rb"\x42\x82.{1,8}?(webm|matroska)", re.DOTALL)
_MATROSKA = {b"webm": "video/webm", b"matroska": "video/x-matroska"}
_MP4_BRAND = re.compile(rb"iso[m2-9]|mp4[12]|avc1|M4V.|dash|3g[p2].|mmp4|MSNV|f4v |hvc1|cmf[cf]|msdh")
_IMAGE_BRAND = re.compile(rb"avi[fs]|hei[cxms]|hev[cx]|mif1|msf1|crx ")

# Names in use for one thing. Cameras and browsers label MP4 and QuickTime, WebM and Matroska by the file's
# name, and their bytes are read by one demuxer each.
_ALIASES = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-png": "image/png",
    "image/apng": "image/png",
    "application/mp4": "video/mp4",
    "video/quicktime": "video/mp4",
    "video/x-m4v": "video/mp4",
    "video/3gpp": "video/mp4",
    "video/3gpp2": "video/mp4",
    "video/matroska": "video/webm",
    "video/x-matroska": "video/webm",
}


def sniff(data: bytes) -> str | None:
    """The media type the bytes have, or None where they are nothing that is read here."""
    for prefix, media in _PREFIXES:
        if data.startswith(prefix):
            return media
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data[:4] == _EBML:
        doctype = _DOCTYPE.search(data[:256])
        return _MATROSKA[doctype[1]] if doctype else None
    if data[4:8] == b"ftyp":
        return _brand(data)
    if data[4:8] in (b"moov", b"mdat", b"wide"):  # QuickTime before it had brands
        return "video/quicktime"
    return None


def _brand(data: bytes) -> str | None:
    """An ISO file's type by its major brand, or where that is unknown by the brands it is compatible with."""
    end = min(int.from_bytes(data[:4], "big"), 256)
    major, *others = (data[at : at + 4] for at in (8, *range(16, end, 4)))
    if _IMAGE_BRAND.fullmatch(major):
        return None
    for brand in (major, *others):
        if brand == b"qt  ":
            return "video/quicktime"
        if _MP4_BRAND.fullmatch(brand):
            return "video/mp4"
    return None


def declared_type(declared: str | None) -> str | None:
    """What a client says the bytes are, without parameters; None where it says nothing.

    `curl --data-binary` says that whatever it sends is a form.
    """
    said = (declared or "").partition(";")[0].strip().lower()
    nothing = ("", "application/octet-stream", "application/x-www-form-urlencoded")
    return None if said in nothing else said


def check_declared(declared: str | None, actual: str) -> None:
    """Raise UnsupportedMedia if a declared media type is not what the bytes are."""
    said = declared_type(declared)
    if said is None:
        return
    if _ALIASES.get(said, said) != _ALIASES.get(actual, actual):
        raise UnsupportedMedia(f"declared as {said[:80]!r}, but the bytes are {actual}", field="content-type")


def identify(data: bytes, *, declared: str | None, accepted: tuple[str, ...], field: str) -> str:
    """The media type of `data`, which is one of `accepted`.

    Raises InvalidInput for no bytes at all, UnsupportedMedia for what is not read or not as declared.
    """
    if not data:
        raise InvalidInput("no bytes were sent", field=field)
    actual = sniff(data)
    if actual is None:
        raise UnsupportedMedia(f"the bytes are none of {', '.join(accepted)}", field=field)
    check_declared(declared, actual)
    if actual not in accepted:
        raise UnsupportedMedia(f"the bytes are {actual}, not one of {', '.join(accepted)}", field=field)
    return actual
