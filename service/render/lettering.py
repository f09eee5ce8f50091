"""Short lines of text on pictures, in Pillow's built-in font."""

from __future__ import annotations

import math
import unicodedata
from functools import cache

from PIL import Image, ImageDraw, ImageFont

from service.render.colors import Color

# The built-in font is a subset: ASCII and a handful of signs.
DRAWABLE = frozenset(chr(code) for code in range(32, 127)) | frozenset("…·±")


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    face = ImageFont.load_default(size=size)
    if not isinstance(face, ImageFont.FreeTypeFont):
        raise RuntimeError("Pillow was built without FreeType")
    return face


def drawable(text: str) -> str:
    """The text in letters the font has: accents go, any other letter becomes a dot."""
    plain = (c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(c if c in DRAWABLE else "·" for c in plain)


def measure(text: str, size: int) -> int:
    """Width in pixels of one line of drawable text."""
    return round(font(size).getlength(text))


def shorten(text: str, size: int, width: int) -> str:
    """The text, cut with an ellipsis where it is wider than `width`; empty where nothing fits."""
    if measure(text, size) <= width:
        return text
    for end in range(min(len(text), width), 0, -1):
        if measure(cut := text[:end].rstrip() + "…", size) <= width:
            return cut
    return ""


def wrap(text: str, size: int, width: int, *, most: int) -> list[str]:
    """The text on lines of this width, broken between words, or in a word that is wider; cut after `most`."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        if line and measure(f"{line} {word}", size) <= width:
            line = f"{line} {word}"
            continue
        lines += [line] if line else []
        *full, line = _parts(word, size, width)
        lines += full
    lines += [line] if line else []
    if len(lines) > most:
        lines = [*lines[: most - 1], shorten(" ".join(lines[most - 1 :]), size, width)]
    return lines


def _parts(word: str, size: int, width: int) -> list[str]:
    """A word in pieces of this width."""
    parts = [""]
    for letter in word:
        if parts[-1] and measure(parts[-1] + letter, size) > width:
            parts.append("")
        parts[-1] += letter
    return parts


def write(
    picture: Image.Image, at: tuple[float, float], text: str, *, size: int, fill: Color, anchor: str = "lm"
) -> None:
    """One line of drawable text; `anchor` as Pillow's, from the left and the middle by default."""
    ImageDraw.Draw(picture).text(at, text, font=font(size), fill=fill, anchor=anchor)


def ends(low: float, high: float) -> tuple[str, str]:
    """Both ends of a range, to about a hundredth of its width: enough to tell them apart, no more."""
    short = number(low), number(high)
    if low == high:
        return short
    places = max(0, 2 - math.floor(math.log10(high - low)))
    extreme = places > 6 or max(abs(low), abs(high)) >= 1e6
    if extreme and short[0] != short[1]:
        return short
    return fixed(low, places), fixed(high, places)


def fixed(value: float, places: int) -> str:
    """A number to this many decimal places, without needless zeros."""
    text = f"{value:.{places}f}"
    text = text.rstrip("0").rstrip(".") if places else text
    return "0" if text == "-0" else text


def number(value: float) -> str:
    """Three significant digits, without needless zeros."""
    return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e")
