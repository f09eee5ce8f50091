"""What a request selects from a map, compared with slicing in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from service.bundle import Kind, MapSpec
from service.errors import UnknownOption
from service.maps import AttentionMap, Selection

LAYERS, HEADS, TOKENS, LABELS = 3, 4, 5, 6


def spec(
    *axes: str, kind: Kind = "tokens", layers: int = LAYERS, default: int | None = LAYERS - 1
) -> MapSpec:
    return MapSpec(
        name="m",
        kind=kind,
        description="",
        axes=axes,
        layers=tuple(f"layer.{index}" for index in range(layers)),
        default_layer=default,
        heads=HEADS if "head" in axes else None,
        graph="m",
        inputs=(),
        outputs=tuple(f"m.{index}" for index in range(layers or 1)),
    )


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)


@pytest.fixture
def values() -> np.ndarray:
    return numbers(LAYERS, HEADS, TOKENS)


@pytest.fixture
def rows(values: np.ndarray) -> AttentionMap:
    """A map of tokens with layers and heads."""
    return AttentionMap(spec=spec("head", "token"), layers=tuple(values))


@pytest.mark.parametrize(
    ("layers", "axes", "chosen"),
    [
        (None, ("token",), 2),
        (0, ("token",), 0),
        (-3, ("token",), 0),
        ((1,), ("layer", "token"), [1]),
        ((2, 0), ("layer", "token"), [2, 0]),
        ((-1, 0), ("layer", "token"), [2, 0]),
        ("all", ("layer", "token"), [0, 1, 2]),
    ],
)
def test_an_index_takes_the_layer_axis_away_and_a_list_keeps_it(
    rows: AttentionMap, values: np.ndarray, layers: Any, axes: tuple[str, ...], chosen: Any
) -> None:
    found = rows.select(Selection(layers=layers), predicted=0)
    assert (found.axes, found.layers, found.heads) == (axes, chosen, "mean")
    np.testing.assert_allclose(found.values, values[chosen].mean(-2), rtol=1e-6)
    assert found.several == (axes != ("token",))


@pytest.mark.parametrize(
    ("heads", "axes", "chosen"),
    [
        (0, ("token",), 0),
        (-1, ("token",), 3),
        ((3,), ("head", "token"), [3]),
        ((3, 1), ("head", "token"), [3, 1]),
        ((-1, 0), ("head", "token"), [3, 0]),
        ("all", ("head", "token"), [0, 1, 2, 3]),
    ],
)
def test_an_index_takes_the_head_axis_away_and_a_list_keeps_it(
    rows: AttentionMap, values: np.ndarray, heads: Any, axes: tuple[str, ...], chosen: Any
) -> None:
    found = rows.select(Selection(layers=1, heads=heads), predicted=0)
    assert (found.axes, found.heads) == (axes, chosen)
    np.testing.assert_array_equal(found.values, values[1][chosen])


@pytest.mark.parametrize("word", ["mean", "max", "min"])
def test_heads_are_fused(rows: AttentionMap, values: np.ndarray, word: str) -> None:
    found = rows.select(Selection(layers="all", heads=word), predicted=0)  # type: ignore[arg-type]
    assert (found.axes, found.heads) == (("layer", "token"), word)
    np.testing.assert_allclose(found.values, getattr(values, word)(1), rtol=1e-6)
    assert found.range == (found.values.min(), found.values.max())


def test_layers_and_heads_are_kept_together(rows: AttentionMap, values: np.ndarray) -> None:
    found = rows.select(Selection(layers="all", heads="all"), predicted=0)
    assert found.axes == ("layer", "head", "token")
    np.testing.assert_array_equal(found.values, values)


def test_the_default_layer_is_the_one_of_the_map(values: np.ndarray) -> None:
    shown = AttentionMap(spec=spec("head", "token", default=0), layers=tuple(values))
    assert shown.select(Selection(), predicted=0).layers == 0


@pytest.mark.parametrize(("target", "chosen"), [(None, 5), (0, 0), (3, 3)])
def test_a_label_is_chosen_and_the_predicted_one_if_none_is(target: int | None, chosen: int) -> None:
    values = numbers(LABELS, 2, 3)
    cam = AttentionMap(
        spec=spec("label", "row", "column", kind="grid", layers=0, default=None), layers=(values,)
    )
    found = cam.select(Selection(target=target), predicted=5)
    assert (found.axes, found.target, found.layers, found.heads) == (("row", "column"), chosen, "all", None)
    np.testing.assert_array_equal(found.values, values[chosen])
    assert not found.several


def test_a_label_is_chosen_behind_heads_and_layers() -> None:
    values = numbers(LAYERS, HEADS, LABELS, 2, 3)
    patches = AttentionMap(spec=spec("head", "label", "row", "column", kind="grid"), layers=tuple(values))
    found = patches.select(Selection(layers="all", heads="all", target=4), predicted=0)
    assert found.axes == ("layer", "head", "row", "column")
    np.testing.assert_array_equal(found.values, values[:, :, 4])


def test_what_a_map_has_no_axis_for_is_left_alone() -> None:
    values = numbers(TOKENS)
    rollout = AttentionMap(spec=spec("token", layers=0, default=None), layers=(values,))
    found = rollout.select(Selection(layers=99, heads=99, target=99), predicted=99)
    assert (found.axes, found.layers, found.heads, found.target) == (("token",), "all", None, None)
    np.testing.assert_array_equal(found.values, values)


def test_layers_of_different_size_cannot_be_stacked() -> None:
    gates = AttentionMap(
        spec=spec("row", "column", kind="grid", layers=2, default=1), layers=(numbers(4, 4), numbers(2, 2))
    )
    assert gates.select(Selection(layers=0), predicted=0).values.shape == (4, 4)
    assert gates.select(Selection(layers=(1,)), predicted=0).values.shape == (1, 2, 2)
    with pytest.raises(UnknownOption, match="differ in resolution") as caught:
        gates.select(Selection(layers="all"), predicted=0)
    assert (caught.value.field, caught.value.limit) == ("layers", 1)


@pytest.mark.parametrize(
    ("selection", "field", "limit"),
    [
        (Selection(layers=3), "layers", 2),
        (Selection(layers=-4), "layers", 2),
        (Selection(layers=(0, 3)), "layers", 2),
        (Selection(layers=10**30), "layers", 2),
        (Selection(heads=4), "heads", 3),
        (Selection(heads=(-5,)), "heads", 3),
    ],
)
def test_a_layer_or_head_that_is_not_there_is_named_with_its_limit(
    rows: AttentionMap, selection: Selection, field: str, limit: int
) -> None:
    with pytest.raises(UnknownOption, match=f"{field}: map m has") as caught:
        rows.select(selection, predicted=0)
    assert (caught.value.field, caught.value.limit) == (field, limit)


def test_bytes_are_those_of_all_layers(rows: AttentionMap) -> None:
    assert rows.nbytes == LAYERS * HEADS * TOKENS * 4
