"""The event loop's own time is shared among models."""

from __future__ import annotations

import asyncio

import pytest

from service.turns import Turns

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def begin(turns: Turns, begun: list[str], model: str, name: str) -> None:
    await turns.wait(model)
    begun.append(name)


async def test_one_request_of_each_model_begins_in_every_pass() -> None:
    turns, begun = Turns(), list[str]()
    async with asyncio.TaskGroup() as tasks:
        for index in range(5):
            tasks.create_task(begin(turns, begun, "busy", f"busy {index}"))
        tasks.create_task(begin(turns, begun, "light", "light"))
    assert begun == ["busy 0", "light", "busy 1", "busy 2", "busy 3", "busy 4"]


async def test_one_who_comes_later_does_not_wait_for_those_of_another_model() -> None:
    turns, begun = Turns(), list[str]()
    tasks = [asyncio.create_task(begin(turns, begun, "busy", "busy")) for _ in range(100)]
    while len(begun) < 10:
        await asyncio.sleep(0)
    await begin(turns, begun, "light", "light")
    assert begun.index("light") < 15
    await asyncio.gather(*tasks)
    assert len(begun) == 101


async def test_a_client_who_left_takes_no_turn() -> None:
    turns, begun = Turns(), list[str]()
    tasks = [asyncio.create_task(begin(turns, begun, "busy", f"{index}")) for index in range(4)]
    await asyncio.sleep(0)
    for index in (1, 3):
        tasks[index].cancel()
    await asyncio.wait(tasks)
    assert begun == ["0", "2"]
    async with asyncio.timeout(10):
        await turns.wait("busy")
