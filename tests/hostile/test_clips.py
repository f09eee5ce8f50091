"""Clips that are damaged, or made to cost: each is read or refused, in time and within its memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.hostile.clips import bombs, odd_clips

Cases = dict[str, bytes]
WriteClip = Callable[..., bytes]


def test_damaged_clips_are_read_or_refused(
    clips: Cases, mutate: Callable[..., Any], decode_all: Callable[..., Any]
) -> None:
    cases = [
        (f"{kind}, {name}", data)
        for seed, (kind, good) in enumerate(clips.items())
        for name, data in [("whole", good), *mutate(good, seed=seed, times=16)]
    ]
    found = decode_all("video", cases)
    assert all(found[f"{kind}, whole"].status == 200 for kind in clips)
    assert all(found[f"{kind}, wrong magic"].status in (200, 415, 422) for kind in clips)
    statuses = [one.status for one in found.values()]
    assert min(statuses.count(200), statuses.count(422)) > len(statuses) / 10


@pytest.mark.slow
def test_many_damaged_clips_are_read_or_refused(
    clips: Cases, mutate: Callable[..., Any], decode_all: Callable[..., Any]
) -> None:
    decode_all(
        "video",
        (
            (f"{kind}, {name}", data)
            for seed, (kind, good) in enumerate(clips.items())
            for name, data in mutate(good, seed=100 + seed, times=500)
        ),
    )


def test_clips_made_to_cost_do_not(clips: Cases, decode_all: Callable[..., Any]) -> None:
    found = decode_all("video", bombs(clips), decode_seconds=5)
    refused = [one for one in found.values() if one.status != 200]
    assert len(refused) >= len(found) / 3


def test_odd_clips_are_read_or_refused(clip_writer: WriteClip, decode_all: Callable[..., Any]) -> None:
    found = decode_all("video", odd_clips(clip_writer))
    assert found["sound alone"].status == 422
    assert found["10001 frames"].status == 413
    assert found["1/1000 frames a second"].status == 413
    assert found["65535 frames a second"].status == 200


def test_a_server_answers_them_while_others_are_served(
    clips: Cases, mutate: Callable[..., Any], besiege: Callable[..., Any]
) -> None:
    cases = [
        (f"{kind}, {name}", data)
        for seed, (kind, good) in enumerate(clips.items())
        for name, data in list(mutate(good, seed=seed, times=4))[90::4]
    ]
    besiege("digit-motion", [*cases, *bombs(clips)])
