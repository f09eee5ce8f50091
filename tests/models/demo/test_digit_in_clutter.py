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
from models.demo.digits import LABELS, Placement, coverage_of_boxes, draw, scans


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


def test_plain_scenes_are_white_on_black() -> None:
    data = scenes(scans("train"), 3, np.random.default_rng(0), variety=0)
    for pixels, (left, top, right, bottom) in zip(data.pixels, data.boxes, strict=True):
        assert np.median(pixels) < 30
        assert np.quantile(pixels[top:bottom, left:right].min(-1), 0.95) > 200


def test_clutter_is_of_fragments_and_not_of_digits() -> None:
    coverage, _ = digits.fragments(
        scans("train"), np.full(20, 4, np.float32), 10, SIDE, np.random.default_rng(0)
    )
    left, top, right, bottom = digits.boxes(coverage.flatten(0, 1)).T
    shown = coverage.flatten(0, 1).amax((1, 2)).numpy() > digits.INK
    assert max((right - left)[shown].max(), (bottom - top)[shown].max()) <= 4 * 4  # half of a digit


def test_a_box_covers_patches_by_their_share() -> None:
    shares = coverage_of_boxes(np.array([2, 0, 6, 4]), 8, (2, 2))
    assert shares.tolist() == [[0.5, 0.5], [0, 0]]


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
