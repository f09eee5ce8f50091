"""Documents of older and newer servers, and of what is no server of ours at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard_client import ImageInfo, TextInfo, UnexpectedAnswer, VideoInfo
from regard_client.documents import read
from regard_client.results import MapInfo, ModelInfo, PredictedInput

VIEW = {"width": 4, "height": 3, "model_width": 2, "model_height": 2, "seen": [0, 0.5, 3, 3]}
TEXT = {"kind": "text", "tokens": ["[CLS]", "a"], "offsets": [[0, 0], [0, 1]]}
MAP = {
    "name": "cls",
    "kind": "tokens",
    "description": "",
    "shape": [2],
    "axes": ["token"],
    "layers": 3,
    "heads": "mean",
    "range": [0, 1],
    "links": {"npy": "/v1/x"},
}
PREDICTION = {
    "id": "x",
    "index": 0,
    "model": "m",
    "version": "1",
    "label": "yes",
    "score": 1,
    "top": [{"label": "yes", "score": 1}],
    "input": TEXT,
    "timing": {"total_ms": 2},
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def test_what_a_newer_server_adds_is_ignored() -> None:
    newer = PREDICTION | {
        "mood": {"x": [1]},
        "timing": {"total_ms": 2, "gpu_ms": 1},
        "maps": [MAP | {"new": 1}],
    }
    assert read(PredictedInput, newer) == read(PredictedInput, PREDICTION | {"maps": [MAP]})


def test_what_an_older_server_leaves_out_is_none() -> None:
    prediction = read(PredictedInput, PREDICTION)
    assert (prediction.maps, prediction.verification, prediction.timing.run_ms) == ((), None, None)
    assert isinstance(prediction.input, TextInfo)
    assert prediction.input.segments is None
    assert read(MapInfo, MAP | {"heads": None}).heads is None


def test_verification_is_read() -> None:
    said = {"layer": "layers.3", "row_sum_error": 1e-7, "output_error": 2e-6, "tolerance": 1e-4}
    prediction = read(PredictedInput, PREDICTION | {"verification": said})
    assert prediction.verification is not None
    assert prediction.verification.output_error == 2e-6
    assert prediction.verification.precision is None


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        (TEXT, TextInfo),
        ({"kind": "image", "format": "image/png", "view": VIEW}, ImageInfo),
        (
            {"kind": "video", "format": "video/mp4", "view": VIEW, "frames": 9, "duration": 1}
            | {"sampled": [0, 4], "timestamps": [0, 0.5]},
            VideoInfo,
        ),
        ({"kind": "smell", "notes": 7}, type(None)),
        ({"kind": ["text"]}, type(None)),
    ],
)
def test_an_input_is_what_its_kind_says(document: dict[str, Any], kind: type) -> None:
    assert type(read(PredictedInput, PREDICTION | {"input": document}).input) is kind


def test_layers_and_heads_are_words_numbers_or_several() -> None:
    for value, found in (("all", "all"), (2, 2), ([0, 2], (0, 2))):
        assert read(MapInfo, MAP | {"layers": value}).layers == found


def test_numbers_are_arrays_that_cannot_be_written_to() -> None:
    values = read(MapInfo, MAP | {"values": [0.5, 1]}).values
    assert values is not None
    assert values.dtype == np.float32
    assert not values.flags.writeable


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"label": 3}, "PredictedInput.label"),
        ({"score": True}, "PredictedInput.score"),
        ({"score": "1"}, "PredictedInput.score"),
        ({"score": 10**400}, "PredictedInput.score"),
        ({"top": [{"label": "yes"}]}, r"no score.* PredictedInput.top\[0\]"),
        ({"input": TEXT | {"offsets": [[0]]}}, r"PredictedInput.input.offsets\[0\]"),
        ({"input": [1]}, "PredictedInput.input"),
        ({"maps": [MAP | {"links": {"png": 1}}]}, r"PredictedInput.maps\[0\].links.png"),
        ({"maps": [MAP | {"values": [[1], [2, 3]]}]}, r"PredictedInput.maps\[0\].values"),
        ({"timing": None}, "PredictedInput.timing"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], place: str) -> None:
    with pytest.raises(UnexpectedAnswer, match=place):
        read(PredictedInput, PREDICTION | change)


@given(field=st.sampled_from([*PREDICTION, "maps", "verification"]), value=JSON)
def test_no_document_raises_anything_else(field: str, value: Any) -> None:
    for kind in (PredictedInput, ModelInfo):
        try:
            read(kind, PREDICTION | {field: value})
        except UnexpectedAnswer as error:
            assert len(str(error)) < 300  # noqa: PT017
