"""What a request selects from a map, compared with slicing in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from service.bundle import Kind, MapSpec
from service.errors import InvalidInput, UnknownOption
from service.maps import AttentionMap, Made, Selection

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


def sliced() -> MapSpec:
    return MapSpec(
        name="m",
        kind="token_matrix",
        description="",
        axes=("head", "query_token", "key_token"),
        layers=("layer.0", "layer.1", "layer.2"),
        default_layer=2,
        heads=HEADS,
        graph="m",
        inputs=("query", "key", "rows"),
        outputs=("m",),
        sliced=True,
    )


@pytest.mark.parametrize("rows", [None, (0, 5), (2, 4), (3, 4)])
def test_a_query_token_is_counted_from_the_first_of_the_input(rows: tuple[int, int] | None) -> None:
    values = numbers(HEADS, TOKENS, TOKENS)
    held = values[:, slice(*rows)] if rows else values
    found = AttentionMap(spec=sliced(), layers=(held,), made=Made(layer=2, rows=rows))
    selected = found.select(Selection(token=3, heads=1), predicted=0)
    assert (selected.kind, selected.axes, selected.token, selected.rows) == ("tokens", ("token",), 3, None)
    np.testing.assert_array_equal(selected.values, values[1, 3])
    whole = found.select(Selection(heads="all"), predicted=0)
    assert (whole.kind, whole.rows, whole.layers) == ("token_matrix", rows, 2)
    np.testing.assert_array_equal(whole.values, held)


@pytest.mark.parametrize(
    ("selection", "made"),
    [
        (Selection(), Made(layer=2)),
        (Selection(layers=-1), Made(layer=2)),
        (Selection(layers=-3, heads=2), Made(layer=0)),
        (Selection(layers=1, rows=(2, 4)), Made(layer=1, rows=(2, 4))),
        (Selection(token=3), Made(layer=2, rows=(3, 4))),
        (Selection(target=1, discard=0.5, frame=3), Made(layer=2)),
    ],
)
def test_slices_that_are_alike_are_made_alike(selection: Selection, made: Made) -> None:
    assert Made.of(sliced(), selection, predicted=3) == made


def test_what_no_map_can_be_made_of_is_refused_at_once() -> None:
    for discard in (1.0, -0.1, float("nan"), float("inf"), 1 - 1e-12):
        with pytest.raises(InvalidInput) as caught:
            Selection(discard=discard)
        assert (caught.value.field, caught.value.limit) == ("discard", "0 to 1")
    with pytest.raises(InvalidInput, match="one of them"):
        Selection(token=0, rows=(0, 1))
    for layers in ("all", (0,), (0, 1)):
        with pytest.raises(UnknownOption, match="one layer at a time"):
            Selection(layers=layers).check(sliced())  # type: ignore[arg-type]
