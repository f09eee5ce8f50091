"""Pointing and energy where the truth is known, worked out by hand and beside the recipes' own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from models.demo.card import score
from models.demo.digits import coverage_of_boxes
from service.dataset import DatasetError
from service.decode.item import NOTHING, ImageItem, TextItem, VideoItem
from service.decode.view import View
from service.evaluation.localisation import covered, energy, located, pointing
from service.truth import Truth

SQUARE = View(width=8, height=8, model_width=8, model_height=8, scale_x=1, scale_y=1, left=0, top=0)
PICTURE = ImageItem(tensors={}, original=NOTHING, view=SQUARE, format="tensor")
CLIP = VideoItem(
    tensors={},
    original=NOTHING,
    view=SQUARE,
    format="tensor",
    indices=(0, 2, 4),
    timestamps=(0.0, 2.0, 4.0),
    total=6,
    duration=6,
)
TEXT = TextItem(
    tensors={},
    texts=("abcdef",),
    tokens=("[CLS]", "ab", "cd", "ef", "[SEP]"),
    offsets=((0, 0), (0, 2), (2, 4), (4, 6), (6, 6)),
    segments=(0, 0, 0, 0, 0),
    special=(True, False, False, False, True),
    dropped=(0,),
)


def truth(**fields: Any) -> Truth:
    return Truth(place="truth.jsonl, line 7", **fields)


def test_boxes_cover_cells_as_the_recipes_count_them() -> None:
    rng = np.random.default_rng(0)
    for left, top, right, bottom in rng.integers(0, 32, (20, 2, 2)).cumsum(1).reshape(-1, 4) + np.array(
        [0, 0, 1, 1]
    ):
        box = (float(left), float(top), float(right), float(bottom))
        view = replace(SQUARE, width=64, height=64, model_width=64, model_height=64)
        expected = coverage_of_boxes(np.array(box, np.int64), 64, (6, 9))
        np.testing.assert_allclose(covered(box, view, 6, 9), expected, atol=1e-6)


def test_a_box_is_followed_through_resize_and_crop() -> None:
    """40x20 halved to 20x10, of which the middle 10x10 is seen: the original's 10..30 across."""
    view = View(width=40, height=20, model_width=10, model_height=10, scale_x=0.5, scale_y=0.5, left=5, top=0)
    assert covered((10, 0, 20, 10), view, 2, 2).tolist() == [[1, 0], [0, 0]]
    assert covered((25, 10, 40, 20), view, 2, 2).tolist() == [[0, 0], [0, 0.5]]
    assert covered((0, 0, 10, 20), view, 2, 2).tolist() == [[0, 0], [0, 0]]


def test_both_measures_agree_with_those_of_the_cards() -> None:
    rng = np.random.default_rng(0)
    maps, masks = rng.random((50, 4, 4)), rng.choice([0, 0.25, 0.75, 1.0], (50, 4, 4))
    expected = score("m", None, list(maps), list(masks))
    pairs = list(zip(maps, masks, strict=True))
    assert np.mean([pointing(*pair) for pair in pairs]) == pytest.approx(expected.pointing.value)
    assert np.mean([energy(*pair) for pair in pairs]) == pytest.approx(expected.energy.value)


def test_a_picture_is_judged_by_its_box() -> None:
    values = np.array([[1.0, 2.0], [0.0, 5.0]])
    assert located(values, truth(box=(4, 4, 8, 8)), PICTURE) == {"pointing": 1, "energy": 5 / 8}
    assert located(values, truth(box=(0, 0, 8, 4)), PICTURE) == {"pointing": 0, "energy": 3 / 8}


def test_a_uniform_map_has_the_share_of_the_place_in_both() -> None:
    assert located(np.ones((4, 4)), truth(box=(0, 0, 4, 8)), PICTURE) == {"pointing": 0.5, "energy": 0.5}
    assert located(np.zeros((4, 4)), truth(box=(0, 0, 4, 8)), PICTURE) == {"pointing": 0.5, "energy": 0.5}


def test_of_several_highest_values_the_share_inside_counts() -> None:
    assert pointing(np.array([3, 3, 1, 3]), np.array([1, 0, 1, 1])) == pytest.approx(2 / 3)


