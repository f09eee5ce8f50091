"""What a label's score does as the parts that a map ranks first are taken away, or are all that is left.

Deletion and insertion: Petsiuk et al. 2018 (RISE). Comprehensiveness and sufficiency: DeYoung et al. 2020
(ERASER).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.bundle import Measure

Array = NDArray[Any]
Mask = NDArray[np.bool_]

SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)  # of a text's tokens
Score = Callable[[Sequence[Mask]], Array]


class Curves(NamedTuple):
    """Scores after each step: without the parts that a map ranks first, and with these alone."""

    without: Array
    alone: Array


def counts_of_steps(parts: int, steps: int) -> list[int]:
    """How many of the parts are taken at each step, from none to all; fewer steps where parts are few."""
    return sorted({round(parts * step / steps) for step in range(steps + 1)})


def counts_of_shares(parts: int) -> list[int]:
    """How many of a text's tokens each of SHARES is: rounded up, so at least one."""
    return [math.ceil(share * parts) for share in SHARES]


def curves(
    orders: Sequence[Array], counts: Sequence[int], shape: tuple[int, ...], score: Score
) -> list[Curves]:
    """The curves of each order (indices of the flattened parts, the first first), all scored in one go."""
    masks = [mask for order in orders for mask in _masks(order, counts, shape)]
    scores = np.asarray(score(masks)).reshape(len(orders), 2, len(counts))
    return [Curves(*pair) for pair in scores]


def areas(found: Curves, counts: Sequence[int]) -> dict[Measure, float]:
    """The areas under both curves, over the share of the parts; good are a low deletion, a high insertion."""
    shares = np.array(counts) / counts[-1]
    return {
        "deletion": float(np.trapezoid(found.without, shares)),
        "insertion": float(np.trapezoid(found.alone, shares)),
    }


def drops(found: Curves, whole: float) -> dict[Measure, float]:
    """What the score falls by, mean over the shares; good are a high comprehensiveness, a low sufficiency."""
    return {
        "comprehensiveness": float((whole - found.without).mean()),
        "sufficiency": float((whole - found.alone).mean()),
    }


def _masks(order: Array, counts: Sequence[int], shape: tuple[int, ...]) -> list[Mask]:
    """What is gone: the first ones for each count, then all others for each count."""
    places = np.empty(order.size, np.int64)
    places[order] = np.arange(order.size)
    first = [(places < count).reshape(shape) for count in counts]
    return [*first, *(~mask for mask in first)]
