"""How the model saw a picture: resize and crop as one affine, and what lies outside it."""

from __future__ import annotations

from dataclasses import dataclass

Rectangle = tuple[float, float, float, float]  # left, top, right, bottom in original pixels


@dataclass(frozen=True, kw_only=True)
class View:
    """Model pixel = scale * original pixel - offset, per axis; coordinates of edges, not of centres.

    `width` and `height` are the original's after its orientation is applied, `model_width` and
    `model_height` what enters the model. `left` and `top` are the crop's offset in resized pixels.
    """

    width: int
    height: int
    model_width: int
    model_height: int
    scale_x: float
    scale_y: float
    left: float
    top: float

    def original(self, x: float, y: float) -> tuple[float, float]:
        """The original's point for a point in model pixels."""
        return (x + self.left) / self.scale_x, (y + self.top) / self.scale_y

    @property
    def seen(self) -> Rectangle:
        """The part of the original that the model saw."""
        return (*self.original(0, 0), *self.original(self.model_width, self.model_height))

    def patch(self, row: int, column: int, *, rows: int, columns: int) -> Rectangle:
        """Where a cell of a map of rows x columns lies on the original."""
        wide, high = self.model_width / columns, self.model_height / rows
        return (
            *self.original(column * wide, row * high),
            *self.original((column + 1) * wide, (row + 1) * high),
        )

    def affine(self, *, rows: int, columns: int) -> list[list[float]]:
        """The 2x3 matrix from original pixel (x, y, 1) to (column, row) in a map of rows x columns."""
        across, down = columns / self.model_width, rows / self.model_height
        return [
            [self.scale_x * across, 0.0, -self.left * across],
            [0.0, self.scale_y * down, -self.top * down],
        ]
