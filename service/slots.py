"""Threads in which batches run."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

logger = logging.getLogger(__name__)


class SlotDied(RuntimeError):
    """The thread that ran something ended before it was done."""


@dataclass(frozen=True, eq=False)
class _Task:
    function: Callable[[], Any]
    future: asyncio.Future[Any]


class Slot:
    """A thread that runs one thing at a time, started when there is something to run.

    A thread that dies, whatever killed it, is noticed at once: what it ran raises SlotDied, and the next run
    has a new thread. The thread is a daemon: a run that hangs in native code does not keep the process.
    """

    def __init__(self, *, name: str) -> None:
        self._name = name
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._current: _Task | None = None

    async def run(self, function: Callable[[], Any]) -> Any:
        """What the function returns or raises; to be called by one task at a time.

        Raises RuntimeError where the system gives no thread: the next run asks for one again.
        """
        loop = asyncio.get_running_loop()
        if self._thread is None:
            thread = threading.Thread(
                target=self._serve, args=(loop, self._tasks), name=self._name, daemon=True
            )
            thread.start()
            self._thread = thread
        task = self._current = _Task(function, loop.create_future())
        self._tasks.put(task)
        try:
            return await task.future
        finally:
            self._current = None

    def close(self) -> None:
        """End the thread; nothing may be running."""
        if self._thread is not None:
            self._tasks.put(None)
            self._thread.join()

    def _serve(self, loop: asyncio.AbstractEventLoop, tasks: SimpleQueue[_Task | None]) -> None:
        try:
            while (task := tasks.get()) is not None:
                try:
                    result, error = task.function(), None
                except Exception as raised:
                    result, error = None, raised
                loop.call_soon_threadsafe(_settle, task.future, result, error)
                del task, result, error  # nothing of a run outlives it
        except BaseException:
            logger.critical("the thread %s dies", self._name, exc_info=True)
        finally:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._ended)

    def _ended(self) -> None:
        """The thread is gone: what it had taken, or was about to take, is lost."""
        self._thread, self._tasks = None, SimpleQueue()
        if self._current is not None:
            _settle(self._current.future, None, SlotDied("the thread of a run has died"))


def _settle(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
