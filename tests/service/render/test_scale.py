from __future__ import annotations

import numpy as np
import pytest

from service.errors import UnknownOption
from service.render.scale import SCALES, scaled

MAP = np.array([[0.02, 0.05], [0.03, 0.12]])


def test_minmax_spreads_the_map_over_the_whole_range() -> None:
    result = scaled(MAP, "minmax", default="peak")
    np.testing.assert_allclose(result.values, [[0, 0.3], [0.1, 1]], rtol=1e-6)
    assert (result.low, result.high, result.name) == (0.02, 0.12, "minmax")


def test_peak_begins_at_zero() -> None:
    result = scaled(MAP, "peak", default="minmax")
    np.testing.assert_allclose(result.values, [[1 / 6, 5 / 12], [1 / 4, 1]], rtol=1e-6)
    assert (result.low, result.high) == (0, 0.12)


def test_absolute_is_the_same_for_every_map_of_probabilities() -> None:
    result = scaled(MAP, "absolute", default="minmax")
    np.testing.assert_allclose(result.values, MAP, rtol=1e-6)
    assert (result.low, result.high) == (0, 1)


def test_absolute_widens_for_values_outside_and_clips_to_a_fixed_range() -> None:
    wide = np.array([-1.0, 0.0, 3.0])
    free = scaled(wide, "absolute", default="peak")
    assert (free.low, free.high) == (-1, 3)
    fixed = scaled(wide, "absolute", default="peak", fixed_range=(0, 1))
    assert fixed.values.tolist() == [0, 0, 1]
    assert (fixed.low, fixed.high) == (0, 1)


def test_a_map_with_a_fixed_range_is_drawn_on_it_unless_another_scale_is_asked_for() -> None:
    gates = np.array([0.4, 0.6])
    fixed = scaled(gates, None, default="minmax", fixed_range=(0, 1))
    np.testing.assert_allclose(fixed.values, gates, rtol=1e-6)
    assert scaled(gates, "minmax", default="peak", fixed_range=(0, 1)).values.tolist() == [0, 1]


def test_percentile_clips_one_percent_at_each_end() -> None:
    numbers = np.arange(101.0)
    result = scaled(numbers, "percentile", default="minmax")
    assert (result.low, result.high) == (1, 99)
    assert result.values[[0, 1, 50, 99, 100]].tolist() == pytest.approx([0, 0, 0.5, 1, 1])


def test_percentile_does_not_lose_a_single_hot_cell() -> None:
    numbers = np.zeros(400)
    numbers[17] = 0.3
    assert np.flatnonzero(scaled(numbers, "percentile", default="minmax").values).tolist() == [17]


@pytest.mark.parametrize("name", ["minmax", "percentile"])
def test_a_constant_map_stays_flat_and_keeps_its_range(name: str) -> None:
    result = scaled(np.full((3, 3), 0.25), name, default="peak")
    assert not result.values.any()
    assert (result.low, result.high) == (0.25, 0.25)


@pytest.mark.parametrize("name", SCALES)
def test_every_scale_stays_between_zero_and_one(name: str) -> None:
    values = np.random.default_rng(1).normal(size=(5, 7)).astype(np.float16)
    result = scaled(values, name, default="peak").values
    assert result.dtype == np.float32
    assert result.min() >= 0
    assert result.max() <= 1


def test_all_frames_of_a_clip_share_one_scale() -> None:
    clip = np.stack([np.full((2, 2), 0.1), np.full((2, 2), 0.2), np.full((2, 2), 0.3)])
    assert scaled(clip, "minmax", default="peak").values[:, 0, 0].tolist() == pytest.approx([0, 0.5, 1])


@pytest.mark.parametrize("values", [[], [0.1, float("nan")], [float("inf")]])
def test_a_map_without_finite_numbers_is_an_error_and_no_picture(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        scaled(np.array(values), "peak", default="peak")


def test_an_unknown_scale_names_the_field_and_the_choices() -> None:
    with pytest.raises(UnknownOption, match="percentile") as caught:
        scaled(MAP, "log", default="peak")
    assert caught.value.field == "scale"
