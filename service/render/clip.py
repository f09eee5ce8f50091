"""Maps of a clip: its frames on one scale as an animation, a single frame or a contact strip."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from service.decode.item import ImageItem, VideoItem
from service.errors import InvalidInput
from service.render.legend import NARROWEST, beneath, legend, padding, row_height, type_size
from service.render.lettering import measure, write
from service.render.options import RenderOptions
from service.render.overlay import DEFAULT_SIZE, fit, overlay
from service.render.scale import Scaled
from service.render.theme import Theme, picture_theme

ANIMATED_SIZE = 640
TILE_SIZE = 256
STRIP_WIDTH = 1280
MOST_PIXELS = 16 * 1024**2  # of all frames of one drawing
SHOWN = (100, 1000)  # milliseconds: slower clips are not waited for, faster ones could not be followed
UNTIMED = 400


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A map of a clip, [T, h, w], on one scale, and what each frame weighs [T] where that is known."""

    item: VideoItem
    scaled: Scaled
    importance: NDArray[Any] | None
    title: str
    options: RenderOptions

    @property
    def theme(self) -> Theme:
        return picture_theme(self.options.theme)

    def picture(self, frame: int, default_size: int) -> Image.Image:
        """The map of one frame on that frame."""
        view = self.item.view
        return overlay(
            self.item.original[frame],
            view,
            self.scaled.values[frame],
            colormap=self.options.colors(self.scaled),
            alpha=self.options.alpha,
            smooth=self.options.smooth,
            drawn=self.drawn(default_size),
        )

    def drawn(self, default_size: int) -> tuple[int, int]:
        """The width and height of one frame."""
        view = self.item.view
        return fit(view.width, view.height, self.options.size, default=default_size)

    def all_pictures(self, default_size: int) -> list[Image.Image]:
        """The maps of all frames, of at most MOST_PIXELS together; raises InvalidInput for a size beyond."""
        count = len(self.item.original)
        default_size = min(default_size, math.isqrt(MOST_PIXELS // count))
        width, height = self.drawn(default_size)
        if count * width * height > MOST_PIXELS:
            raise InvalidInput(
                f"{count} frames of {width}x{height} are more than {MOST_PIXELS} pixels: ask for one frame, "
                "or a smaller size",
                field="size",
                limit=MOST_PIXELS,
            )
        return [self.picture(frame, default_size) for frame in range(count)]

    def legend(self, width: int) -> Image.Image:
        return legend(
            width,
            self.scaled,
            title=self.title,
            colormap=self.options.colors(self.scaled),
            smooth=self.options.smooth,
            theme=self.theme,
        )


def still(clip: Clip, frame: int) -> Image.Image:
    """One frame, the bar of all frames below it, then the legend."""
    picture = clip.picture(frame, DEFAULT_SIZE)
    return beneath(
        picture, timeline(clip, picture.width, frame), clip.legend(picture.width), theme=clip.theme
    )


def frames(clip: Clip) -> tuple[list[Image.Image], list[int]]:
    """All frames like `still`, and how many milliseconds each is to be seen."""
    pictures = clip.all_pictures(ANIMATED_SIZE)
    width = pictures[0].width
    below = clip.legend(width)
    stills = [
        beneath(picture, timeline(clip, width, frame), below, theme=clip.theme)
        for frame, picture in enumerate(pictures)
    ]
    return stills, durations(clip.item.timestamps)


def durations(timestamps: Sequence[float]) -> list[int]:
    """Milliseconds from each frame to the next, within SHOWN; the last stays for the median of the others."""
    steps = [1000 * (later - sooner) for sooner, later in pairwise(timestamps)]
    if not steps or min(steps) <= 0:
        return [UNTIMED] * len(timestamps)
    low, high = SHOWN
    return [round(min(max(step, low), high)) for step in (*steps, median(steps))]


def contact_strip(clip: Clip) -> Image.Image:
    """All frames side by side in rows, each with its time and its bar, and one legend."""
    pictures = clip.all_pictures(TILE_SIZE)
    width, height = pictures[0].size
    size = type_size(width)
    gap = max(4, size // 2)
    foot = row_height(size) + gap + 2
    fitting = max(1, (STRIP_WIDTH - gap) // (width + gap))
    rows = -(-len(pictures) // fitting)
    columns = -(-len(pictures) // rows)
    whole = (columns * (width + gap) + gap, rows * (height + foot + gap) + gap)
    sheet = Image.new("RGB", whole, clip.theme.page)
    shares = relative(clip.importance)
    for frame, picture in enumerate(pictures):
        left = gap + frame % columns * (width + gap)
        top = gap + frame // columns * (height + foot + gap)
        sheet.paste(picture, (left, top))
        if shares is not None:
            bar(sheet, (left, top + height + 2, width, gap), float(shares[frame]), theme=clip.theme)
        write(
            sheet,
            (left, top + height + foot - size * 0.75),
            moment(clip.item, frame, width, size),
            size=size,
            fill=clip.theme.faint,
        )
    return beneath(sheet, clip.legend(sheet.width), theme=clip.theme)


def mean_frame(clip: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The mean of all frames, for a map that is averaged over them: [T, H, W, 3] -> [H, W, 3]."""
    total = np.zeros(clip.shape[1:], np.uint32)
    for frame in clip:
        total += frame
    return ((total + len(clip) // 2) // len(clip)).astype(np.uint8)


def canvas(item: ImageItem | VideoItem, frame: int | None) -> NDArray[np.uint8]:
    """What a grid is drawn on: the picture, one frame of a clip, or the mean of all."""
    if isinstance(item, ImageItem):
        return item.original
    return mean_frame(item.original) if frame is None else item.original[frame]


def relative(importance: NDArray[Any] | None) -> NDArray[np.float64] | None:
    """Weights of frames as shares of the largest."""
    if importance is None:
        return None
    weights = np.asarray(importance, np.float64).clip(0)
    return weights / (weights.max() or 1)


def bar(sheet: Image.Image, box: tuple[int, int, int, int], share: float, *, theme: Theme) -> None:
    """A horizontal bar that is filled to `share`; box is left, top, width, height."""
    left, top, width, height = box
    draw = ImageDraw.Draw(sheet)
    draw.rectangle((left, top, left + width - 1, top + height - 1), fill=theme.line)
    if filled := round(share * width):
        draw.rectangle((left, top, left + filled - 1, top + height - 1), fill=theme.ink)


def timeline(clip: Clip, width: int, frame: int) -> Image.Image:
    """One bar for each frame, as high as the frame weighs, the current one bright, and its time.

    Where no weights are known all bars are low and equal.
    """
    width = max(width, NARROWEST)
    size = type_size(width)
    pad, row = padding(size), row_height(size)
    high = max(16, min(width // 10, 4 * size))
    count = len(clip.item.original)
    shares = relative(clip.importance)
    strip = Image.new("RGB", (width, pad + high + row), clip.theme.page)
    draw = ImageDraw.Draw(strip)
    slot = (width - 2 * pad) / count
    between = 1 if slot < 8 else round(slot / 8)
    for i in range(count):
        left = pad + round(i * slot)
        right = max(left, pad + round((i + 1) * slot) - 1 - (between if i < count - 1 and slot >= 3 else 0))
        tall = 4 if shares is None else max(2, round(float(shares[i]) * high))
        fill = clip.theme.ink if i == frame else clip.theme.line
        draw.rectangle((left, pad + high - tall, right, pad + high - 1), fill=fill)
    middle = pad + high + row / 2
    text = moment(clip.item, frame, width - 2 * pad, size)
    write(strip, (pad, middle), text, size=size, fill=clip.theme.ink)
    caption = "frame importance"
    if shares is not None and measure(text, size) + measure(caption, size) + size <= width - 2 * pad:
        write(strip, (width - pad, middle), caption, size=size, fill=clip.theme.faint, anchor="rm")
    return strip


def moment(item: VideoItem, frame: int, width: int, size: int) -> str:
    """Which frame of how many, and when in the clip, as much as there is room for."""
    count, seconds = f"{frame + 1}/{len(item.indices)}", f"{item.timestamps[frame]:.2f} s"
    both = f"{count} · {seconds}"
    return next((text for text in (both, seconds, count) if measure(text, size) <= width), "")
