"""Twice as many requests as the server can answer, for minutes."""

from __future__ import annotations

import asyncio
import statistics
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from service.settings import DEMO
from tests.load.conftest import Serve
from tests.load.process import Process
from tests.load.question import media, snippets
from tests.load.traffic import Traffic

pytestmark = pytest.mark.load

MIB = 1024**2
WARM_SECONDS = 60  # after which memory is to stay as it is; in a shorter run it is only stated
MEDIAN_SECONDS = 10  # over which the median of memory is taken
CAPACITY_SECONDS = 10
GROWTH = 0.03
# The store fills up with what was answered: it has to be full before memory can stay flat.
STORE_BYTES = 16 * MIB


async def watch(server: Process, resident: list[int], over: asyncio.Event) -> None:
    """The resident memory of each second."""
    while not over.is_set():
        resident.append(server.resident)
        await asyncio.sleep(1)


def test_every_request_at_twice_the_capacity_is_answered_or_told_when_to_come_back(
    serve: Serve,
    run: Callable[..., Any],
    figure: Callable[[str, str], None],
    request: pytest.FixtureRequest,
) -> None:
    seconds = request.config.getoption("--load-seconds")
    questions = [
        *snippets("code-language", 300, words=(2, 60), options="top_k=3"),
        *snippets("code-language", 40, words=(2, 60), options="top_k=3&maps=rollout,cls", seed=1),
        *media("digit-in-clutter", "digit-?.*"),
        *media("digit-in-clutter", "digit-?.*", "maps=cam"),
        *media("digit-motion", "*.mp4", "maps=rollout"),
    ]

    answered: Counter[int] = Counter()

    async def measure() -> tuple[list[float], float, list[int]]:
        """Capacity before and after, the rate of requests, and resident memory by the second."""
        await traffic.learn()
        await traffic.saturate(32, 3)
        capacity = [await traffic.saturate(32, CAPACITY_SECONDS)]
        traffic.statuses.clear()
        resident: list[int] = []
        over = asyncio.Event()
        watching = asyncio.create_task(watch(server, resident, over))
        rate = await traffic.sustain(2 * capacity[0], seconds)
        over.set()
        await watching
        answered.update(traffic.statuses)
        capacity.append(await traffic.saturate(32, CAPACITY_SECONDS))
        return capacity, rate, resident

    with serve(DEMO, store_bytes=STORE_BYTES) as server:
        traffic = Traffic(server.port, questions)
        capacity, rate, resident = run(measure())
        ran = sum(server.counted(model) for model in ("code-language", "digit-in-clutter", "digit-motion"))
        traffic.close()
    long = seconds >= 2 * WARM_SECONDS
    warm = resident[WARM_SECONDS:] if long else resident
    first, last = statistics.median(warm[:MEDIAN_SECONDS]), statistics.median(warm[-MEDIAN_SECONDS:])
    figure(
        "capacity, three built-in models, 32 clients",
        f"{capacity[0]:.0f} requests/s before the overload, {capacity[1]:.0f} after it",
    )
    figure(
        f"overload for {seconds:.0f} s",
        f"{rate:.0f} requests/s, {rate / capacity[0]:.2f} times the capacity before",
    )
    figure(
        "overload, answered",
        f"{answered[200]} with 200 ({answered[200] / seconds:.0f}/s), {answered[503]} with 503",
    )
    figure("overload, lost, late, twice or another's", traffic.faults or f"0 of {traffic.sent}")
    figure(
        "overload, resident memory",
        f"{first / MIB:.0f} MiB warm, {last / MIB:.0f} at the end ({last / first - 1:+.1%}), largest "
        f"{max(resident) / MIB:.0f}",
    )
    assert not traffic.faults, traffic.faults
    assert traffic.refused == 0
    assert set(traffic.statuses) == {200, 503}
    assert ran == len(traffic.seconds) + len(questions), "inputs that were run and nobody got"
    assert rate > 1.9 * capacity[0], "the client could not keep up"
    assert not long or last <= (1 + GROWTH) * first, [size // MIB for size in resident]
