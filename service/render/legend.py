"""The strip below a picture: what is drawn, and which number each colour stands for."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from service.render.colors import Color, table
from service.render.lettering import drawable, measure, wrap, write
from service.render.scale import Scaled
from service.render.theme import Theme

NARROWEST = 64
MOST_LINES = 8
LONGEST_BAR = 320
SHORTEST_BAR = 48
ROOMY_BAR = 144  # else it gets a row of its own


def type_size(width: int) -> int:
    """Size of the letters below a picture of this width."""
    return 10 if width < 160 else 12 if width < 480 else min(max(13, width // 80), 40)


def padding(size: int) -> int:
    """Space around letters of this size."""
    return max(4, size // 2 + 2)


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A colour bar between (or, in a narrow strip, above) the numbers at its ends."""

    low: str
    high: str
    colormap: str
    size: int
    ink: Color

    @property
    def numbers(self) -> int:
        """The width that the numbers and the gaps beside the bar take."""
        return measure(self.low, self.size) + measure(self.high, self.size) + self.size

    def beside(self, strip: Image.Image, left: int, top: int, length: int) -> None:
        """One row: low number, bar, high number."""
        row = row_height(self.size)
        write(strip, (left, top + row / 2), self.low, size=self.size, fill=self.ink)
        left += measure(self.low, self.size) + self.size // 2
        self.paste(strip, left, top, length)
        write(
            strip, (left + length + self.size // 2, top + row / 2), self.high, size=self.size, fill=self.ink
        )

    def above(self, strip: Image.Image, pad: int, top: int) -> None:
        """Bar and numbers below each other, in two rows, or in three where both do not fit into one."""
        row, right = row_height(self.size), strip.width - pad
        self.paste(strip, pad, top, right - pad)
        write(strip, (pad, top + row * 1.5), self.low, size=self.size, fill=self.ink)
        y = top + row * (self.rows_above(right - pad) - 0.5)
        write(strip, (right, y), self.high, size=self.size, fill=self.ink, anchor="rm")

    def rows_above(self, room: int) -> int:
        return 2 if self.numbers <= room else 3

    def paste(self, strip: Image.Image, left: int, top: int, length: int) -> None:
        row = row_height(self.size)
        line = Image.fromarray(table(self.colormap)[None]).resize((length, 1), Image.Resampling.BILINEAR)
        strip.paste(line.resize((length, row // 2)), (left, top + row // 4))


def row_height(size: int) -> int:
    return round(size * 1.5)


def legend(
    width: int, scaled: Scaled, *, title: str, colormap: str, smooth: bool, theme: Theme
) -> Image.Image:
    """A strip at least `width` wide: title, scale, colour bar with the numbers at its ends.

    On one row where there is room, else on several: words are wrapped, and of a title of more than MOST_LINES
    lines the end is left out.
    """
    width = max(width, NARROWEST)
    size = type_size(width)
    pad = padding(size)
    room, row = width - 2 * pad, row_height(size)
    low, high = scaled.ends
    bar = Bar(low=low, high=high, colormap=colormap, size=size, ink=theme.ink)
    title = drawable(title)
    note = f"{scaled.caption} · smooth" if smooth else scaled.caption
    words = measure(title, size) + measure(note, size) + 2 * size
    if title and room - words - bar.numbers >= ROOMY_BAR:
        strip = Image.new("RGB", (width, row + 2 * pad), theme.page)
        length = min(room - words - bar.numbers, LONGEST_BAR * size // 13)
        left = width - pad - bar.numbers - length
        write(strip, (pad, pad + row / 2), title, size=size, fill=theme.ink)
        write(strip, (left - size, pad + row / 2), note, size=size, fill=theme.faint, anchor="rm")
        bar.beside(strip, left, pad, length)
        return strip

    lines = [(title, note)]
    if not title or words - size > room:
        lines = [(line, "") for line in wrap(title, size, room, most=MOST_LINES)]
        lines += [("", line) for line in wrap(note, size, room, most=MOST_LINES)]
    length = room - bar.numbers
    rows = len(lines) + (1 if length >= SHORTEST_BAR else bar.rows_above(room))
    strip = Image.new("RGB", (width, rows * row + 2 * pad), theme.page)
    top = pad
    for left_text, right_text in lines:
        write(strip, (pad, top + row / 2), left_text, size=size, fill=theme.ink)
        at, anchor = (width - pad, "rm") if left_text else (pad, "lm")
        write(strip, (at, top + row / 2), right_text, size=size, fill=theme.faint, anchor=anchor)
        top += row
    if length >= SHORTEST_BAR:
        bar.beside(strip, pad, top, length)
    else:
        bar.above(strip, pad, top)
    return strip


def beneath(picture: Image.Image, *strips: Image.Image, theme: Theme) -> Image.Image:
    """The strips below the picture, whose pixels stay where they are."""
    width = max(part.width for part in (picture, *strips))
    out = Image.new("RGB", (width, sum(part.height for part in (picture, *strips))), theme.page)
    top = 0
    for part in (picture, *strips):
        out.paste(part, (0, top))
        top += part.height
    return out
