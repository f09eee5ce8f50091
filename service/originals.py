"""What a model was shown, as it was decoded: a picture, or the sampled frames of a clip on one sheet."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from PIL import Image

from service.decode.item import ImageItem, Item, TextItem
from service.errors import NotFound
from service.render import Drawing, encode
from service.render.overlay import fit

LONGEST = 16_000  # pixels of a sheet; WebP ends at 16,383
DEFAULT_SIZE = 640  # of a clip's frame


def original(item: Item, size: int | Literal["original"] | None) -> Drawing:
    """The original upright, as WebP; its long side is at most `size` (1,280 for a picture, 640 for a frame).

    The T frames of a clip stand in rows of ceil(sqrt(T)), from left to right, on one sheet. Raises NotFound
    for a text, of which there is no picture.
    """
    if isinstance(item, TextItem):
        raise NotFound("a text has no picture", field="item")
    if isinstance(item, ImageItem):
        picture = Image.fromarray(item.original)
        return _webp(picture.resize(smaller(picture.width, picture.height, size), reducing_gap=2.0))
    return _webp(_sheet(item.original, size))


def _sheet(frames: np.ndarray, size: int | Literal["original"] | None) -> Image.Image:
    """Frames [T, H, W, 3] in rows and columns."""
    columns = math.ceil(math.sqrt(len(frames)))
    longest = LONGEST // columns
    limit = min(size if isinstance(size, int) else longest if size else DEFAULT_SIZE, longest)
    width, height = smaller(frames.shape[2], frames.shape[1], limit)
    sheet = Image.new("RGB", (columns * width, math.ceil(len(frames) / columns) * height))
    for index, frame in enumerate(frames):
        row, column = divmod(index, columns)
        picture = Image.fromarray(frame).resize((width, height), reducing_gap=2.0)
        sheet.paste(picture, (column * width, row * height))
    return sheet


def smaller(width: int, height: int, size: int | Literal["original"] | None) -> tuple[int, int]:
    """The original's size or a smaller one."""
    return fit(width, height, min(size, max(width, height)) if isinstance(size, int) else size)


def _webp(picture: Image.Image) -> Drawing:
    return Drawing(body=encode.webp(picture), media_type="image/webp")
