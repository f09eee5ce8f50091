"""Numbers to [0, 1] for drawing; the range is kept, so that a picture can say what its colours mean.

peak        from 0 to the largest value; where one is negative, as far below 0 as above, 0 in the middle
minmax      from the lowest value to the largest
percentile  from the 1st to the 99th percentile of all values, linearly interpolated; the rest is clipped
absolute    the map's fixed range where it has one (the rest is clipped), otherwise from 0 to 1, widened where
            a value lies outside: two maps drawn so can be compared
uniform     by factors of the mean, which is what every value would be if all were equal (1/N of a row of N):
            the mean in the middle, half of it as far below as twice it is above
above       the upper half of that: colour begins where a value is more than the mean
mass        the share of the total that lies in values no larger than this one: above 0.4 are those which
            together hold 60 %; negative values hold nothing
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.bundle import Kind
from service.errors import UnknownOption
from service.render.lettering import ends, number

SCALES = ("peak", "minmax", "percentile", "absolute", "uniform", "above", "mass")
RELATIVE = ("uniform", "above")
PERCENTILES = (1.0, 99.0)

Place = Callable[[NDArray[np.float64]], NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class Scaled:
    """`values` in [0, 1] of the map's shape; 0, 0.5 and 1 stand for `low`, `middle` and `high`.

    `name` is that of the scale. `neutral` is whether the middle is what neither side has: 0 of a signed map,
    the mean under uniform. `place` puts further numbers on the same scale.
    """

    values: NDArray[np.float32]
    low: float
    middle: float
    high: float
    name: str
    neutral: bool
    place: Place

    @property
    def ends(self) -> tuple[str, str]:
        """The numbers at both ends of a legend."""
        return ("0 %", "100 %") if self.name == "mass" else ends(self.low, self.high)

    @property
    def caption(self) -> str:
        """What a legend says of the scale."""
        words = {"uniform": f"uniform: {number(self.middle)}", "above": "above uniform"}
        return words.get(self.name, self.name)


def default_scale(kind: Kind) -> str:
    """Where 0 means nothing a map begins there; on pictures differences count, in texts what stands out."""
    return {"grid": "minmax", "frame_grid": "minmax", "tokens": "above"}.get(kind, "peak")


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
    signed = numbers.min() < 0 < numbers.max()
    name = name or ("absolute" if fixed_range else "peak" if signed else default)
    check_scale(name)
    place: Place
    if name == "mass":
        low, high = 0.0, 1.0
        place = by_mass(numbers)
    elif name in RELATIVE:
        low, high = factors(numbers, name)
        place = partial(by_factors, low=low, high=high)
    else:
        low, high = span(numbers, name, fixed_range)
        place = partial(linearly, low=low, high=high)
    return Scaled(
        values=place(numbers),
        low=low,
        middle=math.sqrt(low * high) if name in RELATIVE else (low + high) / 2,
        high=high,
        name=name,
        neutral=name == "uniform" or -low == high > 0,
        place=place,
    )


def by_mass(numbers: NDArray[np.float64]) -> Place:
    """The share of the total of `numbers` in those that are no larger; 0 where there is nothing."""
    found = np.sort(numbers.clip(0), axis=None)
    held = np.append(0.0, found.cumsum())
    shares = (held / (held[-1] or 1)).astype(np.float32)

    def place(some: NDArray[np.float64]) -> NDArray[np.float32]:
        placed: NDArray[np.float32] = shares[np.searchsorted(found, some, side="right")]
        return placed

    return place


def factors(numbers: NDArray[np.float64], name: str) -> tuple[float, float]:
    """From the mean, or as far below it, to the largest number, or twice the mean where that is more.

    Raises UnknownOption where a number is negative.
    """
    if numbers.min() < 0:
        raise UnknownOption(f"scale {name} is for maps without negative numbers", field="scale")
    mean = float(numbers.mean())
    high = max(2 * mean, float(numbers.max()))
    low = mean * mean / high if name == "uniform" and mean else mean
    return low, high


def by_factors(numbers: NDArray[np.float64], *, low: float, high: float) -> NDArray[np.float32]:
    """Equal steps for equal factors between low and high, clipped to [0, 1]; 0 where there is no room."""
    if not high > low > 0:
        return np.zeros(numbers.shape, np.float32)
    places: NDArray[np.float64] = np.log(numbers.clip(low, high) / low) / math.log(high / low)
    return places.clip(0, 1).astype(np.float32)


def finite(values: NDArray[Any]) -> NDArray[np.float64]:
    """The numbers of a map. Raises ValueError where there are none, or one that is not finite."""
    numbers = np.asarray(values, np.float64)
    if numbers.size == 0 or not np.isfinite(numbers).all():
        raise ValueError(f"a map of shape {numbers.shape} must hold numbers, and finite ones")
    return numbers


def linearly(numbers: NDArray[np.float64], *, low: float, high: float) -> NDArray[np.float32]:
    """Where numbers lie between low and high, clipped to [0, 1]; with no room between, 1 is what is above."""
    if high > low:
        return ((numbers - low) / (high - low)).clip(0, 1).astype(np.float32)
    return (numbers > high).astype(np.float32)


def span(
    numbers: NDArray[np.float64], name: str, fixed_range: tuple[float, float] | None
) -> tuple[float, float]:
    """The lowest and the highest number a scale tells apart."""
    lowest, highest = float(numbers.min()), float(numbers.max())
    signed = lowest < 0 < highest
    furthest = max(-lowest, highest)
    if name == "absolute":
        if fixed_range is not None:
            return fixed_range
        return (-max(1.0, furthest), max(1.0, furthest)) if signed else (min(0.0, lowest), max(1.0, highest))
    if name == "peak":
        return (-furthest, furthest) if signed else (min(0.0, lowest), max(0.0, highest))
    if name == "percentile":
        low, high = np.percentile(numbers, PERCENTILES)
        return float(low), float(high)
    return lowest, highest
