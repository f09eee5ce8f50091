"""One input of a model: its maps, and all that is measured of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.batch import form_batch
from service.bundle import Measure
from service.dataset import DatasetError, Raw
from service.decode.item import Item, TextItem
from service.errors import Problem
from service.evaluation import faithfulness
from service.evaluation.blanking import Blanker, Blanking, Mask
from service.evaluation.faithfulness import Curves
from service.evaluation.localisation import located
from service.evaluation.ranking import Ranking, Row, order, random_beside, rankings, reason, uniform_beside
from service.job import Payload, Wanted
from service.predictor import Predictor
from service.truth import Truth

Array = NDArray[Any]

HELD = 64  # blanked copies that are held at a time
UNIFORM_ORDERS = 3  # where all is equal, any order is as good: the mean of so many


class Key(NamedTuple):
    """One figure of one row; `way` is how parts were taken away."""

    row: Row
    measure: Measure
    way: str | None


@dataclass(frozen=True, kw_only=True)
class Found:
    """What was measured of one input.

    `score` is the predicted label's, `blank` what is left of it where all is taken away, by way; `right` is
    None where the label is not known. `curves` are by row and way, over `shares` of the parts.
    """

    score: float
    right: bool | None
    blank: dict[str, float]
    ways: dict[str, str]
    values: dict[Key, float] = field(default_factory=dict)
    curves: dict[tuple[Row, str], Curves] = field(default_factory=dict)
    shares: dict[Row, tuple[float, ...]] = field(default_factory=dict)


class Judge:
    """Judges the maps of one model, one input at a time; may be called from several threads at once."""

    def __init__(self, predictor: Predictor, blanker: Blanker, *, steps: int, seed: int) -> None:
        self._predictor = predictor
        self._blanker = blanker
        self._steps = steps
        self._seed = seed
        maps = frozenset(spec.name for spec in predictor.manifest.maps if reason(spec) is None)
        self._wanted = Wanted(maps=maps)

    def judge(self, index: int, raw: Raw, truth: Truth | None) -> Found:
        """Everything about input `index`, which also seeds what is random; raises DatasetError."""
        with _named(raw.place):
            item = self._predictor.decode(Payload(data=raw.data, pair=raw.pair))
        label = None
        if truth is not None and truth.label is not None:
            with _named(truth.place):
                label = self._predictor.target(truth.label)
        (outcome,) = self._predictor.run([self._predictor.job(item, self._wanted)])
        scores = self._predictor.scores(outcome.logits)
        predicted = int(outcome.logits.argmax())
        rng = np.random.default_rng([self._seed, index])
        found = rankings(outcome.maps, item, predicted=predicted)
        random = random_beside(found, rng)
        probe = _Probe(self._predictor, self._blanker(item), target=predicted, whole=float(scores[predicted]))
        judged = Found(
            score=float(scores[predicted]),
            right=None if label is None else label == predicted,
            blank=probe.blank(found[0].values.shape) if found else {},
            ways=dict(probe.blanking.ways),
        )
        for ranking in (*found, *random):
            self._faithfulness(judged, probe, ranking, item, [order(ranking.values, rng)])
        for ranking in uniform_beside(found):
            orders = [order(ranking.values, rng) for _ in range(UNIFORM_ORDERS)]
            self._faithfulness(judged, probe, ranking, item, orders)
        if truth is not None:
            for ranking in (*found, *random, *uniform_beside(found)):
                for measure, value in located(ranking.values, truth, item).items():
                    judged.values[Key(ranking.row, measure, None)] = value
        return judged

    def _faithfulness(
        self, judged: Found, probe: _Probe, ranking: Ranking, item: Item, orders: Sequence[Array]
    ) -> None:
        """Add the curves and figures of one map, means over the orders that it allows."""
        parts = ranking.values.size
        text = isinstance(item, TextItem)
        counts = (
            faithfulness.counts_of_shares(parts) if text else faithfulness.counts_of_steps(parts, self._steps)
        )
        judged.shares[ranking.row] = faithfulness.SHARES if text else tuple(count / parts for count in counts)
        for way in probe.blanking.ways:
            score = partial(probe.scores, way=way)
            several = faithfulness.curves(orders, counts, ranking.values.shape, score)
            found = Curves(*np.mean(several, axis=0))
            judged.curves[ranking.row, way] = found
            figures = faithfulness.drops(found, judged.score) if text else faithfulness.areas(found, counts)
            for measure, value in figures.items():
                judged.values[Key(ranking.row, measure, way)] = value


@contextmanager
def _named(place: str) -> Iterator[None]:
    """What a decoder or a model refuses becomes a DatasetError that says where it stands."""
    try:
        yield
    except Problem as error:
        raise DatasetError(f"{place}: {error}") from error


class _Probe:
    """The score of one label for one input with parts taken away."""

    def __init__(self, predictor: Predictor, blanking: Blanking, *, target: int, whole: float) -> None:
        self.blanking = blanking
        self._predictor = predictor
        self._target = target
        self._whole = whole
        self._blank: dict[str, float] = {}

    def blank(self, shape: tuple[int, ...]) -> dict[str, float]:
        """The score where all is gone, in every way that leaves a model anything to be run on."""
        gone = np.ones(shape, np.bool_)
        for way in self.blanking.ways:
            if self.blanking.is_left(gone, way):
                (self._blank[way],) = self._run([gone], way)
        return self._blank

    def scores(self, masks: Sequence[Mask], way: str) -> Array:
        """Of each mask, the score without the parts it marks; raises DatasetError where nothing is left."""
        known = [self._known(mask, way) for mask in masks]
        asked = [index for index, score in enumerate(known) if score is None]
        found = np.array([np.nan if score is None else score for score in known])
        found[asked] = self._run([masks[index] for index in asked], way)
        return found

    def _known(self, mask: Mask, way: str) -> float | None:
        if not mask.any():
            return self._whole
        return self._blank.get(way) if mask.all() else None

    def _run(self, masks: Sequence[Mask], way: str) -> Array:
        """Those with as much taken away after each other, so that texts of like lengths share a batch."""
        scores = np.empty(len(masks))
        sizes = [int(mask.sum()) for mask in masks]
        rest = sorted(range(len(masks)), key=sizes.__getitem__)
        for some in (rest[start : start + HELD] for start in range(0, len(rest), HELD)):
            left = {index: self._predictor.job(self.blanking.without(masks[index], way)) for index in some}
            while left:
                places = list(left)
                chosen = [places[place] for place in form_batch(list(left.values()), self._predictor.limits)]
                outcomes = self._predictor.run([left.pop(index) for index in chosen])
                for index, outcome in zip(chosen, outcomes, strict=True):
                    scores[index] = self._predictor.scores(outcome.logits)[self._target]
        return scores
