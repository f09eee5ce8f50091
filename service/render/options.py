"""How a map is to be drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from service.errors import InvalidInput
from service.render.colors import DEFAULT_COLORMAP, DIVERGING, check_colormap
from service.render.scale import Scaled, check_scale
from service.render.theme import check_theme

SIZES = (64, 4096)  # pixels
LARGEST = 8192  # an "original" beyond it is drawn smaller: WebP ends at 16383, and memory sooner


@dataclass(frozen=True, kw_only=True)
class RenderOptions:
    """Raises InvalidInput and UnknownOption, which name the field and its limits.

    colormap: None is one of two sides where the scale has two, else one that grows lighter.
    scale: None stands for what suits the map (`scale.py`).
    smooth: bilinear between the cells of a grid, and marked as such; else every cell as the model has it.
    size: long side in pixels of the picture (of each frame of a clip, of the plot of a matrix), "original"
        for the original's own. None draws the original's size up to a limit, and never enlarges.
    frame: one frame of a clip, from 0.
    theme: colours around the map, "auto" follows the reader where a page can (pictures are dark).
    """

    colormap: str | None = None
    alpha: float = 0.5
    scale: str | None = None
    smooth: bool = False
    size: int | Literal["original"] | None = None
    frame: int | None = None
    theme: str = "auto"

    def __post_init__(self) -> None:
        if self.colormap is not None:
            check_colormap(self.colormap)
        check_theme(self.theme)
        if self.scale is not None:
            check_scale(self.scale)
        if not (math.isfinite(self.alpha) and 0 <= self.alpha <= 1):
            raise InvalidInput(f"alpha must be from 0 to 1, not {self.alpha}", field="alpha", limit="0 to 1")
        low, high = SIZES
        if isinstance(self.size, int):
            if not low <= self.size <= high:
                raise InvalidInput(
                    f"size must be from {low} to {high} pixels, not {self.size}",
                    field="size",
                    limit=f"{low} to {high}",
                )
        elif self.size not in (None, "original"):
            raise InvalidInput(
                f'size must be a number of pixels or "original", not {self.size!r}', field="size"
            )
        if self.frame is not None and self.frame < 0:
            raise InvalidInput(f"frame must be 0 or more, not {self.frame}", field="frame", limit=0)

    def colors(self, scaled: Scaled) -> str:
        """The colormap for a map on this scale."""
        return self.colormap or (DIVERGING if scaled.neutral else DEFAULT_COLORMAP)
