"""What a demuxer may see of an MP4 or QuickTime file: the picture track's boxes, with believable counts.

A demuxer unfolds an index of N samples before it reads the first, and N is a number in the file: two thousand
bytes can ask for gigabytes. So the boxes are walked first (ISO/IEC 14496-12), the counts are held to a limit,
and every box that is not needed to read pictures (sound, metadata, compressed or external indexes) is renamed
to `skip`, which demuxers pass over.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from service.decode.container import Tamed
from service.decode.limits import Limits
from service.errors import Undecodable

FIELD = "video"

_CHILDREN: dict[bytes, frozenset[bytes]] = {
    b"file": frozenset({b"ftyp", b"moov", b"moof", b"mdat"}),
    b"moov": frozenset({b"mvhd", b"trak", b"mvex"}),
    b"mvex": frozenset({b"trex"}),
    b"trak": frozenset({b"tkhd", b"edts", b"mdia"}),
    b"edts": frozenset({b"elst"}),
    b"mdia": frozenset({b"mdhd", b"hdlr", b"minf"}),
    b"minf": frozenset({b"stbl"}),
    b"stbl": frozenset(
        {b"stsd", b"stts", b"ctts", b"stss", b"stps", b"stsc", b"stsz", b"stz2", b"stco", b"co64"}
    ),
    b"stsd": frozenset({b"avcC", b"hvcC", b"av1C", b"vpcC", b"esds", b"colr", b"pasp", b"fiel"}),
    b"moof": frozenset({b"mfhd", b"traf"}),
    b"traf": frozenset({b"tfhd", b"tfdt", b"trun"}),
}
_COUNT_AT = {b"stsz": 8, b"stz2": 8, b"trun": 4, b"elst": 4}
_SKIP = b"skip"
_MAX_BOXES = 100_000
_SAMPLE_ENTRY = 86  # bytes of a video sample entry before its own boxes
_SIZE_AT = 32
_DEPTH_AT = 82
_PALETTE_DEPTHS = (1, 2, 4, 8)


class Box(NamedTuple):
    """A box's type, where its header starts, and the bounds of its content."""

    kind: bytes
    start: int
    content: int
    end: int


def tame(data: bytes, limits: Limits) -> Tamed:
    """The file with all but its picture tracks' boxes renamed. Raises Undecodable, TooLarge."""
    walk = _Walk(data, limits)
    walk.visit(b"file", 0, len(data))
    if not walk.tracks and not walk.moov:
        raise Undecodable("the container's index (moov) is missing or cut off", field=FIELD)
    if not walk.tracks:
        raise Undecodable("the container has no video stream", field=FIELD)
    limits.hold("max_streams", walk.tracks, field=FIELD, what="video streams")
    entries = walk.samples * max(1, walk.edits - 1)
    limits.hold("max_samples", entries, field=FIELD, what="samples in the container's index, times its edits")
    return Tamed(bytes(walk.data), size=walk.size, entries=entries)


class _Walk:
    def __init__(self, data: bytes, limits: Limits) -> None:
        self.data = bytearray(data)
        self.limits = limits
        self.boxes = 0
        self.moov = False
        self.tracks = 0
        self.samples = 0
        self.edits = 0
        self.size = (0, 0)

    def visit(self, parent: bytes, start: int, end: int) -> None:
        """Rename what does not belong in `parent`, count what does."""
        for box in self.children(parent, start, end):
            if box.kind not in _CHILDREN[parent] or (box.kind == b"trak" and not self.shows_pictures(box)):
                self.data[box.start + 4 : box.start + 8] = _SKIP
            elif box.kind == b"stsd":
                self.visit_entries(box)
            elif box.kind in _CHILDREN:
                self.moov |= box.kind == b"moov"
                self.tracks += box.kind == b"trak"
                self.visit(box.kind, box.content, box.end)
            elif box.kind == b"elst":
                self.edits += self.count(box)
            elif box.kind in _COUNT_AT:
                self.samples += self.count(box)

    def visit_entries(self, stsd: Box) -> None:
        """The sample entries: a fixed head, then boxes."""
        for entry in self.children(b"stsd", stsd.content + 8, stsd.end):
            if entry.content - entry.start != 8 or entry.end - entry.start < _SAMPLE_ENTRY:
                raise Undecodable("a sample entry of the container is too short", field=FIELD)
            if self.data[entry.start + _DEPTH_AT + 1] & 0x1F in _PALETTE_DEPTHS:
                raise Undecodable("clips with a colour table are not read", field=FIELD)
            wide, high = struct.unpack_from(">HH", self.data, entry.start + _SIZE_AT)
            self.size = (max(self.size[0], wide), max(self.size[1], high))
            self.visit(b"stsd", entry.start + _SAMPLE_ENTRY, entry.end)

    def shows_pictures(self, trak: Box) -> bool:
        """Whether a track's handler is that of video."""
        handlers = [
            bytes(self.data[box.content + 8 : box.content + 12])
            for media in self.children(b"trak", trak.content, trak.end)
            if media.kind == b"mdia"
            for box in self.children(b"mdia", media.content, media.end)
            if box.kind == b"hdlr"
        ]
        return handlers == [b"vide"]

    def count(self, box: Box) -> int:
        at = box.content + _COUNT_AT[box.kind]
        if at + 4 > box.end:
            raise Undecodable(f"box {box.kind.decode()} of the container is too short", field=FIELD)
        return int.from_bytes(self.data[at : at + 4], "big")

    def children(self, parent: bytes, start: int, end: int) -> Iterator[Box]:
        """The boxes that lie between two positions."""
        while start + 8 <= end:
            box = self.box(parent, start, end)
            yield box
            start = box.end

    def box(self, parent: bytes, start: int, end: int) -> Box:
        self.boxes += 1
        if self.boxes > _MAX_BOXES:
            raise Undecodable(f"the container has more than {_MAX_BOXES} boxes", field=FIELD)
        size = int.from_bytes(self.data[start : start + 4], "big")
        kind = bytes(self.data[start + 4 : start + 8])
        content = start + 8
        if size == 1 and content + 8 <= end:
            size = int.from_bytes(self.data[content : content + 8], "big")
            content += 8
        stop = start + size if size else end
        if stop < content:
            raise Undecodable("a box of the container has an impossible size", field=FIELD)
        if stop > end:
            if parent != b"file":
                raise Undecodable("a box of the container is larger than what it lies in", field=FIELD)
            # A file that was cut off: media data is read as far as it goes, half an index is none.
            return Box(kind if kind == b"mdat" else _SKIP, start, content, end)
        return Box(kind, start, content, stop)
