"""Pictures to pixels."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image, ImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from service.bundle import ImageInput
from service.decode.item import ImageItem
from service.decode.limits import Limits
from service.decode.media import PICTURES, identify
from service.decode.preprocess import Preprocessor
from service.errors import TooLarge, Undecodable

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


class ImageDecoder:
    """JPEG, PNG, WebP or the first frame of a GIF to `pixels` [3, h, w] float32; safe in several threads."""

    def __init__(self, spec: ImageInput, limits: Limits | None = None) -> None:
        self._spec = spec
        self._limits = limits or Limits()
        self._preprocessor = Preprocessor(spec=spec, limits=self._limits, field=FIELD)

    def decode(self, data: bytes, *, content_type: str | None = None) -> ImageItem:
        """A picture upright and in RGB: transparency over white, of 16 bits the upper 8.

        Raises InvalidInput, TooLarge, UnsupportedMedia, Undecodable.
        """
        media = identify(data, declared=content_type, accepted=PICTURES, field=FIELD)
        if media == "image/jpeg":
            self._limits.hold("max_scans", data.count(_SCAN), field=FIELD, what="scans in a JPEG")
        with self._open(data, media) as image:
            width, height = image.size
            self._limits.hold("max_pixels", width * height, field=FIELD, what=f"pixels ({width}x{height})")
            return self._item(_pixels(image), media)

    def blank(self) -> ImageItem:
        """A black picture, for warming up."""
        return self._item(Image.new("RGB", (self._spec.width, self._spec.height)), "image/png")

    def _item(self, image: Image.Image, media: str) -> ImageItem:
        view = self._preprocessor.view(*image.size)
        return ImageItem(
            tensors={"pixels": self._preprocessor.pixels(image, view)},
            original=np.asarray(image),
            view=view,
            format=media,
        )

    def _open(self, data: bytes, media: str) -> ImageFile.ImageFile:
        try:
            return _READERS[media](io.BytesIO(data))
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            limit = self._limits.max_pixels
            raise TooLarge(
                f"more pixels than max_pixels, which is {limit}", field=FIELD, limit=limit
            ) from error
        except Exception as error:  # whatever the plugins' parsers stumble over
            raise Undecodable(f"the {media} header cannot be read", field=FIELD) from error


def _pixels(image: ImageFile.ImageFile) -> Image.Image:
    """Decoded, upright and in RGB; a palette that is not there shows only when colours are asked of it."""
    try:
        image.load()
        return _rgb(_upright(image))
    except Exception as error:  # as above
        raise Undecodable("the picture is damaged or cut off", field=FIELD) from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = _UPRIGHT.get(int(image.getexif().get(_ORIENTATION, 1)))
    except Exception:  # a broken EXIF block says nothing about the picture
        turn = None
    return image if turn is None else image.transpose(turn)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # greyscale of 16 bits; Pillow would saturate it
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")
