"""A thread that runs one thing at a time, and is replaced when it dies."""

from __future__ import annotations

import asyncio
import ctypes
import threading

import pytest

from service.slots import Slot, SlotDied

pytestmark = pytest.mark.anyio

SECONDS = 10


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def kill(thread: threading.Thread) -> None:
    """Raise SystemExit in a thread, wherever it is."""
    assert thread.ident is not None
    found = ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
    )
    assert found == 1


async def test_it_gives_what_the_function_gives_and_raises_what_it_raises() -> None:
    slot = Slot(name="slot")
    assert await slot.run(lambda: 1) == 1
    with pytest.raises(ZeroDivisionError):
        await slot.run(lambda: 1 / 0)
    assert await slot.run(lambda: 2) == 2
    slot.close()


async def test_all_runs_of_a_living_thread_are_in_one_that_does_not_keep_the_process() -> None:
    slot = Slot(name="slot")
    threads = [await slot.run(threading.current_thread) for _ in range(3)]
    assert len(set(threads)) == 1
    assert threads[0].daemon
    slot.close()
    assert not threads[0].is_alive()


async def test_a_thread_that_dies_in_a_run_is_noticed_at_once() -> None:
    slot, started, end = Slot(name="slot"), threading.Event(), threading.Event()

    def spin() -> None:
        started.set()
        while not end.is_set():
            pass

    running = asyncio.create_task(slot.run(spin))
    thread = await asyncio.to_thread(lambda: started.wait(SECONDS) and slot._thread)
    assert isinstance(thread, threading.Thread)
    kill(thread)
    with pytest.raises(SlotDied):
        async with asyncio.timeout(SECONDS):
            await running
    end.set()
    assert await slot.run(threading.current_thread) is not thread
    slot.close()


async def test_a_thread_that_dies_between_two_runs_loses_neither() -> None:
    slot = Slot(name="slot")
    for _ in range(20):
        thread = await slot.run(threading.current_thread)
        kill(thread)
        for _ in range(3):  # a thread that waits dies as soon as it has something to run
            try:
                async with asyncio.timeout(SECONDS):
                    other = await slot.run(threading.current_thread)
                    break
            except SlotDied:
                continue
        assert other is not thread
    slot.close()


async def test_a_slot_that_got_no_thread_asks_for_one_again(monkeypatch: pytest.MonkeyPatch) -> None:
    slot = Slot(name="slot")

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="can't start"):
            await slot.run(lambda: 1)
    async with asyncio.timeout(SECONDS):
        assert await slot.run(lambda: 2) == 2
    slot.close()


async def test_nothing_of_a_run_outlives_it() -> None:
    import weakref

    class Large:
        pass

    slot, held = Slot(name="slot"), Large()
    gone = weakref.ref(held)

    def keep(held: Large = held) -> Large:
        return held

    assert await slot.run(keep) is held
    del held, keep
    await slot.run(lambda: None)
    assert gone() is None
    slot.close()
