from __future__ import annotations

import numpy as np
import pytest

from service.errors import UnknownOption
from service.render.scale import RELATIVE, SCALES, scaled

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
    assert (free.low, free.high) == (-3, 3)
    assert scaled(np.array([0.0, 3.0]), "absolute", default="peak").high == 3
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
    result = scaled(abs(values) if name in RELATIVE else values, name, default="peak").values
    assert result.dtype == np.float32
    assert result.min() >= 0
    assert result.max() <= 1


def test_a_signed_map_has_zero_in_the_middle() -> None:
    for result in (scaled(np.array([-0.5, 0, 1.0]), name, default="minmax") for name in (None, "peak")):
        assert (result.low, result.middle, result.high, result.neutral) == (-1, 0, 1, True)
        assert result.values.tolist() == [0.25, 0.5, 1]
    assert not scaled(MAP, "peak", default="peak").neutral


def test_under_uniform_the_mean_is_the_middle_and_equal_factors_are_equal_steps() -> None:
    result = scaled(np.array([0.5, 1.0, 2.0, 4.0, 0.0, 0.25, 0.25, 0.0]), "uniform", default="peak")
    assert (result.middle, result.neutral) == (pytest.approx(1), True)  # the mean
    assert (result.low, result.high) == (pytest.approx(1 / 4), pytest.approx(4))
    assert result.values.tolist() == pytest.approx([0.25, 0.5, 0.75, 1, 0, 0, 0, 0], abs=1e-6)


def test_uniform_attention_is_the_middle_and_noise_stays_near_it() -> None:
    row = np.full(64, 1 / 64)
    assert (scaled(row, "uniform", default="peak").values == 0.5).all()
    noise = row * np.random.default_rng(0).uniform(0.9, 1.1, 64)
    assert np.abs(scaled(noise, "uniform", default="peak").values - 0.5).max() < 0.1
    assert scaled(noise, "above", default="peak").values.max() < 0.2


def test_above_is_the_upper_half_of_uniform() -> None:
    row = np.random.default_rng(0).dirichlet(np.ones(64))
    whole, upper = (scaled(row, name, default="peak") for name in ("uniform", "above"))
    assert (upper.low, upper.high) == (pytest.approx(1 / 64), pytest.approx(row.max()))
    np.testing.assert_allclose(upper.values, (2 * whole.values - 1).clip(0), atol=1e-6)


@pytest.mark.parametrize("name", RELATIVE)
def test_relative_to_the_mean_there_are_no_negative_numbers(name: str) -> None:
    with pytest.raises(UnknownOption, match="negative") as caught:
        scaled(np.array([-1.0, 2.0]), name, default="peak")
    assert caught.value.field == "scale"
    assert not scaled(np.zeros(4), name, default="peak").values.any()


def test_under_mass_a_cut_at_a_level_keeps_the_rest_of_the_mass() -> None:
    row = np.random.default_rng(0).dirichlet(np.ones(200))
    result = scaled(row, "mass", default="peak")
    for share in (0.1, 0.6, 0.9):
        kept = row[result.values > 1 - share]
        assert kept.sum() >= share - 1e-6
        assert kept.sum() - kept.min() <= share + 1e-6
    assert result.values[row.argmax()] == 1
    assert scaled(np.zeros(4), "mass", default="peak").values.tolist() == [0, 0, 0, 0]


def test_further_numbers_go_onto_the_same_scale() -> None:
    row = np.array([0.1, 0.2, 0.3, 0.4])
    for name in SCALES:
        result = scaled(row, name, default="peak")
        np.testing.assert_allclose(result.place(row), result.values)
        assert result.place(np.array([9.0])).tolist() == [1]


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
