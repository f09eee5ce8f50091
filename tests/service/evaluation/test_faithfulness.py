"""Curves and their figures, against sums that were worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import auc

from service.evaluation.faithfulness import (
    Curves,
    areas,
    counts_of_shares,
    counts_of_steps,
    curves,
    drops,
)

WEIGHTS = np.array([[0.1, 0.4], [0.3, 0.2]])  # what each of four places gives to a score of 1


def score(masks: Sequence[Any]) -> Any:
    return np.array([WEIGHTS[~gone].sum() for gone in masks])


BEST, WORST = np.array([1, 2, 3, 0]), np.array([0, 3, 2, 1])


def test_the_true_order_of_a_linear_score_gives_the_areas_worked_out_by_hand() -> None:
    counts = [0, 1, 2, 3, 4]
    best, worst = curves([BEST, WORST], counts, WEIGHTS.shape, score)
    np.testing.assert_allclose(best.without, [1, 0.6, 0.3, 0.1, 0])
    np.testing.assert_allclose(best.alone, [0, 0.4, 0.7, 0.9, 1])
    assert areas(best, counts) == pytest.approx({"deletion": 0.375, "insertion": 0.625})
    assert areas(worst, counts) == pytest.approx({"deletion": 0.625, "insertion": 0.375})


def test_areas_are_those_of_another_library_over_shares_of_the_parts() -> None:
    rng = np.random.default_rng(0)
    counts = counts_of_steps(144, 20)
    found = Curves(rng.random(len(counts)), rng.random(len(counts)))
    shares = np.array(counts) / 144
    assert areas(found, counts) == pytest.approx(
        {"deletion": auc(shares, found.without), "insertion": auc(shares, found.alone)}
    )


def test_drops_are_means_over_the_shares_worked_out_by_hand() -> None:
    found = Curves(np.array([0.9, 0.8, 0.7, 0.5, 0.1]), np.array([0.2, 0.4, 0.6, 0.8, 0.9]))
    assert drops(found, 0.9) == pytest.approx({"comprehensiveness": 0.3, "sufficiency": 0.32})


@pytest.mark.parametrize(
    ("parts", "expected"),
    [(100, [1, 5, 10, 20, 50]), (10, [1, 1, 1, 2, 5]), (1, [1] * 5), (7, [1, 1, 1, 2, 4])],
)
def test_shares_of_a_text_are_rounded_up(parts: int, expected: list[int]) -> None:
    assert counts_of_shares(parts) == expected


@pytest.mark.parametrize(
    ("parts", "steps", "expected"), [(8, 4, [0, 2, 4, 6, 8]), (3, 20, [0, 1, 2, 3]), (9, 2, [0, 4, 9])]
)
def test_steps_go_from_nothing_to_everything(parts: int, steps: int, expected: list[int]) -> None:
    assert counts_of_steps(parts, steps) == expected
