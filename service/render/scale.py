"""Numbers to [0, 1] for drawing; the range is kept, so that a picture can say what its colours mean.

peak        from 0 (or the lowest value, where one is negative) to the largest value
minmax      from the lowest value to the largest
percentile  from the 1st to the 99th percentile of all values, linearly interpolated; the rest is clipped
absolute    the map's fixed range where it has one (the rest is clipped), otherwise from 0 to 1, widened where
            a value lies outside: two maps drawn so can be compared
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import UnknownOption

SCALES = ("peak", "minmax", "percentile", "absolute")
PERCENTILES = (1.0, 99.0)


@dataclass(frozen=True, kw_only=True)
class Scaled:
    """`values` in [0, 1] of the map's shape; 0 stands for `low` and 1 for `high` under the scale `name`."""

    values: NDArray[np.float32]
    low: float
    high: float
    name: str


def check_scale(name: str) -> None:
    """Raise UnknownOption unless there is a scale of this name."""
    if name not in SCALES:
        raise UnknownOption(f"scale must be one of {', '.join(SCALES)}, not {name!r}", field="scale")


def scaled(
    values: NDArray[Any], name: str | None, *, default: str, fixed_range: tuple[float, float] | None = None
) -> Scaled:
    """The whole map on one scale: all frames of a clip, all rows of a matrix.

    Without a name, a map with a fixed range is drawn on it and any other on the scale `default`. A map
    without spread is 0 everywhere under minmax and percentile, never amplified noise.

    Raises ValueError for a map that is empty or not finite, UnknownOption for an unknown scale.
    """
    numbers = finite(values)
    name = name or ("absolute" if fixed_range else default)
    check_scale(name)
    low, high = span(numbers, name, fixed_range)
    return Scaled(values=placed(numbers, low, high), low=low, high=high, name=name)


def finite(values: NDArray[Any]) -> NDArray[np.float64]:
    """The numbers of a map. Raises ValueError where there are none, or one that is not finite."""
    numbers = np.asarray(values, np.float64)
    if numbers.size == 0 or not np.isfinite(numbers).all():
        raise ValueError(f"a map of shape {numbers.shape} must hold numbers, and finite ones")
    return numbers


def placed(numbers: NDArray[np.float64], low: float, high: float) -> NDArray[np.float32]:
    """Where numbers lie between low and high, clipped to [0, 1]; with no room between, 1 is what is above."""
    if high > low:
        return ((numbers - low) / (high - low)).clip(0, 1).astype(np.float32)
    return (numbers > high).astype(np.float32)


def span(
    numbers: NDArray[np.float64], name: str, fixed_range: tuple[float, float] | None
) -> tuple[float, float]:
    """The lowest and the highest number a scale tells apart."""
    lowest, highest = float(numbers.min()), float(numbers.max())
    if name == "absolute":
        return fixed_range or (min(0.0, lowest), max(1.0, highest))
    if name == "peak":
        return min(0.0, lowest), max(0.0, highest)
    if name == "percentile":
        low, high = np.percentile(numbers, PERCENTILES)
        return float(low), float(high)
    return lowest, highest
