"""A clip's container as a demuxer may see it, and the memory that it then takes."""

from __future__ import annotations

import struct
from typing import NamedTuple

from service.decode.limits import Limits

# As measured: pictures a decoder keeps to predict from, of at most so many bytes a pixel, and what a demuxer
# and its caller keep of each entry in an index, and of the file.
_KEPT_PICTURES = 18
_KEPT_BY_GIF = 4
_PIXEL_BYTES = 3
_ENTRY_BYTES = 500
_FILE_COPIES = 5

# A coded frame is a little larger than what is shown of it; containers that lie a little are forgiven.
_MARGIN = 128
_LEAST_PIXELS = 2**18

_GIF_FRAME = b"\x2c"
_MOST_GIF_FRAMES = 400_000  # a demuxer reads 5 MB ahead, and a frame has 13 bytes at least


class Tamed(NamedTuple):
    """Bytes that unfold into no more than they say: so many entries and frames of at most this size.

    `size` is width and height in pixels, before rotation; `entries` are what a demuxer keeps in memory each.
    """

    data: bytes
    size: tuple[int, int]
    entries: int

    def coded_pixels(self, limits: Limits) -> int:
        """The largest frame that is decoded, whatever the frames' own headers say."""
        width, height = self.size
        return max((width + _MARGIN) * (height + _MARGIN), min(_LEAST_PIXELS, limits.max_pixels))

    def peak(self, coded: int) -> int:
        """Bytes of memory to open the clip and decode it, beside the frames that are sampled."""
        read = _FILE_COPIES * len(self.data) + _ENTRY_BYTES * self.entries
        return read + _KEPT_PICTURES * _PIXEL_BYTES * coded


def beyond(coded: int, bits: int, *, gif: bool) -> int:
    """Bytes of memory that a pixel format of so many bits takes beyond those of `Tamed.peak`; may be less."""
    kept = _KEPT_BY_GIF if gif else _KEPT_PICTURES
    return (kept * bits // 8 - _KEPT_PICTURES * _PIXEL_BYTES) * coded


def tame_gif(data: bytes) -> Tamed:
    """A GIF as it is: its frames lie within its canvas, and there are no more than marks of one."""
    width, height = struct.unpack_from("<HH", data.ljust(10, b"\0"), 6)
    return Tamed(data, size=(width, height), entries=min(data.count(_GIF_FRAME), _MOST_GIF_FRAMES))
