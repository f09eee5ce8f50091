"""The accuracy card of a model: what was measured on held-out data, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959964


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure and its 95 % confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class MapScore:
    """How well a map finds the place that is known to matter.

    `pointing` is the share of inputs whose highest value lies inside, `energy` the share of the map's mass
    inside. `layer` is None for a map over all layers; `map` is "random" for the yardstick.
    """

    map: str
    layer: str | None
    pointing: Interval
    energy: Interval


@dataclass(frozen=True, kw_only=True)
class Card:
    """Held-out figures of one model. `truth` says what the maps were scored against."""

    data: str
    examples: int
    accuracy: Interval
    per_label: dict[str, float]
    truth: str
    maps: tuple[MapScore, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for a checkpoint, rounded to four places."""
        out: dict[str, Any] = _rounded(asdict(self))
        return out


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return round(value, 4) if isinstance(value, float) else value


def wilson(hits: int, trials: int) -> Interval:
    """A proportion with Wilson's 95 % score interval (Wilson 1927)."""
    share = hits / trials
    centre = share + Z95**2 / (2 * trials)
    spread = Z95 * sqrt(share * (1 - share) / trials + Z95**2 / (4 * trials**2))
    scale = 1 + Z95**2 / trials
    return Interval(value=share, low=(centre - spread) / scale, high=(centre + spread) / scale)


def mean(values: Sequence[float]) -> Interval:
    """A mean with its normal 95 % interval."""
    middle, spread = float(np.mean(values)), Z95 * float(np.std(values, ddof=1)) / sqrt(len(values))
    return Interval(value=middle, low=middle - spread, high=middle + spread)


def score(
    name: str, layer: str | None, maps: Sequence[NDArray[Any]], inside: Sequence[NDArray[Any]]
) -> MapScore:
    """Pointing game and energy pointing of non-negative maps against masks in [0, 1] of the same shapes.

    A mask may be fractional where the true region covers part of a patch; the pointing game counts a hit
    where at least half of the patch is covered.
    """
    hits, energies = 0, []
    for values, mask in zip(maps, inside, strict=True):
        hits += bool(mask.flat[int(values.argmax())] >= 0.5)
        total = float(values.sum())
        energies.append(float((values * mask).sum()) / total if total > 0 else 0.0)
    return MapScore(map=name, layer=layer, pointing=wilson(hits, len(energies)), energy=mean(energies))
