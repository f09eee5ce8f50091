"""One number for each channel or frame, as bars."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from service.render.colors import color, level, table
from service.render.lettering import measure, number, write
from service.render.scale import Scaled
from service.render.theme import Theme

WIDTH = 640
MOST_BARS = 1280  # where no larger size is asked for; more are averaged
LETTERS = 12
PAD = 14


def bar_chart(
    scaled: Scaled, *, labels: Sequence[str], caption: str, colormap: str, width: int | None, theme: Theme
) -> Image.Image:
    """scaled values [N] as bars that rise from the scale's low end; `caption` says what stands below them."""
    values = scaled.values
    count = len(values)
    if count > (limit := width or MOST_BARS):
        line = Image.fromarray(values[None]).resize((limit, 1), Image.Resampling.BOX)
        values = np.asarray(line)[0]
    slot = max(1, (width or WIDTH) // len(values))
    length = slot * len(values)
    high = min(max(96, length // 4), 320)
    low, high_ = scaled.ends
    middle = "50 %" if scaled.name == "mass" else number(scaled.middle)
    ticks = {0.0: low, 0.5: middle, 1.0: high_}
    left, top = PAD + max(measure(text, LETTERS) for text in ticks.values()) + 8, PAD + LETTERS // 2
    bottom = top + high
    sheet = Image.new("RGB", (left + length + PAD, bottom + 2 * LETTERS + 2 * 8), theme.page)
    draw = ImageDraw.Draw(sheet)
    for place, text in ticks.items():
        y = bottom - round(place * high)
        draw.line((left, y, left + length - 1, y), fill=theme.line)
        write(sheet, (left - 8, y), text, size=LETTERS, fill=theme.faint, anchor="rm")
    colors = table(colormap)
    gap = 0 if slot < 3 else max(1, slot // 8)
    for i, value in enumerate(values.tolist()):
        x = left + i * slot
        y = bottom - max(1, round(value * high))
        draw.rectangle((x, y, x + slot - 1 - gap, bottom), fill=color(colors[level(0.25 + 0.75 * value)]))
    _label(sheet, left, bottom + 8, length, labels, theme)
    write(sheet, (left, bottom + LETTERS + 12), caption, size=LETTERS, fill=theme.faint, anchor="lt")
    return sheet


def _label(sheet: Image.Image, left: int, top: int, length: int, labels: Sequence[str], theme: Theme) -> None:
    """As many labels as fit, at equal steps from the first."""
    slot = length / len(labels)
    widest = max(measure(text, LETTERS) for text in labels)
    every = max(1, int(-(-(widest + 8) // slot)))
    for i in range(0, len(labels), every):
        middle = left + (i + 0.5) * slot
        half = measure(labels[i], LETTERS) / 2
        at = min(max(middle, left + half), sheet.width - half)
        write(sheet, (at, top), labels[i], size=LETTERS, fill=theme.ink, anchor="mt")
