"""One map in one format: which function draws it."""

from __future__ import annotations

from collections.abc import Sequence
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
from service.render.clip import Clip, canvas, contact_strip, frames, still
from service.render.formats import NUMBERS, PICTURES, formats
from service.render.labels import labels
from service.render.legend import beneath, legend
from service.render.matrix import heat_map
from service.render.options import RenderOptions
from service.render.overlay import fit, overlay
from service.render.pieces import marked
from service.render.scale import Scaled, default_scale, finite, scaled
from service.render.sheet import Sheet
from service.render.svg import svg
from service.render.text import page
from service.render.theme import picture_theme

MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
    "webp": "image/webp",
}


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A picture or page as it is sent, or numbers; `axes` are those of an array that does not name them."""

    body: bytes
    media_type: str
    axes: tuple[str, ...] = ()


def render(
    kind: Kind,
    values: NDArray[Any],
    item: Item,
    format: str,
    options: RenderOptions,
    *,
    layers: Sequence[str] | None = None,
    heads: Sequence[str] | None = None,
    rows: tuple[int, int] | None = None,
    query: int | None = None,
    importance: NDArray[Any] | None = None,
    title: str = "",
    fixed_range: tuple[float, float] | None = None,
) -> Drawing:
    """A map of one label, drawn on its input.

    values: [N] tokens, [N, N] token_matrix (query by key), [h, w] grid, [C] channels, [T] frames, [T, T]
    frame_matrix (query by key), [T, h, w] frame_grid. importance [T]: what each frame of a frame_grid
    weighs. fixed_range: where the map's values have one.

    A frame_grid is an animation as webp, a contact strip as png, and one picture where a frame is asked for.
    query: the position in a grid or among tokens whose row this is; it is outlined.
    rows: of a matrix, the queries there are, from a start to before a stop; all if None. layers, heads: names
    of several that `values` has as axes before its own; a map of those is a sheet.

    Raises UnknownOption for a format the map does not have and a frame the clip does not have; InvalidInput
    for a drawing that would be too large; ValueError for numbers that do not fit the kind or the item.
    """
    several = [names for names in (layers, heads) if names is not None]
    known = formats(kind, several=bool(several))
    if format not in known:
        raise UnknownOption(
            f"a map of kind {kind} comes as {', '.join(known)}, not {format!r}", field="format"
        )
    if format in NUMBERS:
        raise ValueError(f"{format} is not drawn")
    shape = np.shape(values)[len(several) :]
    if (
        np.shape(values)[: len(several)] != tuple(map(len, several))
        or len(shape) != len(KIND_AXES[kind])
        or (kind.endswith("_matrix") and shape[0] != (shape[1] if rows is None else rows[1] - rows[0]))
    ):
        raise ValueError(f"a map of kind {kind} cannot have the shape {np.shape(values)}")
    subject = Subject(
        kind=kind,
        values=values,
        item=item,
        options=options,
        rows=rows,
        query=query,
        importance=importance,
        title=title,
        fixed_range=fixed_range,
    )
    subject.check_frame()
    if several or (kind == "tokens" and format in PICTURES):
        picture = subject.sheet(layers, heads)
        body = encode.png(picture) if format == "png" else encode.webp(picture)
        return Drawing(body=body, media_type=MEDIA_TYPES[format])
    return Drawing(body=subject.encoded(format), media_type=MEDIA_TYPES[format])


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What `render` was given."""

    kind: Kind
    values: NDArray[Any]
    item: Item
    options: RenderOptions
    rows: tuple[int, int] | None
    query: int | None
    importance: NDArray[Any] | None
    title: str
    fixed_range: tuple[float, float] | None

    def check_frame(self) -> None:
        """Raise UnknownOption where a frame is asked for that is not there."""
        frame = self.options.frame
        if frame is None:
            return
        if not isinstance(self.item, VideoItem) or self.kind not in ("grid", "frame_grid"):
            raise UnknownOption(f"a map of kind {self.kind} is not drawn frame by frame", field="frame")
        last = len(self.item.original) - 1
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
        """The map on one scale."""
        default = default_scale(self.kind)
        return scaled(self.values, self.options.scale, default=default, fixed_range=self.fixed_range)

    def page(self, format: str) -> str:
        if not isinstance(self.item, TextItem):
            raise self.misfit()
        text = marked(
            self.item,
            self.values,
            scale=self.options.scale,
            fixed_range=self.fixed_range,
            query=self.query,
        )
        colormap, theme = self.options.colors(text.scale), self.options.theme
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
            colormap=self.options.colors(self.scale),
            smooth=self.options.smooth and self.kind == "grid",
            theme=theme,
        )
        return beneath(picture, strip, theme=theme)

    def grid(self) -> Image.Image:
        """On a clip it is drawn on the frame that was asked for, or on the mean of all that were sampled."""
        item, options = self.item, self.options
        if isinstance(item, TextItem):
            raise self.misfit()
        return overlay(
            canvas(item, options.frame),
            item.view,
            self.scale.values,
            colormap=options.colors(self.scale),
            alpha=options.alpha,
            smooth=options.smooth,
            drawn=fit(item.view.width, item.view.height, options.size),
            query=self.query,
        )

    def matrix(self) -> Image.Image:
        unit = "frame" if self.kind == "frame_matrix" else "token"
        names = labels(self.item, np.shape(self.values)[1])
        return heat_map(
            self.scale.values,
            raw=finite(self.values),
            rows=names if self.rows is None else names[slice(*self.rows)],
            columns=names,
            unit=unit,
            colormap=self.options.colors(self.scale),
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
            colormap=self.options.colors(self.scale),
            width=self.plot_size,
            theme=picture_theme(self.options.theme),
        )

    def sheet(self, layers: Sequence[str] | None, heads: Sequence[str] | None) -> Image.Image:
        """Several layers or heads, or a text's tokens in a row."""
        own = np.shape(self.values)[-len(KIND_AXES[self.kind]) :]
        if isinstance(self.item, TextItem):
            fits = self.kind in ("tokens", "token_matrix") and own[-1] == len(self.item.tokens)
        else:
            fits = self.kind == "grid" or (self.kind.startswith("frame") and isinstance(self.item, VideoItem))
        if not fits:
            raise self.misfit()
        layers, heads = layers or ("",), heads or ("",)
        return Sheet(
            kind=self.kind,
            values=np.reshape(self.values, (len(layers), len(heads), *own)),
            item=self.item,
            options=self.options,
            layers=layers,
            heads=heads,
            query=self.query,
            title=self.title,
            fixed_range=self.fixed_range,
        ).picture()

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
