"""What a demuxer may see of a WebM or Matroska file: its video tracks and their frames, written anew.

A demuxer unfolds indexes, tags, tracks and the frames of a block before the first picture is read, and two
bytes of file can cost hundreds of memory. Once it has met an error it looks for an index anywhere, within
frames too. So the elements are walked first (RFC 8794, RFC 9559), and what is needed to read pictures is
copied into a new file in which every size is right.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from service.decode.container import Tamed
from service.decode.limits import Limits
from service.errors import TooLarge, Undecodable

FIELD = "video"
MAX_ELEMENTS = 200_000  # of a minute there are some thousand

_EBML, _SEGMENT, _INFO, _TRACKS, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1549A966, 0x1654AE6B, 0x1F43B675
_SEEK_HEAD, _CUES, _TAGS, _CHAPTERS, _FILES = 0x114D9B74, 0x1C53BB6B, 0x1254C367, 0x1043A770, 0x1941A469
_TOP = {_EBML, _SEGMENT, _INFO, _TRACKS, _CLUSTER, _SEEK_HEAD, _CUES, _TAGS, _CHAPTERS, _FILES}
_ENTRY, _NUMBER, _TYPE, _VIDEO, _WIDTH, _HEIGHT = 0xAE, 0xD7, 0x83, 0xE0, 0xB0, 0xBA
_TIME, _SIMPLE, _GROUP, _BLOCK = 0xE7, 0xA3, 0xA0, 0xA1
_ENCODINGS = 0x6D80
_PICTURES = 1
_LACED = 0x06

_UINT, _FLOAT, _NAME, _BYTES = range(9), (0, 4, 8), range(257), range(2**31)  # how long a value may be
_Rule = Any  # lengths of a value, or the rules of the elements within

_INFO_RULES: _Rule = {0x2AD7B1: _UINT, 0x4489: _FLOAT}  # TimestampScale, Duration
_COLOUR: _Rule = dict.fromkeys(
    [0x55B1, 0x55B2, 0x55B3, 0x55B4, 0x55B7, 0x55B8, 0x55B9, 0x55BA, 0x55BB], _UINT
)
_PROJECTION: _Rule = {0x7671: _UINT, 0x7673: _FLOAT, 0x7674: _FLOAT, 0x7675: _FLOAT}  # type, yaw, pitch, roll
_ENTRY_RULES: _Rule = {
    _NUMBER: _UINT,
    0x73C5: _UINT,  # uid
    _TYPE: _UINT,
    0x23E383: _UINT,  # default duration
    0x23314F: _FLOAT,  # timestamp scale
    0x86: _NAME,  # codec
    0x63A2: _BYTES,  # codec's own data
    0x56AA: _UINT,  # codec delay
    _VIDEO: {
        0x9A: _UINT,  # interlaced
        0x9D: _UINT,  # field order
        _WIDTH: _UINT,
        _HEIGHT: _UINT,
        0x54B0: _UINT,  # display width, height, unit
        0x54BA: _UINT,
        0x54B2: _UINT,
        0x55B0: _COLOUR,
        0x7670: _PROJECTION,
    },
}
_GROUP_RULES: _Rule = {
    _BLOCK: _BYTES,
    0x9B: _UINT,
    0xFB: _UINT,
    0x75A2: _UINT,
}  # duration, reference, discard


class Element(NamedTuple):
    """An element's kind, where its header starts, and the bounds of its content; the end may be unknown."""

    kind: int
    start: int
    content: int
    end: int
    sized: bool


class _Damaged(Exception):
    """What follows cannot be read."""


def tame(data: bytes, limits: Limits) -> Tamed:
    """The file's video alone, up to where it is damaged. Raises Undecodable, TooLarge."""
    walk = _Walk(data, limits)
    try:
        walk.visit()
    except _Damaged as error:
        if not walk.frames:
            raise Undecodable(f"the container is damaged: {error}", field=FIELD) from None
    if not walk.numbers:
        raise Undecodable("the container has no video stream", field=FIELD)
    head = _element(_EBML, b"\x42\x82\x88matroska")
    body = b"".join((_element(_INFO, walk.info), _element(_TRACKS, b"".join(walk.tracks)), *walk.clusters))
    return Tamed(head + _element(_SEGMENT, body), size=walk.size, entries=walk.frames)


