"""Pictures to pixels."""

from __future__ import annotations

import io
import itertools
import re
import warnings
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from service.bundle import ImageInput
from service.decode.budget import Budget
from service.decode.item import ImageItem
from service.decode.limits import Deadline, Limits
from service.decode.media import PICTURES, identify
from service.decode.preprocess import Preprocessor
from service.errors import Problem, TooLarge, Undecodable

FIELD = "image"

# Pillow warns of what it meets in a damaged file; a client's file is no warning to the server's operator.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

# The plugins themselves, not Image.open: nothing but these is ever tried, and the size is ours to judge.
_READERS: dict[str, type[ImageFile.ImageFile]] = {
    "image/jpeg": JpegImageFile,
    "image/png": PngImageFile,
    "image/webp": WebPImageFile,
    "image/gif": GifImageFile,
}
# Bytes of memory for a pixel, the most that was measured over modes and orientations, and for a byte of the
# file, which plugins copy. Of an animated WebP libwebp keeps two canvases.
PEAK = {"image/jpeg": 13, "image/png": 17, "image/webp": 18, "image/gif": 14}
PEAK_ANIMATED = 26
PEAK_OF_FILE = 3
_BAND = 256  # rows
_SEGMENT = re.compile(rb"\xff[\xe0-\xef\xfe]")  # of a JPEG: notes, not pictures
_MAX_PARTS = 50_000  # chunks or segments: each is kept from the header on, at many times its size
_SCAN = b"\xff\xda"
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = tuple(_UPRIGHT[orientation] for orientation in (5, 6, 7, 8))


class ImageDecoder:
    """JPEG, PNG, WebP or the first frame of a GIF to `pixels` [3, h, w] float32; safe in several threads."""

    def __init__(self, spec: ImageInput, limits: Limits | None = None, budget: Budget | None = None) -> None:
        self._spec = spec
        self._limits = limits or Limits()
        self._budget = budget or Budget(self._limits)
        self._preprocessor = Preprocessor(spec=spec, limits=self._limits, field=FIELD)

    def decode(self, data: bytes, *, content_type: str | None = None) -> ImageItem:
        """A picture upright and in RGB: transparency over white, of 16 bits the upper 8.

        Raises InvalidInput, TooLarge, UnsupportedMedia, Undecodable, Overloaded.
        """
        image, media, deadline = self._read(data, content_type)
        with self._budget.reserve(self._peak(image, data, media), field=FIELD):
            deadline.restart()
            picture = _pixels(image)
            del image  # which keeps what was decoded, before it was turned and became RGB
            return self._item(picture, media)

    def canvas(
        self, data: bytes, drawn: Callable[[int, int], tuple[int, int]], *, content_type: str | None = None
    ) -> ImageItem:
        """A picture to draw on: no tensors, and no larger than it is drawn.

        `drawn` gives the size in which an original of this width and height is drawn. A JPEG that is at least
        twice as large is not decoded in full. Raises like `decode`.
        """
        image, media, deadline = self._read(data, content_type)
        with self._budget.reserve(self._peak(image, data, media), field=FIELD):
            deadline.restart()
            size = None
            if isinstance(image, JpegImageFile):
                width, height = image.size
                size = (height, width) if _turn(image) in _SIDEWAYS else (width, height)
                image.draft(None, drawn(width, height))
            picture = _pixels(image)
            del image
            view = self._preprocessor.view(*(size or picture.size))
            smaller = drawn(view.width, view.height)
            if smaller < picture.size:
                picture = picture.resize(smaller, Image.Resampling.BILINEAR, reducing_gap=1.0)
            return ImageItem(tensors={}, original=_array(picture), view=view, format=media)

    def _read(self, data: bytes, content_type: str | None) -> tuple[ImageFile.ImageFile, str, Deadline]:
        """A picture of which the header was read, its type, and the time it may take."""
        media = identify(data, declared=content_type, accepted=PICTURES, field=FIELD)
        if _parts(data, media) > _MAX_PARTS:
            raise TooLarge(f"the file has more than {_MAX_PARTS} parts", field=FIELD, limit=_MAX_PARTS)
        if media == "image/jpeg":
            self._limits.hold("max_scans", data.count(_SCAN), field=FIELD, what="scans in a JPEG")
        deadline = Deadline(limits=self._limits, field=FIELD)
        image = self._open(data, media, deadline)
        width, height = image.size
        self._limits.hold("max_pixels", width * height, field=FIELD, what=f"pixels ({width}x{height})")
        return image, media, deadline

    def _peak(self, image: ImageFile.ImageFile, data: bytes, media: str) -> int:
        """Bytes of memory to decode a picture whose header was read."""
        width, height = image.size
        animated = media == "image/webp" and getattr(image, "is_animated", False)
        each = PEAK_ANIMATED if animated else PEAK[media]
        return each * width * height + PEAK_OF_FILE * len(data) + self._preprocessor.peak(width, height)

    def blank(self) -> ImageItem:
        """A black picture, for warming up."""
        return self._item(Image.new("RGB", (self._spec.width, self._spec.height)), "image/png")

    def _item(self, image: Image.Image, media: str) -> ImageItem:
        view = self._preprocessor.view(*image.size)
        return ImageItem(
            tensors={"pixels": self._preprocessor.pixels(image, view)},
            original=_array(image),
            view=view,
            format=media,
        )

    def _open(self, data: bytes, media: str, deadline: Deadline) -> ImageFile.ImageFile:
        try:
            return _READERS[media](_Timed(data, deadline))
        except Problem:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            limit = self._limits.max_pixels
            raise TooLarge(
                f"more pixels than max_pixels, which is {limit}", field=FIELD, limit=limit
            ) from error
        except Exception as error:  # whatever the plugins' parsers stumble over
            raise Undecodable(f"the {media} header cannot be read", field=FIELD) from error


