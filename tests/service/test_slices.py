"""What an input has of a map that is made of some query tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from service.bundle import MapSpec
from service.decode.item import Item
from service.errors import UnknownOption
from service.job import Payload, Wanted
from service.maps import Heads, Selection
from service.predictor import Predictor
from service.slices import MOST, check_slice, check_slices, query_place

TEXT = "fn main() { println!(); }"
TOKENS = len(TEXT) + 2


@pytest.fixture(scope="module")
def inputs(
    gallery_predictors: dict[str, Predictor], picture: bytes, clip: bytes
) -> dict[str, tuple[Predictor, MapSpec, Item]]:
    """An input of each model that has slices."""
    found = {}
    for name, data in (("tiny-text", TEXT), ("tiny-vit", picture), ("tiny-video", clip)):
        predictor = gallery_predictors[name]
        spec = predictor.spec("attention")
        found[name] = predictor, spec, predictor.decode(Payload(data=data))
    return found


def refusal(inputs: Any, name: str, **selection: Any) -> UnknownOption | None:
    """Why an input does not have this, if it does not."""
    predictor, spec, item = inputs[name]
    try:
        check_slice(spec, Selection(**selection), item, predictor.manifest.taps)
    except UnknownOption as problem:
        return problem
    return None


@pytest.mark.parametrize(("name", "tokens"), [("tiny-text", TOKENS), ("tiny-vit", 14), ("tiny-video", 18)])
def test_tokens_count_from_0_to_the_last_of_the_input(inputs: Any, name: str, tokens: int) -> None:
    for selection in (
        {},
        {"token": 0},
        {"token": tokens - 1},
        {"rows": (0, tokens)},
        {"rows": (tokens - 1, tokens)},
        {"layers": 0},
        {"layers": -1},
    ):
        assert refusal(inputs, name, **selection) is None, selection
    for selection in (
        {"token": tokens},
        {"token": -1},
        {"rows": (0, tokens + 1)},
        {"rows": (2, 2)},
        {"rows": (2, 1)},
        {"rows": (-1, 1)},
        {"rows": (-3, -1)},
    ):
        problem = refusal(inputs, name, **selection)
        assert problem is not None, selection
        assert (problem.field, problem.limit) == (next(iter(selection)), tokens - 1)


def test_frames_are_those_of_the_model(inputs: Any) -> None:
    assert refusal(inputs, "tiny-video", frame=3, token=0) is None
    for frame in (4, -1, 10**30):
        problem = refusal(inputs, "tiny-video", frame=frame, token=0)
        assert problem is not None
        assert (problem.field, problem.limit) == ("frame", 3)
    assert refusal(inputs, "tiny-text", frame=99) is None  # which has none


@pytest.mark.parametrize("numbers", [1, 4 * TOKENS, 4 * TOKENS * 5 + 3])
def test_a_slice_is_bounded_in_numbers_and_says_how_many_rows_fit(
    inputs: Any, monkeypatch: pytest.MonkeyPatch, numbers: int
) -> None:
    monkeypatch.setattr("service.slices.MOST", numbers)
    most = max(1, numbers // (4 * TOKENS))  # of 4 heads; a single row is always to be had
    assert refusal(inputs, "tiny-text", token=5) is None
    assert refusal(inputs, "tiny-text", rows=(3, 3 + most)) is None
    for selection in ({"rows": (3, 4 + most)}, {}):
        problem = refusal(inputs, "tiny-text", **selection)
        assert problem is not None
        assert (problem.field, problem.limit) == ("rows", most)
        assert f"ask for {most} at a time" in problem.detail


def test_what_is_too_large_never_runs(inputs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor, _, item = inputs["tiny-text"]
    monkeypatch.setattr("service.slices.MOST", 100)
    with pytest.raises(UnknownOption):
        predictor.job(item, Wanted(maps=frozenset({"attention"})))


@pytest.mark.parametrize(
    ("name", "before", "places"), [("tiny-vit", 2, 12), ("tiny-video", 1, 16), ("tiny-text", 0, TOKENS)]
)
def test_a_query_token_has_its_place_on_the_map(inputs: Any, name: str, before: int, places: int) -> None:
    """Class and distillation tokens come before the patches, a frame's message token behind them."""
    predictor, _, item = inputs[name]
    count = {"tiny-vit": 14, "tiny-video": 18}.get(name, TOKENS)
    for token in range(count):
        selection = Selection(token=token)
        wanted = Wanted(maps=frozenset({"attention"}), selection=selection)
        (outcome,) = predictor.run([predictor.job(item, wanted)])
        expected = token - before if 0 <= token - before < places else None
        heads: list[Heads] = ["mean", "all", 0]
        for chosen in heads:
            found = outcome.maps["attention"].select(replace(selection, heads=chosen), predicted=0)
            assert query_place(found) == expected


def test_the_slices_of_one_request_are_bounded_together() -> None:
    check_slices([MOST // 2, MOST // 2])
    with pytest.raises(UnknownOption) as caught:
        check_slices([MOST // 2, MOST // 2, 1])
    assert (caught.value.field, caught.value.limit) == ("rows", MOST)
