"""How much of a request is decoded: one number for each way in which input can be made to cost."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from typing import Literal

from service.errors import TooLarge

Name = Literal[
    "max_characters",
    "max_pixels",
    "max_scans",
    "max_clip_seconds",
    "max_clip_frames",
    "max_clip_pixels",
    "max_decoded_frames",
    "max_samples",
    "max_streams",
    "decode_bytes",
    "decode_seconds",
]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds on decoding; the size of a body is bounded before.

    max_characters      of a text
    max_pixels          of a picture or of one frame of a clip, before and after the resize
    max_scans           of a progressive JPEG: each costs a pass over the whole picture
    max_clip_seconds    from a clip's first frame to the end of its last
    max_clip_frames     in a clip, counted
    max_clip_pixels     of the sampled frames together, which are kept to be drawn on
    max_decoded_frames  decoded on the way to the sampled ones
    max_samples         entries in an MP4's index, which the demuxer unfolds before the first frame is read
    max_streams         in a container; of an MP4, those of pictures
    decode_bytes        of memory, for all that is decoded at one time
    decode_seconds      of wall clock for one picture or clip, and of waiting for memory
    """

    max_characters: int = 100_000
    max_pixels: int = 50_000_000
    max_scans: int = 100
    max_clip_seconds: float = 120.0
    max_clip_frames: int = 10_000
    max_clip_pixels: int = 150_000_000
    max_decoded_frames: int = 2_000
    max_samples: int = 1_000_000
    max_streams: int = 16
    decode_bytes: int = 1024**3
    decode_seconds: float = 20.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) <= 0:
                raise ValueError(f"{field.name} must be positive, got {getattr(self, field.name)}")

    def hold(self, name: Name, found: float, *, field: str, what: str) -> None:
        """Raise TooLarge, naming the limit, if `found` is beyond it; `what` says what was counted."""
        limit = getattr(self, name)
        if found > limit:
            shown = f"{found:.1f}" if isinstance(found, float) else str(found)
            raise TooLarge(f"{shown} {what}, {name} is {limit}", field=field, limit=limit)


class Deadline:
    """The wall clock budget of one decode, started when made."""

    def __init__(self, *, limits: Limits, field: str) -> None:
        self._limits = limits
        self._field = field
        self.restart()

    def restart(self) -> None:
        """Forget the time until now, which was spent waiting."""
        self._start = time.monotonic()

    def check(self) -> None:
        """Raise TooLarge if the time is up."""
        elapsed = time.monotonic() - self._start
        self._limits.hold("decode_seconds", elapsed, field=self._field, what="seconds of decoding")
