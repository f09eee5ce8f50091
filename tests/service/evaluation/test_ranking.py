"""What a map orders: its default layer, heads averaged, of the predicted label, and ties by chance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from service.bundle import BundleError, MapSpec
from service.decode.item import NOTHING, ImageItem, Item, TextItem
from service.decode.view import View
from service.evaluation.ranking import order, random_beside, rankings, reason, uniform_beside
from service.maps import AttentionMap
from service.predictor import Predictor

VIEW = View(width=8, height=8, model_width=8, model_height=8, scale_x=1, scale_y=1, left=0, top=0)
PICTURE = ImageItem(tensors={}, original=NOTHING, view=VIEW, format="tensor")
TEXT = TextItem(
    tensors={},
    texts=("ab",),
    tokens=("[CLS]", "a", "b", "[SEP]"),
    offsets=((0, 0), (0, 1), (1, 2), (2, 2)),
    segments=(0, 0, 0, 0),
    special=(True, False, False, True),
    dropped=(0,),
)


@pytest.fixture
def specs(predictors: dict[str, Predictor]) -> dict[str, MapSpec]:
    """The maps of the tiny models, "FAMILY.NAME"."""
    return {
        f"{family}.{spec.name}": spec
        for family, predictor in predictors.items()
        for spec in predictor.manifest.maps
    }


def ranked(spec: MapSpec, item: Item, *layers: Any, predicted: int = 0) -> Any:
    maps = {spec.name: AttentionMap(spec=spec, layers=tuple(np.array(layer) for layer in layers))}
    (found,) = rankings(maps, item, predicted=predicted)
    return found


def test_a_text_map_ranks_the_tokens_that_are_no_special_ones(specs: dict[str, MapSpec]) -> None:
    spec = specs["text.cls"]
    first, last = np.zeros((4, 4)), np.array([[9, 1, 2, 9]] * 2 + [[9, 3, 6, 9]] * 2)
    found = ranked(spec, TEXT, first, last)
    assert found.row == ("cls", "layers.1", "tokens")
    assert found.values.tolist() == [2, 4]


def test_a_map_of_labels_is_that_of_the_predicted_one(specs: dict[str, MapSpec]) -> None:
    values = np.arange(16).reshape(4, 2, 2)
    found = ranked(specs["image.cam"], PICTURE, values, predicted=2)
    assert found.row == ("cam", None, "2 x 2 places")
    assert found.values.tolist() == values[2].tolist()


def test_a_matrix_of_frames_ranks_those_that_are_listened_to(specs: dict[str, MapSpec]) -> None:
    spec = specs["video.temporal"]
    listens_to_the_last = np.array([[0.0, 0.1, 0.9]] * 3)
    found = ranked(spec, PICTURE, np.stack([listens_to_the_last] * 2))
    assert found.row.ranks == "3 frames"
    np.testing.assert_allclose(found.values, [0, 0.1, 0.9])


def test_places_in_frames_are_told_from_places(specs: dict[str, MapSpec]) -> None:
    assert ranked(specs["video.rollout"], PICTURE, np.ones((4, 2, 3))).row.ranks == "2 x 3 places in 4 frames"


def test_values_that_are_not_finite_are_no_order(specs: dict[str, MapSpec]) -> None:
    with pytest.raises(BundleError, match="not every value of map cam is finite"):
        ranked(specs["image.cam"], PICTURE, np.full((4, 2, 2), np.nan))


def test_channels_are_not_judged_and_places_are(specs: dict[str, MapSpec]) -> None:
    assert reason(specs["image.channel"]) is not None
    assert reason(specs["image.cam"]) is None


def test_the_yardsticks_have_everything_that_is_ranked_once(specs: dict[str, MapSpec]) -> None:
    cam = ranked(specs["image.cam"], PICTURE, np.ones((4, 2, 2)))
    finer = ranked(specs["image.cam"], PICTURE, np.ones((4, 4, 4)))
    rng = np.random.default_rng(0)
    for name, made in (
        ("random", random_beside([cam, cam, finer], rng)),
        ("uniform", uniform_beside([cam, cam, finer])),
    ):
        assert [one.row for one in made] == [(name, None, "2 x 2 places"), (name, None, "4 x 4 places")]
        assert [one.values.shape for one in made] == [(2, 2), (4, 4)]


def test_the_highest_come_first_and_ties_fall_as_the_seed_has_it() -> None:
    values = np.array([[1.0, 5.0], [3.0, 4.0]])
    assert order(values, np.random.default_rng(0)).tolist() == [1, 3, 2, 0]
    tied = np.array([0.0] * 10 + [1.0] + [0.0] * 10)
    orders = [order(tied, np.random.default_rng(seed)).tolist() for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert {found[0] for found in orders} == {10}
    first = [order(np.zeros(4), np.random.default_rng(seed))[0] for seed in range(400)]
    assert min(np.bincount(first)) > 70  # every place as often: reading order gains nothing