def _element(kind: int, body: bytes) -> bytes:
    return (
        kind.to_bytes((kind.bit_length() + 7) // 8, "big") + (1 << 56 | len(body)).to_bytes(8, "big") + body
    )


class _Walk:
    def __init__(self, data: bytes, limits: Limits) -> None:
        self.data = data
        self.limits = limits
        self.elements = 0
        self.info = b""
        self.tracks: list[bytes] = []
        self.clusters: list[bytes] = []
        self.numbers: set[int] = set()
        self.size = (0, 0)
        self.frames = 0

    def visit(self) -> None:
        """The first segment, its parts in the order in which they lie."""
        for outer in self.children(0, len(self.data)):
            if outer.kind != _SEGMENT:
                continue
            for part in self.children(outer.content, outer.end):
                if part.kind == _INFO:
                    self.info = self.copy(part, _INFO_RULES)
                elif part.kind == _TRACKS:
                    self.visit_tracks(part)
                elif part.kind == _CLUSTER:
                    self.visit_cluster(part)
            return

    def visit_tracks(self, tracks: Element) -> None:
        for entry in self.children(tracks.content, tracks.end):
            if entry.kind != _ENTRY:
                continue
            found = {child.kind: child for child in self.children(entry.content, entry.end)}
            if _NUMBER not in found or self.value(found.get(_TYPE)) != _PICTURES:
                continue
            if _ENCODINGS in found:
                raise Undecodable("clips whose frames are packed or encrypted are not read", field=FIELD)
            self.numbers.add(self.value(found[_NUMBER]))
            self.tracks.append(_element(_ENTRY, self.copy(entry, _ENTRY_RULES)))
            self.limits.hold("max_streams", len(self.tracks), field=FIELD, what="video streams")

    def visit_cluster(self, cluster: Element) -> None:
        """The frames of video; what was read before damage is kept."""
        parts: list[bytes] = []
        try:
            for child in self.children(cluster.content, cluster.end):
                if child.kind in _TOP and not cluster.sized:
                    break
                if child.kind == _TIME:
                    parts.append(self.leaf(child, _UINT))
                elif child.kind == _SIMPLE and self.shows_pictures(child):
                    parts.append(self.leaf(child, _BYTES))
                elif child.kind == _GROUP:
                    blocks = [one for one in self.children(child.content, child.end) if one.kind == _BLOCK]
                    if len(blocks) == 1 and self.shows_pictures(blocks[0]):
                        parts.append(_element(_GROUP, self.copy(child, _GROUP_RULES)))
        finally:
            self.clusters.append(_element(_CLUSTER, b"".join(parts)))

    def shows_pictures(self, block: Element) -> bool:
        """Whether a block is of a video track; counts it."""
        number, at, _ = self.number(block.content, block.end)
        if at + 3 > block.end:
            raise _Damaged("a block is too short")
        if number not in self.numbers:
            return False
        if self.data[at + 2] & _LACED:
            raise Undecodable("clips with several frames in one block are not read", field=FIELD)
        self.frames += 1
        return True

    def copy(self, element: Element, rules: _Rule) -> bytes:
        """The content of an element, as far as there are rules for what lies in it."""
        parts = []
        for child in self.children(element.content, element.end):
            rule = rules.get(child.kind)
            if isinstance(rule, dict):
                parts.append(_element(child.kind, self.copy(child, rule)))
            elif rule is not None:
                parts.append(self.leaf(child, rule))
            if child.kind in (_WIDTH, _HEIGHT):
                width, height = self.size
                value = self.value(child)
                self.size = (
                    (max(width, value), height) if child.kind == _WIDTH else (width, max(height, value))
                )
        return b"".join(parts)

    def leaf(self, element: Element, lengths: Any) -> bytes:
        if element.end - element.content not in lengths:
            raise _Damaged(f"element {element.kind:X} has a wrong size")
        return self.data[element.start : element.end]

    def value(self, element: Element | None) -> int:
        """An unsigned number; -1 where there is none."""
        return -1 if element is None else int.from_bytes(self.data[element.content : element.end][:8], "big")

    def children(self, start: int, end: int) -> Iterator[Element]:
        """The elements that lie between two positions."""
        while start < end:
            element = self.element(start, end)
            yield element
            start = element.end

    def element(self, start: int, end: int) -> Element:
        self.elements += 1
        if self.elements > MAX_ELEMENTS:
            raise TooLarge(
                f"more than {MAX_ELEMENTS} elements in the container", field=FIELD, limit=MAX_ELEMENTS
            )
        width = 9 - self.data[start].bit_length()
        kind, at = int.from_bytes(self.data[start : start + width], "big"), start + width
        if width > 4 or at >= end:
            raise _Damaged("an element's name cannot be read")
        size, content, sized = self.number(at, end)
        if sized and content + size <= end:
            return Element(kind, start, content, content + size, True)
        if kind == _SEGMENT or (kind == _CLUSTER and sized):  # what is cut off is read as far as it goes
            return Element(kind, start, content, end, True)
        if kind == _CLUSTER:
            return Element(kind, start, content, self.cluster_end(content, end), False)
        raise _Damaged("an element is larger than what it lies in")

    def cluster_end(self, start: int, end: int) -> int:
        """Where a cluster of unknown size ends: at the first element that can lie in none."""
        try:
            return next((one.start for one in self.children(start, end) if one.kind in _TOP), end)
        except _Damaged:
            return end

    def number(self, start: int, end: int) -> tuple[int, int, bool]:
        """A number of variable length, where it ends, and whether it is any number at all."""
        if start >= end:
            raise _Damaged("it ends in the middle of an element")
        width = 9 - self.data[start].bit_length()
        stop = start + width
        if width > 8 or stop > end:
            raise _Damaged("a number in it cannot be read")
        mask = (1 << 7 * width) - 1
        value = int.from_bytes(self.data[start:stop], "big") & mask
        return value, stop, value != mask
