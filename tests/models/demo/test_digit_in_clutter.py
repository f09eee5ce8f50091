"""Promises of the scenes, and that the committed image model does what its card says."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from models.checkpoints import native
from models.demo import digits
from models.demo.digit_in_clutter import recipe
from models.demo.digit_in_clutter.scenes import CELL, SIDE, scenes
from models.demo.digits import LABELS, Placement, draw, scans


def test_labels_are_those_of_the_scans() -> None:
    data = scenes(scans("held-out"), 20, np.random.default_rng(0))
    np.testing.assert_array_equal(load_digits().target[data.scans], data.labels)
    assert set(data.scans) <= set(scans("held-out").ids)


def test_a_seed_gives_the_same_scenes() -> None:
    first, again, other = (scenes(scans("train"), 4, np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.pixels, again.pixels)
    np.testing.assert_array_equal(first.boxes, again.boxes)
    assert (first.pixels != other.pixels).any()


def test_boxes_lie_inside_the_picture_and_are_of_digit_size() -> None:
    boxes = scenes(scans("train"), 200, np.random.default_rng(0)).boxes
    assert boxes.min() >= 0
    assert boxes.max() <= SIDE
    heights = boxes[:, 3] - boxes[:, 1]
    assert heights.min() > 6 * CELL[0]
    assert heights.max() < 11 * CELL[1]


def test_a_box_holds_all_ink_of_its_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[torch.Tensor] = []

    def spy(ink: torch.Tensor, place: Placement, side: int) -> torch.Tensor:
        drawn.append(draw(ink, place, side))
        return drawn[-1]

    monkeypatch.setattr("models.demo.digit_in_clutter.scenes.draw", spy)
    data = scenes(scans("held-out"), 50, np.random.default_rng(1))
    for coverage, (left, top, right, bottom) in zip(drawn[0], data.boxes, strict=True):
        inside = coverage[top:bottom, left:right]
        assert (coverage > digits.INK).sum() == (inside > digits.INK).sum()
        for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
            assert edge.max() > digits.INK


def test_plain_scenes_are_white_on_black() -> None:
    data = scenes(scans("train"), 3, np.random.default_rng(0), variety=0)
    for pixels, (left, top, right, bottom) in zip(data.pixels, data.boxes, strict=True):
        assert np.median(pixels) < 30
        assert np.quantile(pixels[top:bottom, left:right].min(-1), 0.95) > 200


def test_the_committed_model_does_what_its_card_says() -> None:
    checkpoint = native.load(recipe.WEIGHTS)
    assert checkpoint.labels == LABELS
    assert checkpoint.card is not None
    data = scenes(scans("held-out"), 150, np.random.default_rng(1000))
    with torch.no_grad():
        outputs, _ = checkpoint.model(recipe.to_input(data.pixels))
    accuracy = float((outputs["logits"].argmax(1).numpy() == data.labels).mean())
    assert accuracy == pytest.approx(checkpoint.card["accuracy"]["value"], abs=0.05)


def test_the_committed_model_survives_jpeg() -> None:
    data = scenes(scans("held-out"), 100, np.random.default_rng(1001))
    pictures = np.stack([through_jpeg(pixels) for pixels in data.pixels])
    model = native.load(recipe.WEIGHTS).model
    with torch.no_grad():
        outputs, _ = model(recipe.to_input(pictures))
    assert (outputs["logits"].argmax(1).numpy() == data.labels).mean() > 0.9


def through_jpeg(pixels: digits.Pixels) -> digits.Pixels:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=80)
    return np.asarray(Image.open(file))
