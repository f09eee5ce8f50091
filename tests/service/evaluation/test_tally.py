"""Means, intervals and verdicts over inputs, against scipy and against what was worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from service.bundle import Interval
from service.evaluation.faithfulness import Curves
from service.evaluation.probe import Found, Key
from service.evaluation.ranking import Row
from service.evaluation.tally import Intervals, tally, verdict
from service.predictor import Predictor

GOOD, RANDOM = Row("cam", None, "4 places"), Row("random", None, "4 places")


def found(
    rng: np.random.Generator, *, located: bool = False, right: bool | None = None, gain: float = 0.3
) -> Found:
    chance = rng.random()
    values = {
        Key(GOOD, "insertion", "zero"): chance + gain + rng.normal(0, 0.1),
        Key(RANDOM, "insertion", "zero"): chance,
    }
    if located:
        values |= {Key(GOOD, "pointing", None): 1.0, Key(RANDOM, "pointing", None): 0.0}
    curve = Curves(np.array([0.9, 0.1]), np.array([0.1, 0.9]))
    return Found(
        score=0.9,
        right=right,
        blank={"zero": 0.1},
        ways={"zero": "black"},
        values=values,
        curves={(GOOD, "zero"): curve, (RANDOM, "zero"): curve},
        shares={GOOD: (0.0, 1.0), RANDOM: (0.0, 1.0)},
    )


def tallied(predictor: Predictor, inputs: list[Found], seed: int = 0) -> Any:
    return tally(inputs, predictor.manifest, data="set", steps=20, seed=seed)


@pytest.mark.parametrize("count", [20, 150])
def test_intervals_are_those_of_scipys_bootstrap(count: int) -> None:
    values = np.random.default_rng(1).gamma(2.0, size=count)
    ours = Intervals(0).mean(values.tolist())
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2)
    )
    assert ours.value == pytest.approx(values.mean(), abs=1e-4)
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.07 * width)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.07 * width)


def test_an_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    intervals, hits = Intervals(0), 0
    for _ in range(400):
        interval = intervals.mean(rng.normal(1, 1, 60).tolist())
        hits += interval.low <= 1 <= interval.high
    assert 0.91 < hits / 400 < 0.98


def test_one_input_is_its_own_interval() -> None:
    assert Intervals(0).mean([0.25]) == Interval(value=0.25, low=0.25, high=0.25)


@pytest.mark.parametrize(
    ("measure", "low", "high", "inputs", "expected"),
    [
        ("insertion", 0.1, 0.2, 100, "better than random"),
        ("insertion", -0.2, -0.1, 100, "worse than random"),
        ("insertion", -0.1, 0.2, 100, "not told apart"),
        ("deletion", -0.2, -0.1, 100, "better than random"),
        ("deletion", 0.1, 0.2, 100, "worse than random"),
        ("sufficiency", -0.2, -0.1, 100, "better than random"),
        ("comprehensiveness", 0.1, 0.2, 100, "better than random"),
        ("energy", 0.1, 0.2, 20, "better than random"),
        ("energy", 0.1, 0.2, 19, "too few inputs"),
    ],
)
def test_a_verdict_needs_an_interval_without_zero_and_enough_inputs(
    measure: Any, low: float, high: float, inputs: int, expected: str
) -> None:
    assert verdict(measure, Interval(value=(low + high) / 2, low=low, high=high), inputs) == expected


def test_differences_are_paired(predictors: dict[str, Predictor]) -> None:
    """What varies from input to input, much more than the maps differ, does not blur the difference."""
    rng = np.random.default_rng(0)
    report = tallied(predictors["image"], [found(rng) for _ in range(100)])
    (good, random) = report.figures.maps
    (measured,) = good.measures
    assert measured.value.high - measured.value.low > 0.1
    assert measured.difference.high - measured.difference.low < 0.05
    assert measured.difference.value == pytest.approx(0.3, abs=0.03)
    assert measured.verdict == "better than random"
    assert (random.measures[0].difference, random.measures[0].verdict) == (None, None)


def test_a_figure_is_of_the_inputs_that_have_it(predictors: dict[str, Predictor]) -> None:
    rng = np.random.default_rng(0)
    inputs = [found(rng, located=index < 30, right=index < 24 if index < 32 else None) for index in range(50)]
    report = tallied(predictors["image"], inputs).figures
    counts = {one.measure: (one.inputs, one.value.value) for one in report.maps[0].measures}
    assert counts["pointing"] == (30, 1.0)
    assert counts["insertion"][0] == report.inputs == 50
    assert report.accuracy is not None
    assert report.accuracy.value == 0.75
    assert report.blanked["zero"].meaning == "black"
    assert report.blanked["zero"].score.value == 0.1
    assert set(report.not_judged) == {"channel"}


def test_nothing_is_said_of_labels_that_nobody_knows(predictors: dict[str, Predictor]) -> None:
    assert tallied(predictors["image"], [found(np.random.default_rng(0))]).figures.accuracy is None


def test_curves_are_means_with_intervals(predictors: dict[str, Predictor]) -> None:
    rng = np.random.default_rng(0)
    (curve, _) = tallied(predictors["image"], [found(rng) for _ in range(5)]).curves
    assert (curve.map, curve.blanking, curve.shares) == ("cam", "zero", (0.0, 1.0))
    assert [point.value for point in curve.without] == [0.9, 0.1]
    assert [point.value for point in curve.alone] == [0.1, 0.9]


def test_the_seed_fixes_the_intervals(predictors: dict[str, Predictor]) -> None:
    rng = np.random.default_rng(0)
    inputs = [found(rng) for _ in range(30)]
    reports = [tallied(predictors["image"], inputs, seed).figures.maps for seed in (0, 0, 1)]
    assert reports[0] == reports[1] != reports[2]
