"""A map's numbers, and what each of their axes counts."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regard_client.errors import UnexpectedAnswer
from regard_client.results import MapInfo, MapSummary, PredictedInput, TextInfo, VideoInfo

Array = NDArray[np.float32]
Labels = Mapping[str, tuple[str | int | float, ...]]

TOKENS = ("token", "query_token", "key_token")
FRAMES = ("frame", "query_frame", "key_frame")
# What one of them is, by the axis that is gone then.
ONE_OF = {
    "token_matrix": ("query_token", "tokens"),
    "grid_matrix": ("query_token", "grid"),
    "frame_grid": ("frame", "grid"),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class MapNumbers:
    """One map of one input.

    values: float32, not to be written to; axes: the name of each of its axes.
    labels: what lies along an axis, where it has names: tokens, layers, indices of heads, seconds of frames.
    offsets: [start, end) of each token in characters of its text, where the map is over tokens.
    options: what was asked for.
    """

    name: str
    kind: str
    description: str
    values: Array
    axes: tuple[str, ...]
    labels: Labels
    offsets: tuple[tuple[int, int], ...] | None
    special_mass: float | None
    options: Mapping[str, Any]
    prediction: PredictedInput

    def __repr__(self) -> str:
        shape = ", ".join(f"{axis} {size}" for axis, size in zip(self.axes, self.values.shape, strict=True))
        return f"<{type(self).__name__} {self.name} [{shape}]>"


def from_npy(
    body: bytes,
    named: str,
    summary: MapSummary,
    options: Mapping[str, Any],
    prediction: PredictedInput,
) -> MapNumbers:
    """Numbers as they were sent, and the names of their axes between commas; raises UnexpectedAnswer."""
    try:
        values = np.load(io.BytesIO(body), allow_pickle=False)
    except Exception as error:  # whatever came over its parser
        raise UnexpectedAnswer(f"the numbers of map {summary.name}: {error}") from None
    axes = tuple(filter(None, named.split(",")))
    if not axes or values.ndim != len(axes) or values.dtype != np.float32:
        raise UnexpectedAnswer(f"map {summary.name} is {values.dtype} {values.shape}, its axes are {axes}")
    one_of = ONE_OF.get(summary.kind)
    return _numbers(
        values,
        axes,
        options,
        prediction,
        name=summary.name,
        kind=one_of[1] if one_of and one_of[0] not in axes else summary.kind,
        description=summary.description,
        summary=summary,
        text=_text(prediction),
    )


def from_info(
    info: MapInfo, summary: MapSummary | None, options: Mapping[str, Any], prediction: PredictedInput
) -> MapNumbers:
    """Numbers of a document that says what they are, and of which tokens; raises UnexpectedAnswer."""
    if info.values is None or info.values.shape != info.shape or len(info.axes) != len(info.shape):
        raise UnexpectedAnswer(f"the numbers of map {info.name} are not as its document says")
    text = _text(prediction)
    if info.tokens is not None and info.offsets is not None:
        text = TextInfo(tokens=info.tokens, offsets=info.offsets)
    return _numbers(
        info.values,
        info.axes,
        options,
        prediction,
        name=info.name,
        kind=info.kind,
        description=info.description,
        summary=summary,
        text=text,
        special_mass=info.special_mass,
    )


def _numbers(
    values: Array,
    axes: tuple[str, ...],
    options: Mapping[str, Any],
    prediction: PredictedInput,
    *,
    name: str,
    kind: str,
    description: str,
    summary: MapSummary | None,
    text: TextInfo | None,
    special_mass: float | None = None,
) -> MapNumbers:
    values.flags.writeable = False
    labels = _labels(axes, options, prediction, summary, text)
    sizes = dict(zip(axes, values.shape, strict=True))
    return MapNumbers(
        name=name,
        kind=kind,
        description=description,
        values=values,
        axes=axes,
        # Labels that do not fit are of a newer server, and not understood.
        labels={axis: names for axis, names in labels.items() if len(names) == sizes[axis]},
        offsets=None if text is None or set(TOKENS).isdisjoint(axes) else text.offsets,
        special_mass=special_mass,
        options=options,
        prediction=prediction,
    )


def _labels(
    axes: tuple[str, ...],
    options: Mapping[str, Any],
    prediction: PredictedInput,
    summary: MapSummary | None,
    text: TextInfo | None,
) -> dict[str, tuple[Any, ...]]:
    """What should lie along each axis that has names."""
    found: dict[str, tuple[Any, ...]] = {}
    for axis in axes:
        if axis == "layer" and axis in options and summary is not None:
            found[axis] = _picked(summary.layers, options.get("layer"))
        elif axis == "head" and axis in options and summary is not None:
            found[axis] = _picked(tuple(range(summary.heads or 0)), options.get("head"))
        elif axis in TOKENS and text is not None:
            rows = options.get("rows") if axis == "query_token" else None
            found[axis] = text.tokens if rows is None else text.tokens[slice(*rows)]
        elif axis in FRAMES and isinstance(prediction.input, VideoInfo):
            found[axis] = prediction.input.timestamps
    return found


def _picked(names: tuple[Any, ...], chosen: Any) -> tuple[Any, ...]:
    if chosen == "all":
        return names
    indices = map(int, chosen.removesuffix(",").split(",")) if isinstance(chosen, str) else chosen
    return tuple(names[index] for index in indices if -len(names) <= index < len(names))


def _text(prediction: PredictedInput) -> TextInfo | None:
    return prediction.input if isinstance(prediction.input, TextInfo) else None
