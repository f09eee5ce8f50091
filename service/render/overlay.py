"""A grid of numbers on the original picture, each cell where the model saw it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from service.decode.view import View
from service.render.colors import table
from service.render.options import LARGEST

DEFAULT_SIZE = 1280
SATURATION = 0.5  # of the original's colours: enough to know it, too little to be taken for the map's
UNSEEN = 0.3  # of the original's brightness where the model saw nothing
FRAME = (200, 205, 212)


def fit(
    width: int, height: int, size: int | Literal["original"] | None, *, default: int = DEFAULT_SIZE
) -> tuple[int, int]:
    """The width and height in which an original is drawn.

    None is the original's own up to `default` on the long side, "original" its own up to LARGEST. A number
    below the long side makes it smaller, a number above it enlarges by the largest whole factor that stays
    within the number.
    """
    longest = max(width, height)
    limit = size if isinstance(size, int) else min(longest, LARGEST if size else default)
    if limit >= longest:
        factor = limit // longest
        return width * factor, height * factor
    return max(1, round(width * limit / longest)), max(1, round(height * limit / longest))


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis of a drawn picture: its pixels from `start` to `stop` were seen by the model.

    `positions` [stop - start] are their centres in cells: cell k reaches from k to k + 1.
    """

    start: int
    stop: int
    positions: NDArray[np.floating[Any]]


def axis(length: int, *, drawn: int, scale: float, offset: float, model: int, cells: int) -> Axis:
    """Where the centres of `drawn` pixels, which show `length` of the original, lie on the model's cells."""
    centres = (np.arange(drawn) + 0.5) * (length / drawn)
    positions = (scale * centres - offset) * (cells / model)
    seen = np.flatnonzero((positions >= 0) & (positions < cells))
    if not len(seen):
        return Axis(start=0, stop=0, positions=positions[:0])
    return Axis(start=int(seen[0]), stop=int(seen[-1]) + 1, positions=positions[seen])


def axes(view: View, size: tuple[int, int], grid: tuple[int, int]) -> tuple[Axis, Axis]:
    """The horizontal and vertical axis; `size` is the drawn width and height, `grid` rows and columns."""
    across = axis(
        view.width,
        drawn=size[0],
        scale=view.scale_x,
        offset=view.left,
        model=view.model_width,
        cells=grid[1],
    )
    down = axis(
        view.height,
        drawn=size[1],
        scale=view.scale_y,
        offset=view.top,
        model=view.model_height,
        cells=grid[0],
    )
    return across, down


def nearest(values: NDArray[np.uint8], across: Axis, down: Axis) -> NDArray[np.uint8]:
    """The value of the cell in which a drawn pixel's centre lies."""
    columns = across.positions.astype(np.intp)
    rows = down.positions.astype(np.intp)
    return values[rows][:, columns]


def bilinear(values: NDArray[np.float32], across: Axis, down: Axis) -> NDArray[np.float32]:
    """Linear between the centres of cells, constant beyond the outermost ones."""
    rows, columns = values.shape
    drawn = weights(down, rows) @ values @ weights(across, columns).T
    return drawn.astype(np.float32, copy=False)


def weights(along: Axis, cells: int) -> NDArray[np.float32]:
    """Share of each cell's centre in each drawn pixel, [pixels, cells]; rows sum to 1."""
    places = (along.positions - 0.5).clip(0, cells - 1)
    distance = np.abs(places[:, None] - np.arange(cells))
    return (1 - distance).clip(0, 1).astype(np.float32)


def quantised(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """[0, 1] as rows of a colour table."""
    return np.rint(values * 255).astype(np.uint8)


def overlay(
    original: NDArray[np.uint8],
    view: View,
    values: NDArray[np.float32],
    *,
    colormap: str,
    alpha: float,
    smooth: bool,
    drawn: tuple[int, int],
    query: int | None = None,
) -> Image.Image:
    """The map on the picture: original [H, W, 3], values [h, w] in [0, 1], drawn in (width, height).

    A pixel is (1 - alpha) of the original, nearly gray so that only its light remains, and alpha of the
    map's colour. What the model never saw is gray, dark, and ends in a thin frame around what it saw. Of the
    cells, counted row by row, `query` is outlined.
    """
    picture = Image.fromarray(original)
    if drawn != picture.size:
        enlarged = drawn[0] > picture.width
        way = Image.Resampling.NEAREST if enlarged else Image.Resampling.BILINEAR
        picture = picture.resize(drawn, way, reducing_gap=None if enlarged else 1.0)
    gray = picture.convert("L").convert("RGB")
    rows, columns = values.shape
    across, down = axes(view, drawn, (rows, columns))
    box = (across.start, down.start, across.stop, down.stop)
    out = gray.point([round(UNSEEN * light) for light in range(256)] * 3)
    if not (across.stop and down.stop):
        return out
    levels = quantised(bilinear(values, across, down)) if smooth else nearest(quantised(values), across, down)
    color = Image.fromarray(levels)
    color.putpalette(table(colormap).tobytes())
    base = Image.blend(gray.crop(box), picture.crop(box), SATURATION)
    out.paste(Image.blend(base, color.convert("RGB"), alpha), box)
    # The frame lies outside what was seen: it must not cover the map.
    edge = max(1, max(drawn) // 640)
    around = [(box[0] - i, box[1] - i, box[2] - 1 + i, box[3] - 1 + i) for i in range(1, edge + 1)]
    for rectangle in around:
        ImageDraw.Draw(out).rectangle(rectangle, outline=FRAME)
    if query is not None:
        _outline(out, view, divmod(query, columns), (rows, columns), edge)
    return out


def _outline(
    picture: Image.Image, view: View, cell: tuple[int, int], grid: tuple[int, int], edge: int
) -> None:
    """A light line with a dark one on either side around a cell."""
    left, top, right, bottom = view.patch(*cell, rows=grid[0], columns=grid[1])
    across, down = picture.width / view.width, picture.height / view.height
    box = [round(left * across), round(top * down), round(right * across) - 1, round(bottom * down) - 1]
    draw = ImageDraw.Draw(picture)
    for line, color in enumerate(("black", "white", "black")):
        for i in range(line * edge, (line + 1) * edge):
            x, y, stop, foot = box[0] - edge + i, box[1] - edge + i, box[2] + edge - i, box[3] + edge - i
            if x < stop and y < foot:
                draw.rectangle((x, y, stop, foot), outline=color)
