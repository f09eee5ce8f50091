"""Means over inputs, their intervals, and how a map stands beside random numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.bundle import Blanked, Interval, JudgedMap, Manifest, MapFigures, Measure, Measured, Verdict
from service.bundle.inputs import Frozen
from service.evaluation.probe import Found, Key
from service.evaluation.ranking import RANDOM, Row, reason

Array = NDArray[Any]

RESAMPLES = 2000
CONFIDENCE = 0.95
FEWEST = 20  # inputs that a verdict needs: the percentiles of fewer are too narrow
LOWER_IS_BETTER: tuple[Measure, ...] = ("deletion", "sufficiency")
DIGITS = 4


class Curve(Frozen):
    """The mean score over `shares` of a map's parts: `without` those ranked first, or with these `alone`."""

    map: str
    layer: str | None
    ranks: str
    blanking: str
    shares: tuple[float, ...]
    without: tuple[Interval, ...]
    alone: tuple[Interval, ...]


class Evaluation(Frozen):
    """What `regard evaluate` found of one model version."""

    model: str
    version: str
    figures: MapFigures
    curves: tuple[Curve, ...]


def tally(found: Iterable[Found], manifest: Manifest, *, data: str, steps: int, seed: int) -> Evaluation:
    """The figures of all inputs, of which there has to be one."""
    inputs = list(found)
    intervals = Intervals(seed)
    ways = inputs[0].ways
    known = [one.right for one in inputs if one.right is not None]
    return Evaluation(
        model=manifest.name,
        version=manifest.version,
        figures=MapFigures(
            data=data,
            inputs=len(inputs),
            seed=seed,
            steps=steps,
            accuracy=intervals.mean(known) if known else None,
            score=intervals.mean([one.score for one in inputs]),
            blanked={
                way: Blanked(meaning=meaning, score=_blank(inputs, way, intervals))
                for way, meaning in ways.items()
            },
            maps=tuple(_judged(inputs, intervals)),
            not_judged={spec.name: why for spec in manifest.maps if (why := reason(spec)) is not None},
        ),
        curves=tuple(_curves(inputs, intervals)),
    )


class Intervals:
    """Means with 95 % intervals: percentiles of the means of inputs drawn with replacement (bootstrap)."""

    def __init__(self, seed: int) -> None:
        @cache
        def weights(count: int) -> Array:
            """How often each of `count` inputs is drawn, as shares: [resample, input]."""
            rng = np.random.default_rng(seed)
            return rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES) / count

        self._weights = weights

    def mean(self, values: Sequence[float]) -> Interval:
        """Of one figure."""
        (found,) = self.means(np.array(values, np.float64)[:, None])
        return found

    def means(self, values: Array) -> list[Interval]:
        """Of several figures of the same inputs, [input, figure]."""
        tail = (1 - CONFIDENCE) / 2
        low, high = np.quantile(self._weights(len(values)) @ values, (tail, 1 - tail), axis=0)
        return [
            Interval(value=round(value, DIGITS), low=round(below, DIGITS), high=round(above, DIGITS))
            for value, below, above in zip(values.mean(0).tolist(), low.tolist(), high.tolist(), strict=True)
        ]


def verdict(measure: Measure, difference: Interval, inputs: int) -> Verdict:
    """What a difference from random says: nothing where its interval holds 0."""
    if inputs < FEWEST:
        return "too few inputs"
    if difference.low <= 0 <= difference.high:
        return "not told apart"
    good = (difference.value < 0) == (measure in LOWER_IS_BETTER)
    return "better than random" if good else "worse than random"


def _judged(inputs: Sequence[Found], intervals: Intervals) -> Iterable[JudgedMap]:
    """Every row, in the order met; those that rank the same parts stand together, random and uniform last."""
    keys: dict[Row, list[Key]] = {}
    for key in dict.fromkeys(key for one in inputs for key in one.values):
        keys.setdefault(key.row, []).append(key)
    for row in by_ranks(keys):
        yield JudgedMap(
            map=row.map,
            layer=row.layer,
            ranks=row.ranks,
            measures=tuple(_measured(key, inputs, intervals) for key in keys[row]),
        )


def by_ranks(rows: Iterable[Row]) -> list[Row]:
    """Rows that rank the same parts one after the other."""
    rows = list(rows)
    ranks = list(dict.fromkeys(row.ranks for row in rows))
    return sorted(rows, key=lambda row: ranks.index(row.ranks))


def _measured(key: Key, inputs: Sequence[Found], intervals: Intervals) -> Measured:
    values = [one.values for one in inputs if key in one.values]
    value = intervals.mean([one[key] for one in values])
    difference = None
    if key.row.map != RANDOM:
        beside = key._replace(row=Row(RANDOM, None, key.row.ranks))
        difference = intervals.mean([one[key] - one[beside] for one in values])
    return Measured(
        measure=key.measure,
        blanking=key.way,
        inputs=len(values),
        value=value,
        difference=difference,
        verdict=None if difference is None else verdict(key.measure, difference, len(values)),
    )


def _blank(inputs: Sequence[Found], way: str, intervals: Intervals) -> Interval | None:
    scores = [one.blank[way] for one in inputs if way in one.blank]
    return intervals.mean(scores) if scores else None


def _curves(inputs: Sequence[Found], intervals: Intervals) -> Iterable[Curve]:
    shares: Mapping[Row, tuple[float, ...]] = inputs[0].shares
    for row in by_ranks(shares):
        for way in inputs[0].ways:
            several = [one.curves[row, way] for one in inputs]
            yield Curve(
                map=row.map,
                layer=row.layer,
                ranks=row.ranks,
                blanking=way,
                shares=shares[row],
                without=tuple(intervals.means(np.array([one.without for one in several]))),
                alone=tuple(intervals.means(np.array([one.alone for one in several]))),
            )
