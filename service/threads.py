"""Threads for what is slow, shared among models."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from service.rotation import Rotation
from service.slots import Slot

Value = TypeVar("Value")


class Threads:
    """So many threads; models whose work waits for one take turns, however much of it each has.

    Work whose requester has left never begins. What has begun keeps its thread until it is done.
    """

    def __init__(self, *, name: str, count: int) -> None:
        self._free = [Slot(name=f"{name}-{index}") for index in range(count)]
        self._given = 0  # of the free ones, those whose turn has been given and is about to be taken
        self._rotation = Rotation()
        self._working: set[asyncio.Task[Any]] = set()
        self._closing = False

    async def run(self, model: str, function: Callable[..., Value], *args: Any) -> Value:
        """What the function returns or raises, run in one of the threads."""
        if len(self._free) == self._given:
            await self._turn(model)
        working = asyncio.create_task(self._work(self._free.pop(), partial(function, *args)))
        self._working.add(working)
        working.add_done_callback(self._done)
        return await asyncio.shield(working)

    def close(self) -> None:
        """End the threads that have nothing to do, and the others when they have."""
        self._closing = True
        for slot in self._free:
            slot.close()

    async def _turn(self, model: str) -> None:
        turn = self._rotation.join(model)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # the thread was just given to who leaves now
                self._given -= 1
                self._give()
            raise
        self._given -= 1

    def _give(self) -> None:
        self._given += self._rotation.advance()

    async def _work(self, slot: Slot, function: Callable[[], Value]) -> Value:
        try:
            result: Value = await slot.run(function)
            return result
        finally:
            if self._closing:
                slot.close()
            self._free.append(slot)
            self._give()

    def _done(self, working: asyncio.Task[Any]) -> None:
        self._working.discard(working)
        if not working.cancelled():
            working.exception()  # whoever waited for it may have left
