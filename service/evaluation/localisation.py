"""Whether a map is high where the truth lies: pointing game (Zhang et al. 2016) and energy pointing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.bundle import Measure
from service.dataset import DatasetError
from service.decode.item import ImageItem, Item, TextItem, VideoItem
from service.decode.view import View
from service.truth import Box, Truth

Array = NDArray[Any]
INSIDE = 0.5  # a part counts as inside from this share of it on; where none has so much, those that have most


def located(values: Array, truth: Truth, item: Item) -> dict[Measure, float]:
    """Both measures of one map; nothing where the truth names no place, or the model did not see it.

    In a map of places in frames each frame is judged for itself, and the mean taken. Raises DatasetError for
    a truth that is not of this input.
    """
    inside = _inside(values.shape, truth, item)
    if inside is None:
        return {}
    pairs = zip(values, inside, strict=True) if values.ndim == 3 else [(values, inside)]
    seen = [(one.clip(min=0), where) for one, where in pairs if where.any()]
    if not seen:
        return {}
    return {
        "pointing": float(np.mean([pointing(one, where) for one, where in seen])),
        "energy": float(np.mean([energy(one, where) for one, where in seen])),
    }


def pointing(values: Array, inside: Array) -> float:
    """Whether the highest value lies inside; of several, the share that does."""
    return float((inside[values == values.max()] >= min(INSIDE, inside.max())).mean())


def energy(values: Array, inside: Array) -> float:
    """The share of the values' sum that lies inside; a map of zeros is as good as a uniform one."""
    total = float(values.sum())
    return float((values * inside).sum()) / total if total > 0 else float(inside.mean())


def covered(box: Box, view: View, rows: int, columns: int) -> Array:
    """The share of each cell of a map, [row, column], that lies in a box of the original's pixels."""
    left, top, right, bottom = box
    across = _overlap(
        left * view.scale_x - view.left, right * view.scale_x - view.left, view.model_width, columns
    )
    down = _overlap(top * view.scale_y - view.top, bottom * view.scale_y - view.top, view.model_height, rows)
    return down[:, None] * across


def _inside(shape: tuple[int, ...], truth: Truth, item: Item) -> Array | None:
    """The share of each part that lies inside, in a map's shape; None where the truth does not say."""
    if isinstance(item, TextItem):
        return None if truth.span is None else _tokens(truth, truth.span, item)
    if isinstance(item, ImageItem):
        return None if truth.box is None else _cells(truth, truth.box, item.view, shape)
    if len(shape) == 1:
        return None if truth.frames is None else _frames(truth, truth.frames, item)
    if truth.boxes is None:
        return None
    if len(truth.boxes) != item.total:
        raise DatasetError(f"{truth.place}: boxes: {len(truth.boxes)} for a clip of {item.total} frames")
    nothing = np.zeros(shape[-2:])
    boxes = [truth.boxes[index] for index in item.indices]
    cells = [nothing if box is None else _cells(truth, box, item.view, shape[-2:]) for box in boxes]
    return np.stack(cells) if len(shape) == 3 else np.mean(cells, axis=0)


def _tokens(truth: Truth, span: tuple[int, int], item: TextItem) -> Array:
    """Of each token but the special ones, the share of its characters in a span of the first text."""
    if span[1] > len(item.texts[0]):
        raise DatasetError(
            f"{truth.place}: span: ends at {span[1]}, the text has {len(item.texts[0])} characters"
        )
    plain = ~np.array(item.special)
    start, end = np.array(item.offsets)[plain].T
    shares: Array = np.minimum(end, span[1]) - np.maximum(start, span[0])
    first = np.array(item.segments)[plain] == 0
    out: Array = first * shares.clip(min=0) / (end - start).clip(min=1)
    return out


def _cells(truth: Truth, box: Box, view: View, shape: tuple[int, ...]) -> Array:
    if box[2] > view.width or box[3] > view.height:
        raise DatasetError(
            f"{truth.place}: a box ends at {box[2:]}, the picture has {view.width} x {view.height} pixels"
        )
    return covered(box, view, shape[0], shape[1])


def _frames(truth: Truth, frames: tuple[int, ...], item: VideoItem) -> Array:
    """1 for the sampled frames in which it happens, else 0."""
    if max(frames) >= item.total:
        raise DatasetError(
            f"{truth.place}: frames: {max(frames)} of a clip of {item.total} frames, counted from 0"
        )
    return np.isin(item.indices, frames).astype(np.float64)


def _overlap(low: float, high: float, size: int, count: int) -> Array:
    """The share of each of `count` cells, that cover `size` pixels, which lies from low to high."""
    edges = np.linspace(0, size, count + 1)
    overlap: Array = np.minimum(high, edges[1:]) - np.maximum(low, edges[:-1])
    return overlap.clip(min=0) * count / size
