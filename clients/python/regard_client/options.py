"""Options by the names they have in the API; what they may be is for the server to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

Indices = int | Sequence[int] | str  # an index, several, or a word such as "all" and "mean"


class PartOptions(TypedDict, total=False):
    """Which part of a map, how it is made, and what becomes of its numbers.

    `target` is a label or its index, `token` a query token and `rows` several, from a start to before a stop.
    `discard` is the share of attention that a rollout leaves out, `mass` the share of the total that is kept,
    `top` how many values are, `special` is "hide" or "keep".
    """

    target: str | int
    token: int
    rows: tuple[int, int]
    frame: int
    discard: float
    mass: float
    top: int
    special: str
    words: bool


class PredictOptions(PartOptions, total=False):
    """Of a prediction; `timeout` is in seconds, until the server answers 504."""

    top_k: int
    maps: Sequence[str]
    layers: Indices
    heads: Indices
    inline: bool
    verify: bool
    timeout: float


class MapOptions(PartOptions, total=False):
    """Of one map."""

    layer: Indices
    head: Indices


class DrawOptions(TypedDict, total=False):
    """How a map is drawn; `size` is the long side in pixels, or "original"."""

    colormap: str
    alpha: float
    scale: str
    smooth: bool
    size: int | str
    theme: str


def spelled(options: Mapping[str, Any]) -> dict[str, str]:
    """Options as they stand in a query: a list of one keeps its comma, which tells it from the one alone."""
    return {name: _word(value, ":" if name == "rows" else ",") for name, value in options.items()}


def _word(value: Any, between: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return between.join(map(str, value)) + ("," if len(value) == 1 else "")
    return str(value)
