"""Decoded inputs: what goes into the model, and what is needed to draw and describe it afterwards."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.decode.view import View

Array = NDArray[Any]
NOTHING = np.empty(0, np.uint8)
TEXT_FIELDS = ("text", "text_pair")  # what the texts of an item are called in a request


@dataclass(frozen=True, kw_only=True)
class TextItem:
    """One text or two as tokens; `dropped` says how many were cut off each text.

    `segments` are each token's text, an index into `texts`, and `offsets` are [start, end) in its characters.
    Specials are flagged, lie at (n, n), and are of the text they close; of the first where they open.

    tensors: input_ids [N] int64 (and token_types [N] int64).
    """

    tensors: dict[str, Array]
    texts: tuple[str, ...]
    tokens: tuple[str, ...]
    offsets: tuple[tuple[int, int], ...]
    segments: tuple[int, ...]
    special: tuple[bool, ...]
    dropped: tuple[int, ...]

    view = None

    @property
    def dropped_tokens(self) -> int:
        """Of all texts together."""
        return sum(self.dropped)

    @property
    def truncated(self) -> bool:
        return self.dropped_tokens > 0

    @property
    def cost(self) -> int:
        """Tokens."""
        return len(self.tokens)

    def without_original(self) -> TextItem:
        """The same: a text is small."""
        return self


@dataclass(frozen=True, kw_only=True)
class ImageItem:
    """A picture: `original` [H, W, 3] uint8, orientation applied; tensors: pixels [3, h, w] float32."""

    tensors: dict[str, Array]
    original: NDArray[np.uint8]
    view: View
    format: str

    @property
    def cost(self) -> int:
        """Pixels that enter the model."""
        return self.view.model_width * self.view.model_height

    def without_original(self) -> ImageItem:
        """The same without the picture itself, which is needed for drawing alone."""
        return replace(self, original=NOTHING)


@dataclass(frozen=True, kw_only=True)
class VideoItem:
    """A clip's sampled frames: `original` [T, H, W, 3] uint8; tensors: frames [T, 3, h, w] float32.

    `indices` are the sampled frames' positions among the `total` of the clip, `timestamps` their seconds.
    """

    tensors: dict[str, Array]
    original: NDArray[np.uint8]
    view: View
    format: str
    indices: tuple[int, ...]
    timestamps: tuple[float, ...]
    total: int
    duration: float

    @property
    def cost(self) -> int:
        """Pixels that enter the model."""
        return len(self.indices) * self.view.model_width * self.view.model_height

    def without_original(self) -> VideoItem:
        """The same without the frames themselves, which are needed for drawing alone."""
        return replace(self, original=NOTHING)


Item = TextItem | ImageItem | VideoItem
