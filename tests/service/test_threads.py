"""Threads are shared among models, and work that nobody waits for never begins."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from service.threads import Threads

pytestmark = pytest.mark.anyio

SECONDS = 10


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.001)


async def test_it_gives_what_the_function_gives_and_raises_what_it_raises() -> None:
    threads = Threads(name="t", count=1)
    assert await threads.run("a", divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await threads.run("a", divmod, 7, 0)
    assert await threads.run("a", divmod, 9, 2) == (4, 1)
    threads.close()


async def test_models_take_turns_however_much_waits_of_each() -> None:
    threads, gate, begun = Threads(name="t", count=1), threading.Event(), list[str]()
    first = asyncio.create_task(threads.run("busy", gate.wait, SECONDS))
    await asyncio.sleep(0)
    tasks = [asyncio.create_task(threads.run("busy", begun.append, f"busy {n}")) for n in range(20)]
    await asyncio.sleep(0)
    tasks += [asyncio.create_task(threads.run("light", begun.append, f"light {n}")) for n in range(2)]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(first, *tasks)
    assert begun[:5] == ["busy 0", "light 0", "busy 1", "light 1", "busy 2"]
    assert len(begun) == 22
    threads.close()


async def test_as_many_run_as_there_are_threads_and_no_more() -> None:
    threads, gate, running = Threads(name="t", count=3), threading.Event(), list[int]()

    def work() -> None:
        running.append(1)
        gate.wait(SECONDS)

    tasks = [asyncio.create_task(threads.run("a", work)) for _ in range(5)]
    await until(lambda: len(running) == 3)
    gate.set()
    await asyncio.gather(*tasks)
    assert len(running) == 5
    threads.close()


async def test_work_of_who_has_left_never_begins_and_keeps_no_thread() -> None:
    threads, gate, begun = Threads(name="t", count=1), threading.Event(), list[int]()
    first = asyncio.create_task(threads.run("a", gate.wait, SECONDS))
    await asyncio.sleep(0)
    leaving = [asyncio.create_task(threads.run("a", begun.append, n)) for n in range(5)]
    await asyncio.sleep(0)
    for task in leaving:
        task.cancel()
    gate.set()
    await first
    await asyncio.wait(leaving)
    async with asyncio.timeout(SECONDS):
        await threads.run("a", begun.append, 9)
    assert begun == [9]
    threads.close()


async def test_a_thread_is_not_lost_when_its_turn_comes_to_one_who_leaves() -> None:
    threads, gate = Threads(name="t", count=1), threading.Event()
    first = asyncio.create_task(threads.run("a", gate.wait, SECONDS))
    await asyncio.sleep(0)
    leaver = asyncio.create_task(threads.run("a", gate.wait, SECONDS))
    await asyncio.sleep(0)
    gate.set()
    await first
    assert not leaver.done()  # it has been given the thread and has not begun
    leaver.cancel()
    await asyncio.wait([leaver])
    async with asyncio.timeout(SECONDS):
        assert await threads.run("a", divmod, 4, 2) == (2, 0)
    threads.close()


async def test_what_runs_for_nobody_keeps_its_thread_until_it_is_done() -> None:
    threads, gate, begun = Threads(name="t", count=1), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        gate.wait(SECONDS)

    gone = asyncio.create_task(threads.run("a", work))
    await until(begun.is_set)
    gone.cancel()
    await asyncio.wait([gone])
    waiting = asyncio.create_task(threads.run("a", divmod, 4, 2))
    done, _ = await asyncio.wait([waiting], timeout=0.05)
    assert not done
    gate.set()
    async with asyncio.timeout(SECONDS):
        assert await waiting == (2, 0)
    threads.close()


async def test_who_waits_is_not_overtaken_by_who_comes_later() -> None:
    threads, gate, begun = Threads(name="t", count=1), threading.Event(), list[str]()
    first = asyncio.create_task(threads.run("a", gate.wait, SECONDS))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(threads.run("a", begun.append, "early"))
    await asyncio.sleep(0)
    gate.set()
    await first
    async with asyncio.timeout(SECONDS):
        await threads.run("a", begun.append, "late")
        await waiting
    assert begun == ["early", "late"]
    threads.close()
