"""Pictures to bytes, for speed first: at 1280 pixels most of the time of drawing is spent here."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from io import BytesIO

import av
import numpy as np
from PIL import Image

# Where pixels are few, blurred colours at the edges of cells show and lossless costs nothing.
LOSSLESS_PIXELS = 64 * 1024
QUALITY = 88


def png(picture: Image.Image) -> bytes:
    """By FFmpeg, with one filter for all rows: Pillow tries five on each, and takes nearly twice as long."""
    codec = av.CodecContext.create("png", "w")
    assert isinstance(codec, av.VideoCodecContext)
    codec.width, codec.height = picture.size
    codec.pix_fmt, codec.time_base, codec.thread_count = "rgb24", Fraction(1), 1
    codec.options = {"pred": "up", "compression_level": "1"}
    frame = av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")
    return b"".join(map(bytes, (*codec.encode(frame), *codec.encode(None))))


def webp(picture: Image.Image) -> bytes:
    """Lossless up to LOSSLESS_PIXELS."""
    out = BytesIO()
    if picture.width * picture.height <= LOSSLESS_PIXELS:
        picture.save(out, "WEBP", lossless=True, quality=20, method=0)
    else:
        picture.save(out, "WEBP", quality=QUALITY, method=0)
    return out.getvalue()


def animation(pictures: Sequence[Image.Image], durations: Sequence[int]) -> bytes:
    """An endless animated WebP; durations in milliseconds, one for each picture. Lossless like `webp`."""
    first, *others = pictures
    lossless = first.width * first.height <= LOSSLESS_PIXELS
    out = BytesIO()
    first.save(
        out,
        "WEBP",
        save_all=True,
        append_images=others,
        duration=list(durations),
        loop=0,
        lossless=lossless,
        quality=20 if lossless else QUALITY,
        method=0,
    )
    return out.getvalue()
