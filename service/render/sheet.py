"""Layers and heads of one map on one sheet, on one scale."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from service.bundle import Kind
from service.decode.item import Item, TextItem, VideoItem
from service.errors import InvalidInput
from service.render.axes import named
from service.render.clip import canvas
from service.render.labels import labels
from service.render.legend import beneath, legend
from service.render.lettering import drawable
from service.render.matrix import cells
from service.render.options import RenderOptions
from service.render.overlay import fit, overlay
from service.render.scale import Scaled, default_scale, finite, scaled
from service.render.theme import Theme, picture_theme

WIDTH = 1280  # of all tiles, where no size is asked for
TILES = (48, 192)  # pixels along a tile's long side, where no size is asked for
STRIP = 16  # pixels of a row of tokens
TOKENS = (13, 24)  # pixels of a token: with room for its name, if that gives no strip beyond LONGEST_STRIP
LONGEST_STRIP = 2048
LONGEST_NAME = 240
GAP = 4
MOST_PIXELS = 16 * 1024**2
LONGEST_SIDE = 16_000  # WebP ends at 16383


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """values [R, C, ...]: R layers and C heads of a map of a kind in SHEETS, and their names.

    Grids, matrices and single frames stand in rows of layers and columns of heads. Of texts and clips each
    head of each layer is a row of its own, of tokens or of frames.
    """

    kind: Kind
    values: NDArray[Any]
    item: Item
    options: RenderOptions
    layers: Sequence[str]
    heads: Sequence[str]
    query: int | None
    title: str
    fixed_range: tuple[float, float] | None

    def picture(self) -> Image.Image:
        """The sheet with its legend; raises InvalidInput where it would be larger than MOST_PIXELS."""
        draw = {"tokens": self._strips, "frame_grid": self._frames, "grid": self._grids}
        sheet = draw.get(self.kind, self._matrices)()
        strip = legend(
            sheet.width,
            self.scale,
            title=self.title,
            colormap=self.colormap,
            smooth=self.options.smooth and self.kind in ("grid", "frame_grid"),
            theme=self.theme,
        )
        return beneath(sheet, strip, theme=self.theme)

    @cached_property
    def scale(self) -> Scaled:
        """One scale for all; of a text that of its own tokens, which special ones would leave pale."""
        values = finite(self.values)
        if isinstance(self.item, TextItem) and not all(self.item.special):
            values = values[..., ~np.array(self.item.special)]
        return scaled(
            values, self.options.scale, default=default_scale(self.kind), fixed_range=self.fixed_range
        )

    @cached_property
    def placed(self) -> NDArray[np.float32]:
        """All values on that scale."""
        return self.scale.place(finite(self.values))

    @property
    def colormap(self) -> str:
        return self.options.colors(self.scale)

    @property
    def theme(self) -> Theme:
        return picture_theme(self.options.theme)

    @property
    def lines(self) -> list[str]:
        """The names of rows of which each is one head of one layer."""
        return [" ".join(filter(None, (layer, head))) for layer in self.layers for head in self.heads]

    def _grids(self) -> Image.Image:
        item, frame = self.item, self.options.frame
        assert not isinstance(item, TextItem)
        draw = self._overlays(canvas(item, frame), size := self._fit(len(self.heads)))
        self._check(len(self.layers), len(self.heads), size)
        placed = self.placed if self.kind == "grid" else self.placed[:, :, frame]
        return self._tiled((draw(values) for row in placed for values in row), size, self.heads)

    def _frames(self) -> Image.Image:
        if self.options.frame is not None:
            return self._grids()
        item = self.item
        assert isinstance(item, VideoItem)
        count = len(item.original)
        size = self._fit(count)
        self._check(len(self.lines), count, size)
        draws = [self._overlays(frame, size) for frame in item.original]
        clips = self.placed.reshape(-1, *self.placed.shape[2:])
        tiles = (draw(values) for clip in clips for draw, values in zip(draws, clip, strict=True))
        return self._tiled(tiles, size, labels(item, count), rows=self.lines)

    def _matrices(self) -> Image.Image:
        count, side = self.values.shape[-1], self._tile(len(self.heads))
        cell = max(1, side // count)
        size = (min(count * cell, side),) * 2
        self._check(len(self.layers), len(self.heads), size)
        tiles = (cells(values, cell, self.colormap, most=side) for row in self.placed for values in row)
        return self._tiled(tiles, size, self.heads)

    def _strips(self) -> Image.Image:
        count, width = self.values.shape[-1], self._asked or LONGEST_STRIP
        least, most = TOKENS
        cell = max(1, min(width // count, max(least, min(WIDTH // count, most))))
        self._check(len(self.lines), 1, (min(count * cell, width), STRIP))
        rows = cells(self.placed.reshape(-1, count), 1, self.colormap, most=max(width, len(self.lines)))
        size = (rows.width * cell, rows.height * STRIP)
        body = rows.resize(size, Image.Resampling.NEAREST)
        if len(self.heads) > 1:
            for y in range(len(self.heads) * STRIP, body.height, len(self.heads) * STRIP):
                ImageDraw.Draw(body).line((0, y, body.width, y), fill=self.theme.ink)
        return self._named(body, self.lines, labels(self.item, count))

    def _overlays(
        self, original: NDArray[np.uint8], size: tuple[int, int]
    ) -> Callable[[NDArray[np.float32]], Image.Image]:
        """What draws a map on the original, which is brought to the tile's size once."""
        item, options = self.item, self.options
        assert not isinstance(item, TextItem)
        small = Image.fromarray(original).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
        pixels = np.asarray(small)

        def draw(values: NDArray[np.float32]) -> Image.Image:
            return overlay(
                pixels,
                item.view,
                values,
                colormap=self.colormap,
                alpha=options.alpha,
                smooth=options.smooth,
                drawn=size,
                query=self.query,
            )

        return draw

    @property
    def _asked(self) -> int | None:
        return self.options.size if isinstance(self.options.size, int) else None

    def _tile(self, columns: int) -> int:
        """Pixels along a tile's long side."""
        least, most = TILES
        return self._asked or max(least, min(WIDTH // columns - GAP, most))

    def _fit(self, columns: int) -> tuple[int, int]:
        assert not isinstance(self.item, TextItem)
        view = self.item.view
        own = self.options.size == "original"
        return fit(view.width, view.height, "original" if own else self._tile(columns))

    def _check(self, rows: int, columns: int, size: tuple[int, int]) -> None:
        width, height = columns * (size[0] + GAP), rows * (size[1] + GAP)
        if width * height > MOST_PIXELS or max(width, height) > LONGEST_SIDE:
            raise InvalidInput(
                f"a sheet of {width}x{height} has more than {MOST_PIXELS} pixels, or {LONGEST_SIDE} along a "
                "side: ask for fewer layers or heads, or for a smaller size",
                field="size",
                limit=MOST_PIXELS,
            )

    def _tiled(
        self,
        tiles: Iterator[Image.Image],
        size: tuple[int, int],
        columns: Sequence[str],
        rows: Sequence[str] | None = None,
    ) -> Image.Image:
        """Tiles of one size, row by row, with names."""
        rows = self.layers if rows is None else rows
        wide, high = size[0] + GAP, size[1] + GAP
        body = Image.new("RGB", (len(columns) * wide, len(rows) * high), self.theme.page)
        for index, tile in enumerate(tiles):
            row, column = divmod(index, len(columns))
            body.paste(tile, (column * wide + GAP // 2, row * high + GAP // 2))
        return self._named(body, rows, columns)

    def _named(self, body: Image.Image, rows: Sequence[str], columns: Sequence[str]) -> Image.Image:
        captions = {"tokens": "token", "frame_grid": "frame" if self.options.frame is None else ""}
        return named(
            body,
            rows=[drawable(name) for name in rows],
            columns=columns,
            column_caption=captions.get(self.kind, ""),
            longest=LONGEST_NAME,
            theme=self.theme,
        )
