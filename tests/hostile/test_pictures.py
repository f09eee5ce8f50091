"""Pictures that are damaged, or made to cost: each is read or refused, in time and within its memory."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.hostile.pictures import bombs

Cases = dict[str, bytes]


def test_damaged_pictures_are_read_or_refused(
    pictures: Cases, mutate: Callable[..., Any], decode_all: Callable[..., Any]
) -> None:
    cases = [
        (f"{kind}, {name}", data)
        for seed, (kind, good) in enumerate(pictures.items())
        for name, data in [("whole", good), *mutate(good, seed=seed, times=16)]
    ]
    found = decode_all("image", cases)
    assert all(found[f"{kind}, whole"].status == 200 for kind in pictures)
    assert all(found[f"{kind}, wrong magic"].status == 415 for kind in pictures)
    statuses = [one.status for one in found.values()]
    assert min(statuses.count(200), statuses.count(422)) > len(statuses) / 10


@pytest.mark.slow
def test_many_damaged_pictures_are_read_or_refused(
    pictures: Cases, mutate: Callable[..., Any], decode_all: Callable[..., Any]
) -> None:
    decode_all(
        "image",
        (
            (f"{kind}, {name}", data)
            for seed, (kind, good) in enumerate(pictures.items())
            for name, data in mutate(good, seed=100 + seed, times=500)
        ),
    )


def test_pictures_made_to_cost_do_not(pictures: Cases, decode_all: Callable[..., Any]) -> None:
    cases = list(bombs(pictures))
    found = decode_all("image", [(name, data) for name, data, _ in cases], decode_seconds=2)
    for name, _, status in cases:
        assert status in (0, found[name].status), found[name]


def test_a_picture_that_takes_more_than_the_whole_budget_is_refused(decode_all: Callable[..., Any]) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((3000, 3000, 3), np.uint8)).save(buffer, "PNG")
    found = decode_all("image", [("large", buffer.getvalue())], decode_bytes=64 * 2**20)["large"]
    assert (found.status, found.reserved) == (413, 0)
    assert "decode_bytes" in found.reason
    assert found.grown < 8 * 2**20


def test_a_server_answers_them_while_others_are_served(
    pictures: Cases, mutate: Callable[..., Any], besiege: Callable[..., Any]
) -> None:
    cases = [
        (f"{kind}, {name}", data)
        for seed, (kind, good) in enumerate(pictures.items())
        for name, data in list(mutate(good, seed=seed, times=4))[90::4]
    ]
    besiege("digit-in-clutter", [*cases, *((name, data) for name, data, _ in bombs(pictures))])
