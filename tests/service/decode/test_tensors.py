"""Rows of the model's own tensors: which are items, and which have no meaning for the graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from service.decode.item import TextItem
from service.decode.tensors import TensorRow
from service.errors import InvalidInput
from service.job import Payload
from service.predictor import Predictor

TEXT = "fn main() { println!(); }"


def row(**tensors: Any) -> TensorRow:
    arrays = {name: np.asarray(value) for name, value in tensors.items()}
    return TensorRow(tensors=arrays, index=3)


@pytest.mark.parametrize("family", ["text", "image", "video"])
def test_a_models_own_tensors_give_what_the_raw_input_gives(
    predictors: dict[str, Predictor], picture: bytes, clip: bytes, family: str
) -> None:
    predictor = predictors[family]
    raw = {"text": TEXT, "image": picture, "video": clip}[family]
    item = predictor.decode(Payload(data=raw))
    ready = predictor.decode(row(**item.tensors))
    wanted = predictor.everything
    assert ready.cost == item.cost
    first, second = predictor.run([predictor.job(item, wanted), predictor.job(ready, wanted)])
    np.testing.assert_allclose(second.logits, first.logits, atol=1e-5)
    for name in wanted.maps:
        for one, other in zip(first.maps[name].layers, second.maps[name].layers, strict=True):
            np.testing.assert_allclose(other, one, atol=1e-5)


def test_padding_behind_a_length_is_left_out(predictors: dict[str, Predictor]) -> None:
    item = predictors["text"].decode(row(input_ids=[1, 70, 71, 2, 999, -5], lengths=4))
    assert isinstance(item, TextItem)
    assert item.cost == 4
    np.testing.assert_array_equal(item.tensors["input_ids"], [1, 70, 71, 2])
    np.testing.assert_array_equal(item.tensors["token_types"], [0, 0, 0, 0])
    assert item.tokens[0] == "[CLS]"
    assert item.tokens[-1] == "[SEP]"


@pytest.mark.parametrize(
    ("tensors", "field", "limit"),
    [
        ({"input_ids": [0, 259]}, "input_ids", 258),
        ({"input_ids": [-1, 1]}, "input_ids", 258),
        ({"input_ids": [2**62, 1]}, "input_ids", 258),
        ({"input_ids": [1] * 65}, "input_ids", 64),
        ({"input_ids": [1, 2], "lengths": 0}, "lengths", 2),
        ({"input_ids": [1, 2], "lengths": 3}, "lengths", 2),
        ({"input_ids": [1, 2], "lengths": -1}, "lengths", 2),
        ({"input_ids": [1, 2], "token_types": [0, 2]}, "token_types", 1),
        ({"input_ids": [1, 2], "token_types": [-1, 0]}, "token_types", 1),
    ],
)
def test_an_index_that_reads_elsewhere_is_refused(
    predictors: dict[str, Predictor], tensors: dict[str, Any], field: str, limit: int
) -> None:
    with pytest.raises(InvalidInput) as caught:
        predictors["text"].decode(row(**tensors))
    assert (caught.value.field, caught.value.limit) == (f"inputs.{field}", limit)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("family", "name"), [("image", "pixels"), ("video", "frames")])
def test_pixels_are_finite(predictors: dict[str, Predictor], family: str, name: str, value: float) -> None:
    shape = (3, 32, 32) if family == "image" else (4, 3, 32, 32)
    values = np.zeros(shape, np.float32)
    values.flat[-1] = value
    with pytest.raises(InvalidInput, match=f"inputs.{name}: row 3 has values that are not finite"):
        predictors[family].decode(row(**{name: values}))
