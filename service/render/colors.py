"""Colormaps as look-up tables, and contrast after WCAG 2.2."""

from __future__ import annotations

from functools import cache
from typing import Any

import cmap
import numpy as np
from numpy.typing import NDArray

from service.errors import UnknownOption

Color = tuple[int, int, int]

# Lightness rises from the first colour to the last in these; turbo and jet are not ordered by lightness.
ORDERED = ("inferno", "magma", "plasma", "viridis", "cividis", "gray")
# Blue to red over a light middle; and over a dark one, for texts on dark pages.
DIVERGING, DARK_DIVERGING = "vik", "berlin"
COLORMAPS = (*ORDERED, "turbo", "jet", DIVERGING)
DEFAULT_COLORMAP = "inferno"

READABLE = 4.5  # WCAG 2.2, 1.4.3, AA for text of body size


def check_colormap(name: str) -> None:
    """Raise UnknownOption unless there is a colormap of this name."""
    if name not in COLORMAPS:
        raise UnknownOption(f"colormap must be one of {', '.join(COLORMAPS)}, not {name!r}", field="colormap")


def table(name: str) -> NDArray[np.uint8]:
    """A colormap as [256, 3], read-only. Raises UnknownOption."""
    check_colormap(name)
    return _looked_up(name)


@cache
def _looked_up(name: str) -> NDArray[np.uint8]:
    return _read_only(cmap.Colormap(name).lut(256)[:, :3] * 255)


def _read_only(colors: NDArray[Any]) -> NDArray[np.uint8]:
    whole: NDArray[np.uint8] = np.rint(colors).astype(np.uint8)
    whole.setflags(write=False)
    return whole


@cache
def ramp(name: str, page: Color) -> NDArray[np.uint8]:
    """A colormap for backgrounds of text on a page, [256, 3], read-only: 0 is the page itself.

    Away from the page it is always the stronger colour: an ordered colormap is walked from its light end
    on a light page and from its dark end on a dark one. Of the diverging one the middle is the page.
    """
    levels = np.linspace(0, 1, 256)
    light = luminance(page) > 0.5
    if name == DIVERGING:
        name = DIVERGING if light else DARK_DIVERGING
        strength = np.abs(2 * levels - 1)
        places = 0.5 + np.sign(levels - 0.5) * ((0.05 if light else 0.15) + 0.35 * strength)
    else:
        strength = levels
        along = levels * 0.75 if light else 0.2 + levels * 0.8
        places = 1 - along if light and name in ORDERED else along if name in ORDERED else levels
    colors = _looked_up(name)[np.rint(places * 255).astype(np.intp)]
    weight = np.minimum(strength * 3, 1)[:, None]
    return _read_only(weight * colors + (1 - weight) * np.array(page))


def level(value: float) -> int:
    """The row of a table for a value in [0, 1]."""
    return round(min(max(value, 0.0), 1.0) * 255)


def color(row: NDArray[Any]) -> Color:
    """A row of a table as plain numbers."""
    red, green, blue = (int(channel) for channel in row)
    return red, green, blue


def hexadecimal(rgb: Color) -> str:
    """A colour as #rrggbb."""
    return "#{:02x}{:02x}{:02x}".format(*rgb)


def luminance(rgb: Color) -> float:
    """Relative luminance of an sRGB colour, from 0 to 1 (WCAG 2.2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in rgb)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: Color, other: Color) -> float:
    """Contrast ratio of two colours, from 1 to 21 (WCAG 2.2)."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def ink(background: Color, *, prefer: Color) -> Color:
    """A colour for text that can be read on the background: `prefer` where it can, else black or white.

    One of these two always reaches a ratio of 4.58, the square root of 21.
    """
    if contrast(prefer, background) >= READABLE:
        return prefer
    return max((0, 0, 0), (255, 255, 255), key=lambda text: contrast(text, background))
