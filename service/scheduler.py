"""Batches while busy: a batch is formed the moment a slot is free, from what waits; there is no timer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from service.errors import Overloaded

PADDING_SHARE = 0.05  # of a batch's cost that may be padding

logger = logging.getLogger(__name__)


class Job(Protocol):
    """One input of one request; a batch costs its number of jobs times the largest cost among them."""

    @property
    def cost(self) -> int: ...


class Runner(Protocol):
    """Runs a batch, blocking, in a slot's thread; one result per job, in order."""

    @property
    def batch_cost(self) -> int: ...

    def run(self, jobs: Sequence[Any]) -> Sequence[Any]: ...


@dataclass(frozen=True)
class Done:
    """A job's result and what it took, in seconds; `batch` jobs ran together."""

    result: Any
    queue_seconds: float
    run_seconds: float
    batch: int


@dataclass(eq=False)
class _Entry:
    job: Job
    future: asyncio.Future[Done]
    arrived: float = field(default_factory=time.monotonic)


class Scheduler:
    """One per device: `slots` batches run at a time, models with waiting jobs take turns."""

    def __init__(self, *, slots: int, queue_entries: int) -> None:
        self._slots = slots
        self._limit = queue_entries
        self._queues: dict[Runner, list[_Entry]] = {}  # in order of turn
        self._waiting = asyncio.Condition()
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix="slot")
        self._workers: list[asyncio.Task[None]] = []
        self._closing = False

    def __repr__(self) -> str:
        return f"<Scheduler slots={self._slots} waiting={self.waiting} closing={self._closing}>"

    @property
    def waiting(self) -> int:
        """Jobs that no slot has taken yet."""
        return sum(len(queue) for queue in self._queues.values())

    @property
    def alive(self) -> bool:
        """Whether jobs are being taken."""
        return not self._closing and bool(self._workers) and not any(w.done() for w in self._workers)

    def start(self) -> None:
        """Begin to take jobs; needs a running event loop."""
        self._workers = [asyncio.create_task(self._work()) for _ in range(self._slots)]

    async def close(self) -> None:
        """Answer what was accepted, then stop."""
        async with self._waiting:
            self._closing = True
            self._waiting.notify_all()
        await asyncio.gather(*self._workers)
        self._threads.shutdown()

    async def submit(self, runner: Runner, jobs: Sequence[Job]) -> list[Done]:
        """The results of one request's jobs, in order; all are admitted or none.

        Raises Overloaded where the queue is full, and whatever a job's own run raises. If the caller is
        cancelled, jobs that no slot has taken are dropped.
        """
        loop = asyncio.get_running_loop()
        entries = [_Entry(job, loop.create_future()) for job in jobs]
        async with self._waiting:
            if self._closing:
                raise Overloaded("the server is shutting down")
            if self.waiting + len(entries) > self._limit:
                raise Overloaded("the queue is full", field="queue", limit=self._limit)
            self._queues.setdefault(runner, []).extend(entries)
            self._waiting.notify(len(entries))
        try:
            return list(await asyncio.gather(*(entry.future for entry in entries)))
        finally:
            for entry in entries:
                entry.future.cancel()

    async def _work(self) -> None:
        while await self._turn():
            pass

    async def _turn(self) -> bool:
        """Wait for a batch and run it; False when there will be none. Nothing of it outlives the turn."""
        async with self._waiting:
            await self._waiting.wait_for(lambda: self._queues or self._closing)
            if not self._queues:
                return False
            runner = next(iter(self._queues))
            batch = self._take(runner)
        if batch:
            await self._run(runner, batch)
        return True

    def _take(self, runner: Runner) -> list[_Entry]:
        """The oldest job of this runner and those that fit beside it; the runner goes to the back."""
        queue = [entry for entry in self._queues.pop(runner) if not entry.future.done()]
        batch = form_batch([entry.job.cost for entry in queue], runner.batch_cost)
        if rest := [entry for index, entry in enumerate(queue) if index not in batch]:
            self._queues[runner] = rest
        return [queue[index] for index in sorted(batch)]

    async def _run(self, runner: Runner, batch: list[_Entry]) -> None:
        started = time.monotonic()
        loop = asyncio.get_running_loop()
        jobs = [entry.job for entry in batch]
        try:
            results = await loop.run_in_executor(self._threads, runner.run, jobs)
            if len(results) != len(batch):
                raise RuntimeError(f"{len(batch)} jobs gave {len(results)} results")
        except Exception as error:
            await self._fail(runner, batch, error)
            return
        seconds = time.monotonic() - started
        for entry, result in zip(batch, results, strict=True):
            if not entry.future.done():
                entry.future.set_result(Done(result, started - entry.arrived, seconds, len(batch)))

    async def _fail(self, runner: Runner, batch: list[_Entry], error: Exception) -> None:
        """A failed batch is run again one by one, so that only the culprit gets the error."""
        if len(batch) > 1:
            for entry in batch:
                if not entry.future.done():
                    await self._run(runner, [entry])
        elif not batch[0].future.done():
            logger.error("run failed", exc_info=error)
            batch[0].future.set_exception(error)


def form_batch(costs: Sequence[int], limit: int) -> set[int]:
    """Which jobs to run together: the first, and those nearest to it in cost.

    The padded cost (number x largest) stays within `limit` and the padding below PADDING_SHARE of it; a job
    over the limit runs alone.
    """
    if not costs:
        return set()
    chosen, total, largest = {0}, costs[0], costs[0]
    for index in sorted(range(1, len(costs)), key=lambda index: abs(costs[index] - costs[0])):
        padded = (len(chosen) + 1) * max(largest, costs[index])
        if padded <= limit and total + costs[index] >= (1 - PADDING_SHARE) * padded:
            chosen.add(index)
            total, largest = total + costs[index], max(largest, costs[index])
    return chosen
