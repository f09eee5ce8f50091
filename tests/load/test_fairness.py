"""A lightly used model beside one that is asked for more than there is."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.load.conftest import Serve
from tests.load.question import Question, numbered, snippets
from tests.load.traffic import Traffic

pytestmark = pytest.mark.load

ROUNDS = 3
ROUND_SECONDS = 10
FLOOD = 64  # clients
MOST = 2.5


def questions(name: str) -> list[Question]:
    """Questions for a model by its name's first part."""
    if name.startswith("bert"):
        return numbered(name, 12, tokens=(32, 128))
    return snippets(name, 50, words=(10, 40))


@pytest.mark.parametrize(
    ("light", "heavy"),
    [
        ("bert-a", "bert-b"),
        ("tiny-a", "bert-b"),
        ("bert-a", "tiny-b"),
        pytest.param(
            "tiny-a",
            "tiny-b",
            # Of 40 ms it waits 2 for a slot and 14 for a decoding thread, where the flood stands before it.
            marks=pytest.mark.xfail(
                reason="missed: given a slot at once, it shares two cores with loop, slots and client"
            ),
        ),
    ],
)
def test_an_overloaded_model_leaves_its_neighbour_a_fair_share(
    light: str,
    heavy: str,
    bert: Path,
    tiny: Path,
    tmp_path: Path,
    copy: Callable[..., Path],
    serve: Serve,
    run: Callable[..., Any],
    figure: Callable[[str, str], None],
) -> None:
    for name in (light, heavy):
        copy(bert if name.startswith("bert") else tiny, tmp_path / "models", name)

    async def measure() -> list[tuple[float, float]]:
        """Median seconds of the lightly used model: beside its like, and beside the flood."""
        own, neighbour = Traffic(server.port, questions(light)), Traffic(server.port, questions(heavy))
        await own.learn()
        await neighbour.learn()
        found = []
        for _ in range(ROUNDS):
            medians = []
            for flood in (False, True):
                over = asyncio.Event()
                own.seconds.clear()
                ours = asyncio.create_task(own.trickle(over))
                if flood:
                    await neighbour.saturate(FLOOD, ROUND_SECONDS)
                else:
                    theirs = asyncio.create_task(neighbour.trickle(over))
                    await asyncio.sleep(ROUND_SECONDS)
                over.set()
                await ours
                if not flood:
                    await theirs
                medians.append(statistics.median(own.seconds))
            found.append((medians[0], medians[1]))
        for traffic in (own, neighbour):
            assert not traffic.faults, traffic.faults
            traffic.close()
        assert set(own.statuses) == {200}
        return found

    with serve(tmp_path / "models", slots=2) as server:
        found = run(measure())
    ratio = statistics.median(flooded / calm for calm, flooded in found)
    calm, flooded = (1000 * statistics.median(side) for side in zip(*found, strict=True))
    figure(
        f"{light} lightly used beside {heavy}",
        f"{calm:.1f} ms; with {heavy} overloaded {flooded:.1f} ms: {ratio:.2f} times (at most {MOST})",
    )
    assert ratio <= MOST, found
