"""Which position listens to which, as a heat map with labels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from service.render.colors import color, ink, level, table
from service.render.lettering import measure, number, shorten, write
from service.render.overlay import quantised
from service.render.theme import Theme

SIDE = 512
LARGEST_CELL = 56
MOST_CELLS = 1280  # along a side, where no larger size is asked for; more are averaged
NUMBERED_CELL = 40
LETTERS = 12
PAD = 14
LONGEST_LABEL = 88


def heat_map(
    values: NDArray[np.float32],
    *,
    raw: NDArray[np.float64],
    labels: Sequence[str],
    rows: str,
    columns: str,
    colormap: str,
    side: int | None,
    theme: Theme,
) -> Image.Image:
    """values and raw [N, N], query by key: rows from the top, columns from the left, labels for both.

    Cells are squares of whole pixels; large ones carry their raw number. `rows` and `columns` say what
    the axes are. A matrix of more cells than `side` is averaged down to it.
    """
    count = len(values)
    cell = max(1, min((side or SIDE) // count, side or LARGEST_CELL))
    if count > (limit := side or MOST_CELLS):
        shrunk = Image.fromarray(values).resize((limit, limit), Image.Resampling.BOX)
        values = np.asarray(shrunk)
        length = limit
    else:
        length = count * cell
    step = length / count
    every = math.ceil((LETTERS + 1) / step)
    shown = {i: shorten(labels[i], LETTERS, LONGEST_LABEL) for i in range(0, count, every)}
    widest = max(measure(text, LETTERS) for text in shown.values())
    upright = every == 1 and widest + 6 <= step
    caption = LETTERS + PAD // 2
    left, top = PAD + caption + widest + 6, PAD + caption + (LETTERS if upright else widest) + 6
    sheet = Image.new("RGB", (left + length + PAD, top + length + PAD // 2), theme.page)
    cells = Image.fromarray(quantised(values))
    cells.putpalette(table(colormap).tobytes())
    sheet.paste(cells.convert("RGB").resize((length, length), Image.Resampling.NEAREST), (left, top))
    if cell >= LETTERS:
        _rule(sheet, (left, top), count, cell, theme)
    if cell >= NUMBERED_CELL:
        _numbers(sheet, (left, top), cell, values, raw, colormap)
    for i, text in shown.items():
        middle = (i + 0.5) * step
        write(sheet, (left - 6, top + middle), text, size=LETTERS, fill=theme.ink, anchor="rm")
        if upright:
            write(sheet, (left + middle, top - 6), text, size=LETTERS, fill=theme.ink, anchor="mb")
        else:
            _upwards(sheet, (left + middle, top - 6), text, theme)
    write(sheet, (left, PAD), shorten(columns, LETTERS, length), size=LETTERS, fill=theme.faint, anchor="lt")
    _upwards(sheet, (PAD + LETTERS / 2, top + length), shorten(rows, LETTERS, length), theme, faint=True)
    return sheet


def _rule(sheet: Image.Image, at: tuple[int, int], count: int, cell: int, theme: Theme) -> None:
    """Thin gaps between cells."""
    draw = ImageDraw.Draw(sheet)
    left, top = at
    for i in range(1, count):
        draw.line((left + i * cell, top, left + i * cell, top + count * cell - 1), fill=theme.page)
        draw.line((left, top + i * cell, left + count * cell - 1, top + i * cell), fill=theme.page)


def _numbers(
    sheet: Image.Image,
    at: tuple[int, int],
    cell: int,
    values: NDArray[np.float32],
    raw: NDArray[np.float64],
    colormap: str,
) -> None:
    colors = table(colormap)
    limit = float(np.abs(raw).max())
    for (row, column), value in np.ndenumerate(values):
        middle = (at[0] + (column + 0.5) * cell, at[1] + (row + 0.5) * cell)
        fill = ink(color(colors[level(float(value))]), prefer=(255, 255, 255))
        text = f"{raw[row, column]:.3f}" if limit < 10 else number(float(raw[row, column]))
        text = shorten(text, LETTERS, cell - 4)
        write(sheet, middle, text, size=LETTERS, fill=fill, anchor="mm")


def _upwards(
    sheet: Image.Image, at: tuple[float, float], text: str, theme: Theme, *, faint: bool = False
) -> None:
    """A line that reads upwards, starting at its middle bottom."""
    width, height = measure(text, LETTERS) + 1, LETTERS + 4
    line = Image.new("RGB", (width, height))
    write(line, (0, height / 2), text, size=LETTERS, fill=(255, 255, 255))
    turned = line.convert("L").transpose(Image.Transpose.ROTATE_90)
    place = (round(at[0] - height / 2), round(at[1] - width))
    sheet.paste(theme.faint if faint else theme.ink, (*place, place[0] + height, place[1] + width), turned)