def test_a_place_smaller_than_half_a_cell_is_in_the_cell_that_has_most_of_it() -> None:
    found = located(np.array([[0.0, 1.0], [0.0, 0.0]]), truth(box=(5, 1, 7, 3)), PICTURE)
    assert found == {"pointing": 1, "energy": 0.25}


def test_a_place_that_the_model_did_not_see_is_not_judged() -> None:
    view = View(width=16, height=8, model_width=8, model_height=8, scale_x=1, scale_y=1, left=8, top=0)
    assert located(np.ones((2, 2)), truth(box=(0, 0, 8, 8)), replace(PICTURE, view=view)) == {}


def test_negative_values_hold_no_mass() -> None:
    found = located(np.array([[-3.0, 1.0], [0.0, 0.0]]), truth(box=(4, 0, 8, 4)), PICTURE)
    assert found == {"pointing": 1, "energy": 1}


def test_in_a_clip_each_sampled_frame_is_judged_by_its_own_box() -> None:
    left, right, never = (0, 0, 4, 8), (4, 0, 8, 8), (0, 0, 8, 1)
    boxes = (left, never, right, never, None, never)
    values = np.array([[[3.0, 1.0]], [[3.0, 1.0]], [[9.0, 9.0]]])
    assert located(values, truth(boxes=boxes), CLIP) == {"pointing": 0.5, "energy": 0.5}


def test_a_map_over_places_of_a_whole_clip_is_judged_by_the_mean_of_its_boxes() -> None:
    left = (0, 0, 4, 8)
    found = located(np.array([[3.0, 1.0]]), truth(boxes=(left, left, left, left, None, None)), CLIP)
    assert found == {"pointing": 1, "energy": pytest.approx(3 / 4 * 2 / 3)}


def test_frames_are_judged_by_those_in_which_it_happens() -> None:
    values = np.array([1.0, 5.0, 2.0])
    assert located(values, truth(frames=(2, 3)), CLIP) == {"pointing": 1, "energy": 5 / 8}
    assert located(values, truth(frames=(1, 3)), CLIP) == {}  # none of them was sampled


def test_tokens_are_judged_by_their_characters_in_the_span() -> None:
    values = np.array([1.0, 2.0, 1.0])
    assert located(values, truth(span=(3, 6)), TEXT) == {"pointing": 1, "energy": 0.5}
    assert located(values, truth(span=(4, 6)), TEXT) == {"pointing": 0, "energy": 0.25}
    offsets = ((0, 0), (0, 2), (2, 4), (0, 2), (2, 2))  # the second text's begin anew
    pair = replace(TEXT, texts=("abcd", "ef"), segments=(0, 0, 0, 1, 1), offsets=offsets)
    assert located(values, truth(span=(0, 4)), pair) == {"pointing": 1, "energy": 0.75}


@pytest.mark.parametrize(
    ("shape", "item", "fields"),
    [
        ((2, 2), PICTURE, {"span": (0, 1)}),
        ((3,), TEXT, {"box": (0, 0, 1, 1)}),
        ((3,), CLIP, {"boxes": ((0, 0, 1, 1),) * 6}),
        ((3, 2, 2), CLIP, {"frames": (0,)}),
        ((2, 2), PICTURE, {"label": "a"}),
    ],
)
def test_a_truth_of_something_else_says_nothing_of_a_map(
    shape: tuple[int, ...], item: Any, fields: dict[str, Any]
) -> None:
    assert located(np.ones(shape), truth(**fields), item) == {}


@pytest.mark.parametrize(
    ("shape", "item", "fields", "words"),
    [
        ((2, 2), PICTURE, {"box": (0, 0, 9, 4)}, "8 x 8 pixels"),
        ((3, 2, 2), CLIP, {"boxes": ((0, 0, 1, 1),) * 3}, "boxes: 3 for a clip of 6 frames"),
        ((3, 2, 2), CLIP, {"boxes": ((0, 0, 1, 9),) * 6}, "8 x 8 pixels"),
        ((3,), CLIP, {"frames": (6,)}, "frames: 6 of a clip of 6 frames"),
        ((3,), TEXT, {"span": (0, 7)}, "the text has 6 characters"),
    ],
)
def test_a_truth_that_is_not_of_this_input_is_refused_by_its_place(
    shape: tuple[int, ...], item: Any, fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(DatasetError, match=r"^truth\.jsonl, line 7: ") as caught:
        located(np.ones(shape), truth(**fields), item)
    assert words in str(caught.value)
