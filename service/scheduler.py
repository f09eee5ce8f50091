"""Batches while busy: a batch is formed the moment a slot is free, from what waits; there is no timer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from service.batch import BatchLimits, Job, form_batch
from service.errors import Overloaded
from service.slots import Slot, SlotDied
from service.waiting import Done, Entry, Queue

logger = logging.getLogger(__name__)


class Runner(Protocol):
    """Runs a batch, blocking, in a slot's thread; one result per job, in order."""

    @property
    def limits(self) -> BatchLimits: ...

    def run(self, jobs: Sequence[Any]) -> Sequence[Any]: ...


@dataclass(frozen=True, kw_only=True)
class Run:
    """A batch that was run: its results, its cost with padding, and seconds."""

    runner: Any
    results: Sequence[Any]
    cost: int
    padding_share: float
    seconds: float


class Scheduler:
    """One per device: `slots` batches run at a time, and each runner gets its share of the slots' time.

    Of the runners with waiting jobs the one that was served least is next (start-time fair queueing). One
    further slot is for a runner that has none while others hold them all: it never waits for their batches
    to end, and the device shares itself between them.
    """

    def __init__(
        self, *, slots: int, queue_batches: int, observe: Callable[[Run], None] = lambda run: None
    ) -> None:
        self._slots = slots
        self._queue_batches = queue_batches
        self._observe = observe
        self._queues: WeakKeyDictionary[Runner, Queue] = WeakKeyDictionary()
        self._free = [Slot(name=f"slot-{index}") for index in range(slots + 1)]
        self._runs: set[asyncio.Task[None]] = set()
        self._clock = 0.0  # what the runner that was last given a slot had been served
        self._open = False
        self._idle = asyncio.Event()
        self._idle.set()

    def __repr__(self) -> str:
        return f"<Scheduler slots={self._slots} busy={self.busy} waiting={self.waiting} open={self._open}>"

    @property
    def waiting(self) -> int:
        """Jobs that no slot has taken yet."""
        return sum(len(queue.entries) for queue in self._queues.values())

    @property
    def busy(self) -> int:
        """Batches that are running."""
        return len(self._runs)

    @property
    def alive(self) -> bool:
        """Whether jobs are being taken."""
        return self._open

    def start(self) -> None:
        """Begin to take jobs."""
        self._open = True

    async def close(self) -> None:
        """Answer what was accepted, then stop."""
        self._open = False
        await self._idle.wait()
        for slot in self._free:
            slot.close()

    def backlog(self, runner: Runner) -> float:
        """Seconds until what waits for a runner has run, at the present pace, with its share of the slots."""
        queue = self._queues.get(runner)
        if queue is None:
            return 0.0
        sharing = sum(other.active for other in self._queues.values())
        return queue.waiting_cost * queue.pace * max(1, sharing) / self._slots

    async def submit(self, runner: Runner, jobs: Sequence[Job]) -> list[Done]:
        """The results of one request's jobs, in order; all are admitted or none.

        Raises Overloaded where too much waits for this runner already, and whatever a job's own run raises.
        If the caller is cancelled, jobs that no slot has taken are dropped.
        """
        queue = self._admit(runner, sum(job.cost for job in jobs))
        loop = asyncio.get_running_loop()
        entries = [Entry(job, loop.create_future()) for job in jobs]
        if not queue.active:
            queue.served = max(queue.served, self._clock)
        queue.add(entries)
        self._dispatch()
        try:
            return list(await asyncio.gather(*(entry.future for entry in entries)))
        finally:
            for entry in entries:
                entry.future.cancel()
            queue.remove(entries)

    def _admit(self, runner: Runner, cost: int) -> Queue:
        if not self._open:
            raise Overloaded("the server is shutting down")
        queue = self._queues.setdefault(runner, Queue())
        limit = self._queue_batches * runner.limits.cost
        if queue.entries and queue.waiting_cost + cost > limit:
            raise Overloaded(
                f"the queue holds {self._queue_batches} batches",
                field="queue",
                limit=self._queue_batches,
                retry_after=self.backlog(runner),
            )
        return queue

    def _dispatch(self) -> None:
        """Give every free slot a batch, as long as there is one for it."""
        while (runner := self._next()) is not None:
            queue = self._queues[runner]
            batch = self._take(runner, queue)
            slot = self._free.pop()
            queue.running += 1
            self._clock = max(self._clock, queue.served)
            expected = queue.pace * _padded(batch)
            queue.served += expected  # counted at once, so that shares hold while a long batch runs
            self._idle.clear()
            self._runs.add(asyncio.create_task(self._work(slot, runner, queue, batch, expected)))

    def _next(self) -> Runner | None:
        """Who gets the next slot: whoever was served least."""
        spare = self.busy == self._slots
        if self.busy > self._slots:
            return None
        waiting = [
            (queue.served, runner)
            for runner, queue in self._queues.items()
            if queue.entries and not (spare and queue.running)
        ]
        return min(waiting, key=lambda pair: pair[0])[1] if waiting else None

    def _take(self, runner: Runner, queue: Queue) -> list[Entry]:
        """The oldest job of a runner and those that fit beside it."""
        entries = list(queue.entries)
        chosen = form_batch([entry.job for entry in entries], runner.limits)
        batch = [entries[index] for index in chosen]
        queue.remove(batch)
        return batch

    async def _work(
        self, slot: Slot, runner: Runner, queue: Queue, batch: list[Entry], expected: float
    ) -> None:
        """Run a batch and give the slot back; whatever happens, every entry is answered."""
        started = time.monotonic()
        try:
            await self._run(slot, runner, queue, batch)
        except Exception as error:  # a fault of ours
            logger.critical("the scheduler failed", exc_info=error)
        finally:
            for entry in batch:
                if not entry.future.done():
                    entry.future.set_exception(RuntimeError("the scheduler failed"))
            queue.served += time.monotonic() - started - expected
            queue.running -= 1
            self._free.append(slot)
            task = asyncio.current_task()
            assert task is not None
            self._runs.discard(task)
            self._dispatch()
            if not self._runs:
                self._idle.set()

    async def _run(
        self, slot: Slot, runner: Runner, queue: Queue, batch: list[Entry], *, died: bool = False
    ) -> None:
        """A batch that fails is halved, down to the job that is to blame: it alone gets the error.

        So is a batch for which memory does not suffice. Where a slot's thread dies, its batch is run again
        once as it was.
        """
        batch = [entry for entry in batch if not entry.future.done()]
        if not batch:
            return
        jobs = [entry.job for entry in batch]
        started = time.monotonic()
        try:
            results = await slot.run(lambda: runner.run(jobs))
            if len(results) != len(batch):
                raise RuntimeError(f"{len(batch)} jobs gave {len(results)} results")
        except SlotDied as error:
            if not died:
                return await self._run(slot, runner, queue, batch, died=True)
            await self._halve(slot, runner, queue, batch, error)
            return
        except Exception as error:
            await self._halve(slot, runner, queue, batch, error)
            return
        seconds = time.monotonic() - started
        cost = _padded(batch)
        queue.learn(cost, seconds)
        total = sum(job.cost for job in jobs)
        self._observe(
            Run(runner=runner, results=results, cost=cost, padding_share=1 - total / cost, seconds=seconds)
        )
        for entry, result in zip(batch, results, strict=True):
            if not entry.future.done():
                entry.future.set_result(Done(result, started - entry.arrived, seconds, len(batch)))

    async def _halve(
        self, slot: Slot, runner: Runner, queue: Queue, batch: list[Entry], error: Exception
    ) -> None:
        if len(batch) > 1:
            middle = len(batch) // 2
            await self._run(slot, runner, queue, batch[:middle])
            await self._run(slot, runner, queue, batch[middle:])
        elif not batch[0].future.done():
            logger.error("run failed", exc_info=error)
            batch[0].future.set_exception(error)


def _padded(batch: Sequence[Entry]) -> int:
    return len(batch) * max(entry.job.cost for entry in batch)
