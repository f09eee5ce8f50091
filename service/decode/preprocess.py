"""Pictures to normalised pixels, exactly as the PIL image processors of transformers make them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.bundle import PictureInput
from service.decode.limits import Limits
from service.decode.view import View

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


class Preprocessor:
    """Resize, centre crop, (x / 255 - mean) / std; pictures and frames of clips alike.

    A picture that is smaller than the crop after its resize is padded with black on all sides.
    """

    def __init__(self, *, spec: PictureInput, limits: Limits, field: str) -> None:
        self._spec = spec
        self._limits = limits
        self._field = field
        # [3, 256]: what each value of a channel becomes, rounded to float32 where transformers does it.
        values = (np.arange(256, dtype=np.float64) * (1 / 255)).astype(np.float32)
        mean = np.array(spec.mean, np.float32)[:, None]
        std = np.array(spec.std, np.float32)[:, None]
        self._table = (values - mean) / std

    def view(self, width: int, height: int) -> View:
        """How a picture of this size is seen. Raises TooLarge if its resize would be."""
        wide, high = self._resized(width, height)
        self._limits.hold(
            "max_pixels", wide * high, field=self._field, what=f"pixels once {width}x{height} is resized"
        )
        return View(
            width=width,
            height=height,
            model_width=self._spec.width,
            model_height=self._spec.height,
            scale_x=wide / width,
            scale_y=high / height,
            left=self._margin(wide - self._spec.width),
            top=self._margin(high - self._spec.height),
        )

    def peak(self, width: int, height: int) -> int:
        """Bytes of memory that `pixels` takes beside its picture, which may still be turned."""
        width, height = max(1, width), max(1, height)
        kept = 4 * 3 * self._spec.width * self._spec.height
        return max(
            # Pillow resizes the width first, to a picture of the old height, and has 4 bytes a pixel.
            4 * wide * (tall + high) + 4 * kept
            for wide, high, tall in (
                (*self._resized(width, height), height),
                (*self._resized(height, width), width),
            )
        )

    def pixels(self, image: Image.Image, view: View) -> NDArray[np.float32]:
        """An RGB picture as [3, h, w], cut as `view` says."""
        resized = image.resize(self._resized(*image.size), _FILTERS[self._spec.interpolation])
        left, top = int(view.left), int(view.top)
        cut = resized.crop((left, top, left + view.model_width, top + view.model_height))
        values = np.asarray(cut)
        return np.stack([self._table[channel][values[..., channel]] for channel in range(3)])

    def _margin(self, both: int) -> int:
        """What a crop leaves out on the left or above, of what it leaves out on both sides."""
        return both // 2 if self._spec.crop == "floor" else round(both / 2)

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        shorter = self._spec.resize_to
        if isinstance(shorter, tuple):
            return shorter[1], shorter[0]
        if width <= height:
            return shorter, int(shorter * height / width)
        return int(shorter * width / height), shorter
