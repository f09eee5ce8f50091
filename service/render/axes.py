"""Names beside and above what is drawn in rows and columns."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image

from service.render.lettering import measure, shorten, write
from service.render.theme import Theme

LETTERS = 12
PAD = 14
LONGEST_LABEL = 88


def named(
    body: Image.Image,
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    row_caption: str = "",
    column_caption: str = "",
    longest: int = LONGEST_LABEL,
    theme: Theme,
) -> Image.Image:
    """A picture of equally high rows and equally wide columns, with as many of their names as have room.

    Names of narrow columns read upwards, and are cut at `longest` pixels like all others. The captions say
    what rows and columns are.
    """
    high, wide = body.height / len(rows), body.width / len(columns)
    beside, above = _shown(rows, high, longest), _shown(columns, wide, longest)
    widest, tallest = (max(measure(text, LETTERS) for text in some.values()) for some in (beside, above))
    flat = len(above) == len(columns) and tallest + 6 <= wide
    caption = LETTERS + PAD // 2
    left = PAD + (caption if row_caption else 0) + widest + 6
    top = PAD + (caption if column_caption else 0) + (LETTERS if flat else tallest) + 6
    sheet = Image.new("RGB", (left + body.width + PAD, top + body.height + PAD // 2), theme.page)
    sheet.paste(body, (left, top))
    for i, text in beside.items():
        write(sheet, (left - 6, top + (i + 0.5) * high), text, size=LETTERS, fill=theme.ink, anchor="rm")
    for i, text in above.items():
        at = (left + (i + 0.5) * wide, top - 6)
        if flat:
            write(sheet, at, text, size=LETTERS, fill=theme.ink, anchor="mb")
        else:
            _upwards(sheet, at, text, theme)
    text = shorten(column_caption, LETTERS, body.width)
    write(sheet, (left, PAD), text, size=LETTERS, fill=theme.faint, anchor="lt")
    text = shorten(row_caption, LETTERS, body.height)
    _upwards(sheet, (PAD + LETTERS / 2, top + body.height), text, theme, faint=True)
    return sheet


def _shown(names: Sequence[str], step: float, longest: int) -> dict[int, str]:
    """As many names as fit at equal steps from the first."""
    every = math.ceil((LETTERS + 1) / step)
    return {i: shorten(names[i], LETTERS, longest) for i in range(0, len(names), every)}


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
