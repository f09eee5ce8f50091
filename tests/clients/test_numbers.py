"""A map's bytes as an array with named axes; what the server may send that is none."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np
import pytest

from regard_client import MapSummary, TextInfo, Timing, UnexpectedAnswer
from regard_client.numbers import from_npy
from regard_client.results import PredictedInput

TOKENS = ("[CLS]", "a", "b", "[SEP]")
PREDICTION = PredictedInput(
    id="x",
    index=0,
    model="m",
    version="1",
    label="yes",
    score=1.0,
    top=(),
    input=TextInfo(tokens=TOKENS, offsets=((0, 0), (0, 1), (1, 2), (2, 2))),
    timing=Timing(total_ms=1.0),
)


def summary(axes: str, kind: str = "tokens", **more: Any) -> MapSummary:
    return MapSummary(
        name="map", kind=kind, description="", axes=tuple(axes.split()), **{"layers": (), **more}
    )


def npy(values: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()


CLS = summary("head token", layers=("first", "last"), heads=4)
ATTENTION = summary("head query_token key_token", "token_matrix", layers=("first", "last"), heads=4)
PATCHES = summary("head query_token row column", "grid_matrix", layers=("first",), heads=4)
CLIP = summary("label frame row column", "frame_grid")


@pytest.mark.parametrize(
    ("of", "axes", "kind"),
    [
        (CLS, "token", "tokens"),
        (CLS, "layer,head,token", "tokens"),
        (ATTENTION, "head,query_token,key_token", "token_matrix"),
        (ATTENTION, "token", "tokens"),
        (PATCHES, "query_token,row,column", "grid_matrix"),
        (PATCHES, "head,row,column", "grid"),
        (CLIP, "frame,row,column", "frame_grid"),
        (CLIP, "layer,row,column", "grid"),
    ],
)
def test_axes_are_those_that_the_server_names(of: MapSummary, axes: str, kind: str) -> None:
    names = axes.split(",")
    found = from_npy(npy(np.zeros((2,) * len(names), np.float32)), axes, of, {}, PREDICTION)
    assert (found.axes, found.kind) == (tuple(names), kind)


@pytest.mark.parametrize("options", [{"layer": [-1], "head": (2,)}, {"layer": "-1,", "head": "2,"}])
def test_a_list_of_one_has_its_label(options: dict[str, Any]) -> None:
    sent = npy(np.zeros((1, 1, 4), np.float32))
    found = from_npy(sent, "layer,head,token", CLS, options, PREDICTION)
    assert found.labels == {"layer": ("last",), "head": (2,), "token": TOKENS}


def test_rows_have_the_labels_of_their_tokens() -> None:
    values = np.zeros((2, 4), np.float32)
    found = from_npy(npy(values), "query_token,key_token", ATTENTION, {"rows": (1, 3)}, PREDICTION)
    assert found.labels == {"query_token": ("a", "b"), "key_token": TOKENS}


def test_labels_that_do_not_fit_are_left_out() -> None:
    found = from_npy(npy(np.zeros(9, np.float32)), "token", summary("token"), {}, PREDICTION)
    assert found.labels == {}


def test_bytes_become_the_numbers_that_were_written() -> None:
    values = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    found = from_npy(npy(values), "row,column", summary("row column", "grid"), {}, PREDICTION)
    assert np.array_equal(found.values, values)
    assert repr(found) == "<MapNumbers map [row 3, column 2]>"


HUGE = npy(np.zeros(2, np.float32)).replace(b"(2,), }        ", b"(2000000000,), ")
BAD = {
    "nothing": b"",
    "no array": b"<html>",
    "a pickle": pickle.dumps([1]),
    "objects": b"\x93NUMPY\x01\x00v\x00"
    + b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117)
    + b"\n",
    "cut off": npy(np.zeros(4, np.float32))[:-1],
    "larger than what came": HUGE,
    "double precision": npy(np.zeros(4)),
    "axes too many": npy(np.zeros((4, 4), np.float32)),
    "a single number": npy(np.float32(1)),
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_anything_else_is_an_unexpected_answer(body: bytes) -> None:
    with pytest.raises(UnexpectedAnswer, match="map"):
        from_npy(body, "token", summary("token"), {}, PREDICTION)


@pytest.mark.parametrize(("axes", "shape"), [("", (2,)), ("", ()), ("row,column", (2, 2, 2))])
def test_so_are_numbers_whose_axes_are_not_named(axes: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(UnexpectedAnswer, match="map"):
        from_npy(npy(np.zeros(shape, np.float32)), axes, summary("token"), {}, PREDICTION)
