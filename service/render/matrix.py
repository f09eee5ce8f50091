"""Which position listens to which, as a heat map with labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from service.render.axes import LETTERS, named
from service.render.colors import color, ink, level, table
from service.render.lettering import number, shorten, write
from service.render.overlay import quantised
from service.render.theme import Theme

SIDE = 512
LARGEST_CELL = 56
LETTERED_CELL = LETTERS + 1  # has room for its label, and is made if that gives no side beyond LONGEST_SIDE
LONGEST_SIDE = 2048
MOST_CELLS = 1280  # along a side, where no larger size is asked for; more are averaged
NUMBERED_CELL = 40


def heat_map(
    values: NDArray[np.float32],
    *,
    raw: NDArray[np.float64],
    rows: Sequence[str],
    columns: Sequence[str],
    unit: str,
    colormap: str,
    side: int | None,
    theme: Theme,
) -> Image.Image:
    """values and raw [R, N], query by key: rows from the top, columns from the left, and the labels of both.

    Cells are squares of whole pixels; large ones carry their raw number. `unit` is what listens and is heard.
    A matrix of more cells than `side` is averaged down to it.
    """
    cell = cell_size(values.shape[1], side)
    body = cells(values, cell, colormap, most=side or MOST_CELLS)
    if cell >= LETTERS:
        _rule(body, cell, theme)
    if cell >= NUMBERED_CELL:
        _numbers(body, cell, values, raw, colormap)
    return named(
        body,
        rows=rows,
        columns=columns,
        row_caption=f"{unit} that listens",
        column_caption=f"{unit} that is heard",
        theme=theme,
    )


def cell_size(count: int, side: int | None) -> int:
    """Pixels along a cell's side: few are large, more have room for their names, many get what there is."""
    if side is not None:
        return max(1, side // count)
    return max(1, min(max(SIDE // count, min(LETTERED_CELL, LONGEST_SIDE // count)), LARGEST_CELL))


def cells(values: NDArray[np.float32], cell: int, colormap: str, *, most: int) -> Image.Image:
    """Rows and columns of values in [0, 1] as squares; more than `most` along a side are averaged to it."""
    height, width = values.shape
    if max(height, width) > most:
        small = (min(width, most), min(height, most))
        values = np.asarray(Image.fromarray(values).resize(small, Image.Resampling.BOX))
        height, width = values.shape
    body = Image.fromarray(quantised(values))
    body.putpalette(table(colormap).tobytes())
    return body.convert("RGB").resize((width * cell, height * cell), Image.Resampling.NEAREST)


def _rule(body: Image.Image, cell: int, theme: Theme) -> None:
    """Thin gaps between cells."""
    draw = ImageDraw.Draw(body)
    for x in range(cell, body.width, cell):
        draw.line((x, 0, x, body.height - 1), fill=theme.page)
    for y in range(cell, body.height, cell):
        draw.line((0, y, body.width - 1, y), fill=theme.page)


def _numbers(
    body: Image.Image, cell: int, values: NDArray[np.float32], raw: NDArray[np.float64], colormap: str
) -> None:
    colors = table(colormap)
    limit = float(np.abs(raw).max())
    for (row, column), value in np.ndenumerate(values):
        fill = ink(color(colors[level(float(value))]), prefer=(255, 255, 255))
        text = f"{raw[row, column]:.3f}" if limit < 10 else number(float(raw[row, column]))
        text = shorten(text, LETTERS, cell - 4)
        middle = ((column + 0.5) * cell, (row + 0.5) * cell)
        write(body, middle, text, size=LETTERS, fill=fill, anchor="mm")