def _parts(data: bytes, media: str) -> int:
    """How many chunks a PNG has, or how many segments a JPEG may have; none are counted beyond the limit."""
    parts: Iterator[object] = iter(())
    if media == "image/png":
        parts = _chunks(data)
    elif media == "image/jpeg":
        parts = _SEGMENT.finditer(data)
    return sum(1 for _ in itertools.islice(parts, _MAX_PARTS + 1))


def _chunks(data: bytes) -> Iterator[int]:
    """Where each chunk of a PNG starts."""
    at = 8
    while at + 8 <= len(data):
        yield at
        at += 12 + int.from_bytes(data[at : at + 4], "big")


class _Timed(io.BytesIO):
    """A file that cannot be read any more once the time is up: some may be read piece by piece for hours."""

    def __init__(self, data: bytes, deadline: Deadline) -> None:
        super().__init__(data)
        self._deadline = deadline

    def read(self, size: int | None = -1, /) -> bytes:
        self._deadline.check()
        return super().read(size)


def _pixels(image: ImageFile.ImageFile) -> Image.Image:
    """Decoded, upright and in RGB; a palette that is not there shows only when colours are asked of it."""
    try:
        image.load()
        return _rgb(_upright(image))
    except Problem:
        raise
    except Exception as error:  # as above
        raise Undecodable("the picture is damaged or cut off", field=FIELD) from error


def _array(image: Image.Image) -> NDArray[np.uint8]:
    """RGB [H, W, 3]; in bands, since Pillow copies twice what it hands out at one time."""
    width, height = image.size
    rows = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _BAND):
        bottom = min(top + _BAND, height)
        rows[top:bottom] = np.asarray(image.crop((0, top, width, bottom)))
    return rows


def _upright(image: Image.Image) -> Image.Image:
    turn = _turn(image)
    return image if turn is None else image.transpose(turn)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What turns a picture upright."""
    try:
        return _UPRIGHT.get(int(image.getexif().get(_ORIENTATION, 1)))
    except Exception:  # a broken EXIF block says nothing about the picture
        return None


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # greyscale of 16 bits; Pillow would saturate it
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")
