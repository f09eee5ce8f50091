"""One map in one format: which function draws it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.bundle import KIND_AXES, Kind
from service.decode.item import Item, TextItem, VideoItem
from service.errors import UnknownOption
from service.render import encode
from service.render.bars import bar_chart
from service.render.clip import Clip, contact_strip, frames, mean_frame, still
from service.render.labels import labels
from service.render.legend import beneath, legend
from service.render.matrix import heat_map
from service.render.options import RenderOptions
from service.render.overlay import fit, overlay
from service.render.pieces import marked
from service.render.scale import Scaled, finite, scaled
from service.render.svg import svg
from service.render.text import page
from service.render.theme import picture_theme

PICTURES = ("png", "webp")
NUMBERS = ("json", "npy")  # made where the numbers are, not here
FORMATS: dict[Kind, tuple[str, ...]] = {
    "tokens": ("html", "svg", *NUMBERS),
    "token_matrix": (*PICTURES, *NUMBERS),
    "grid": (*PICTURES, *NUMBERS),
    "channels": (*PICTURES, *NUMBERS),
    "frames": (*PICTURES, *NUMBERS),
    "frame_matrix": (*PICTURES, *NUMBERS),
    "frame_grid": (*PICTURES, *NUMBERS),
}
MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
    "webp": "image/webp",
}


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A picture or page as it is sent."""

    body: bytes
    media_type: str


def render(
    kind: Kind,
    values: NDArray[Any],
    item: Item,
    format: str,
    options: RenderOptions,
    *,
    importance: NDArray[Any] | None = None,
    title: str = "",
    fixed_range: tuple[float, float] | None = None,
) -> Drawing:
    """A map of one layer, head and label, drawn on its input.

    values: [N] tokens, [N, N] token_matrix (query by key), [h, w] grid, [C] channels, [T] frames, [T, T]
    frame_matrix (query by key), [T, h, w] frame_grid. importance [T]: what each frame of a frame_grid
    weighs. fixed_range: where the map's values have one.

    A frame_grid is an animation as webp, a contact strip as png, and one picture where a frame is asked for.

    Raises UnknownOption for a format the map does not have and a frame the clip does not have; ValueError
    for numbers that do not fit the kind or the item.
    """
    if format not in FORMATS[kind]:
        known = ", ".join(FORMATS[kind])
        raise UnknownOption(f"a map of kind {kind} comes as {known}, not {format!r}", field="format")
    if format in NUMBERS:
        raise ValueError(f"{format} is not drawn")
    if np.ndim(values) != len(KIND_AXES[kind]) or (
        kind.endswith("_matrix") and np.shape(values)[0] != np.shape(values)[1]
    ):
        raise ValueError(f"a map of kind {kind} cannot have the shape {np.shape(values)}")
    subject = Subject(
        kind=kind,
        values=values,
        item=item,
        options=options,
        importance=importance,
        title=title,
        fixed_range=fixed_range,
    )
    subject.check_frame()
    return Drawing(body=subject.encoded(format), media_type=MEDIA_TYPES[format])


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What `render` was given."""

    kind: Kind
    values: NDArray[Any]
    item: Item
    options: RenderOptions
    importance: NDArray[Any] | None
    title: str
    fixed_range: tuple[float, float] | None

    def check_frame(self) -> None:
        """Raise UnknownOption where a frame is asked for that is not there."""
        frame = self.options.frame
        if frame is None:
            return
        if self.kind != "frame_grid":
            raise UnknownOption(f"a map of kind {self.kind} is not drawn frame by frame", field="frame")
        last = len(self.values) - 1
        if frame > last:
            raise UnknownOption(
                f"frame must be from 0 to {last}, not {frame}", field="frame", limit=f"0 to {last}"
            )

    def encoded(self, format: str) -> bytes:
        if format in ("html", "svg"):
            return self.page(format).encode("utf-8", "replace")
        if self.kind == "frame_grid" and format == "webp" and self.options.frame is None:
            return encode.animation(*frames(self.clip()))
        picture = self.clip_picture() if self.kind == "frame_grid" else self.picture()
        return encode.png(picture) if format == "png" else encode.webp(picture)

    @cached_property
    def scale(self) -> Scaled:
        """The map on one scale. Where 0 means nothing it begins there; on pictures differences count."""
        default = "minmax" if self.kind in ("grid", "frame_grid") else "peak"
        return scaled(self.values, self.options.scale, default=default, fixed_range=self.fixed_range)

    def page(self, format: str) -> str:
        if not isinstance(self.item, TextItem):
            raise self.misfit()
        text = marked(self.item, self.values, scale=self.options.scale, fixed_range=self.fixed_range)
        colormap, theme = self.options.colormap, self.options.theme
        if format == "svg":
            return svg(text, title=self.title, colormap=colormap, theme=theme)
        return page(text, title=self.title, colormap=colormap, theme=theme)

    def picture(self) -> Image.Image:
        """A still with its legend."""
        draw = {"grid": self.grid, "token_matrix": self.matrix, "frame_matrix": self.matrix}
        picture = draw.get(self.kind, self.bars)()
        theme = picture_theme(self.options.theme)
        strip = legend(
            picture.width,
            self.scale,
            title=self.title,
            colormap=self.options.colormap,
            smooth=self.options.smooth and self.kind == "grid",
            theme=theme,
        )
        return beneath(picture, strip, theme=theme)

    def grid(self) -> Image.Image:
        """On a clip it is drawn on the mean of the sampled frames."""
        item, options = self.item, self.options
        if isinstance(item, TextItem):
            raise self.misfit()
        return overlay(
            mean_frame(item.original) if isinstance(item, VideoItem) else item.original,
            item.view,
            self.scale.values,
            colormap=options.colormap,
            alpha=options.alpha,
            smooth=options.smooth,
            drawn=fit(item.view.width, item.view.height, options.size),
        )

    def matrix(self) -> Image.Image:
        unit = "frame" if self.kind == "frame_matrix" else "token"
        return heat_map(
            self.scale.values,
            raw=finite(self.values),
            labels=labels(self.item, len(self.values)),
            rows=f"{unit} that listens",
            columns=f"{unit} that is heard",
            colormap=self.options.colormap,
            side=self.plot_size,
            theme=picture_theme(self.options.theme),
        )

    def bars(self) -> Image.Image:
        count = len(self.values)
        frames = self.kind == "frames"
        return bar_chart(
            self.scale,
            labels=labels(self.item, count) if frames else tuple(str(channel) for channel in range(count)),
            caption="frame" if frames else "channel",
            colormap=self.options.colormap,
            width=self.plot_size,
            theme=picture_theme(self.options.theme),
        )

    def clip_picture(self) -> Image.Image:
        frame = self.options.frame
        return contact_strip(self.clip()) if frame is None else still(self.clip(), frame)

    def clip(self) -> Clip:
        count = len(self.values)
        if not isinstance(self.item, VideoItem) or len(self.item.original) != count:
            raise self.misfit()
        if self.importance is not None and np.shape(self.importance) != (count,):
            raise ValueError(f"importance has the shape {np.shape(self.importance)}, not [{count}]")
        return Clip(
            item=self.item,
            scaled=self.scale,
            importance=self.importance,
            title=self.title,
            options=self.options,
        )

    @property
    def plot_size(self) -> int | None:
        """The size asked for, where there is no original that could have one."""
        return self.options.size if isinstance(self.options.size, int) else None

    def misfit(self) -> ValueError:
        shape, item = np.shape(self.values), type(self.item).__name__
        return ValueError(f"{self.kind} {shape} cannot be drawn on this {item}")
