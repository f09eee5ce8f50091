"""Promises of the scanned digits and of how they are drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from models.demo import digits
from models.demo.digits import Placement, coverage_of_boxes, draw, scans


def test_no_scan_stands_in_both_halves() -> None:
    train, held_out = scans("train"), scans("held-out")
    assert not set(train.ids) & set(held_out.ids)
    assert sorted([*train.ids, *held_out.ids]) == list(range(1797))
    images = load_digits().images.reshape(1797, -1)
    copies = {row.tobytes() for row in images[train.ids]} & {row.tobytes() for row in images[held_out.ids]}
    assert not copies


def test_the_halves_have_the_same_share_of_each_label() -> None:
    train, held_out = (np.bincount(scans(half).labels) for half in ("train", "held-out"))
    np.testing.assert_allclose(held_out / (train + held_out), 0.25, atol=0.01)


def test_drawing_puts_cells_where_they_belong() -> None:
    """One inked cell, right of and below the middle of the scan, drawn upright and after a quarter turn."""
    ink = torch.zeros(2, 1, 40, 40)
    ink[:, :, 24:28, 20:24] = 1  # one cell down from the cell right below the middle
    place = Placement(
        centre=np.array([[30, 20], [30, 20]], np.float32),
        cell=np.full((2, 2), 4, np.float32),
        angle=np.array([0, np.pi / 2], np.float32),
        middle=np.zeros((2, 2), np.float32),
    )
    upright, turned = draw(ink, place, 60)
    assert upright[24:28, 30:34].min() > 0.99
    assert upright.sum() == pytest.approx(16, rel=0.01)
    # Clockwise: what was below is now to the left, what was to the right is now below.
    assert turned[20:24, 22:26].min() > 0.99


def test_distorted_scans_are_new_writing_of_the_same_scans() -> None:
    half = scans("train")
    more = digits.distorted(half, 2, np.random.default_rng(0))
    np.testing.assert_array_equal(more.ids, [*half.ids, *half.ids])
    np.testing.assert_array_equal(load_digits().target[more.ids], more.labels)
    change = (more.ink - half.ink.repeat(2, 1, 1, 1)).abs().mean((1, 2, 3))
    ink = half.ink.mean((1, 2, 3)).repeat(2)
    assert float((change / ink).min()) > 0.02
    assert float((change / ink).median()) < 0.6
    assert more.ink.min() >= 0
    assert more.ink.max() <= 1


def test_clutter_is_of_fragments_and_not_of_digits() -> None:
    coverage, _ = digits.fragments(
        scans("train"), np.full(20, 4, np.float32), 10, 96, np.random.default_rng(0)
    )
    left, top, right, bottom = digits.boxes(coverage.flatten(0, 1)).T
    shown = coverage.flatten(0, 1).amax((1, 2)).numpy() > digits.INK
    assert max((right - left)[shown].max(), (bottom - top)[shown].max()) <= 4 * 4  # half of a digit


def test_a_box_covers_patches_by_their_share() -> None:
    shares = coverage_of_boxes(np.array([2, 0, 6, 4]), 8, (2, 2))
    assert shares.tolist() == [[0.5, 0.5], [0, 0]]
