"""What a server says, as frozen records: models, predictions, and what their maps are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class ModelSummary:
    """What is served, or with `reason` why it is not."""

    name: str
    version: str
    state: str
    reason: str | None = None
    family: str | None = None
    description: str | None = None


@dataclass(frozen=True, kw_only=True)
class MapSummary:
    """A map that a model has: names of its layers, the number of its heads, and the formats it comes in.

    `options` are those a request may choose it by; of its formats `token_formats` are of one query token.
    """

    name: str
    kind: str
    description: str
    axes: tuple[str, ...]
    layers: tuple[str, ...]
    heads: int | None = None
    formats: tuple[str, ...] = ()
    token_formats: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """A model. `preprocessing`, `parity` and `card` (what was measured) are as the server has them."""

    name: str
    version: str
    family: str
    task: str
    description: str
    labels: tuple[str, ...]
    precision: str
    maps: tuple[MapSummary, ...]
    activation: str | None = None
    preprocessing: Mapping[str, Any] | None = None
    parity: Mapping[str, Any] | None = None
    card: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Label:
    """A label, its index among the model's, and its score.

    That is a share of 1 unless the model's `activation` says otherwise.
    """

    label: str
    score: float
    index: int | None = None


@dataclass(frozen=True, kw_only=True)
class View:
    """How the model saw a picture: sizes in pixels; `seen` is left, top, right, bottom in the original."""

    width: int
    height: int
    model_width: int
    model_height: int
    seen: tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class TextInfo:
    """A text's tokens; `offsets` are [start, end) in characters of the text that `segments` says."""

    kind: ClassVar = "text"
    tokens: tuple[str, ...]
    offsets: tuple[tuple[int, int], ...]
    segments: tuple[int, ...] | None = None
    special: tuple[bool, ...] | None = None
    truncated: bool | None = None
    dropped_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class ImageInfo:
    """A picture as it was read."""

    kind: ClassVar = "image"
    format: str
    view: View


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """A clip: which of its `frames` were `sampled`, and when they are, in seconds."""

    kind: ClassVar = "video"
    format: str
    view: View
    frames: int
    duration: float
    sampled: tuple[int, ...]
    timestamps: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What `mass` or `top` left of a map: so many values above 0, and their share of the total."""

    values: int
    share: float


@dataclass(frozen=True, kw_only=True)
class MapInfo:
    """A map in an answer: what was selected of it, and where to fetch that by format.

    `affine` (2x3) leads from original pixel (x, y, 1) to (column, row). `values` come with `inline` alone.
    `tokens`, `offsets` and `segments` are there where special tokens were hidden, with the share of the total
    that those held in `special_mass`, or tokens merged to words.
    """

    name: str
    kind: str
    description: str
    shape: tuple[int, ...]
    axes: tuple[str, ...]
    layers: str | int | tuple[int, ...]
    range: tuple[float, float]
    links: Mapping[str, str] = field(default_factory=dict)
    heads: str | int | tuple[int, ...] | None = None
    target: str | None = None
    token: int | None = None
    rows: tuple[int, int] | None = None
    frame: int | None = None
    discard: float | None = None
    affine: tuple[tuple[float, ...], ...] | None = None
    special_mass: float | None = None
    tokens: tuple[str, ...] | None = None
    offsets: tuple[tuple[int, int], ...] | None = None
    segments: tuple[int, ...] | None = None
    kept: Kept | None = None
    values: NDArray[np.float32] | None = field(default=None, compare=False)


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What `verify` found: errors of one layer's attention, recomputed from the queries, keys and values."""

    layer: str | int | None = None
    row_sum_error: float | None = None
    output_error: float | None = None
    tolerance: float | None = None
    precision: str | None = None


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Milliseconds of the whole request; queue, run and maps of its slowest input."""

    total_ms: float
    decode_ms: float | None = None
    queue_ms: float | None = None
    run_ms: float | None = None
    maps_ms: float | None = None


@dataclass(frozen=True, kw_only=True)
class PredictedInput:
    """What was found for one input, the `index`-th of the request `id`.

    `input` is None where it is of a kind that this client does not know.
    """

    id: str
    index: int
    model: str
    version: str
    label: str
    score: float
    top: tuple[Label, ...]
    input: TextInfo | ImageInfo | VideoInfo | None
    timing: Timing
    maps: tuple[MapInfo, ...] = ()
    verification: Verification | None = None
