"""A clip's container as a demuxer may see it."""

from __future__ import annotations

import struct
from typing import NamedTuple


class Tamed(NamedTuple):
    """Bytes that unfold into no more than they say: so many entries and frames of at most this size.

    `size` is width and height in pixels, before rotation; `entries` are what a demuxer keeps in memory each.
    """

    data: bytes
    size: tuple[int, int]
    entries: int


def tame_gif(data: bytes) -> Tamed:
    """A GIF as it is: its canvas bounds its frames, and each costs as many bytes as a frame header has."""
    size = struct.unpack_from("<HH", data.ljust(10, b"\0"), 6)
    return Tamed(data, size=(size[0], size[1]), entries=len(data) // 10)
