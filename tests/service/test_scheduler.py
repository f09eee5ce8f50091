"""Batches form while the slots are busy; nothing is lost, mixed or run for nobody."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from service.errors import Overloaded
from service.scheduler import PADDING_SHARE, Done, Scheduler, form_batch

pytestmark = pytest.mark.anyio

SECONDS = 10  # until a test that waits for ever has failed


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass(frozen=True)
class Job:
    name: str
    cost: int = 10
    bad: bool = False


@dataclass(eq=False)
class Runner:
    """Stands for a model: says each job's name, and fails a batch that holds a bad one.

    A batch waits in its slot until `gate` is open.
    """

    batch_cost: int = 1000
    batches: list[list[Job]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)

    def run(self, jobs: Sequence[Job]) -> list[str]:
        self.batches.append(list(jobs))
        assert self.gate.wait(SECONDS)
        if any(job.bad for job in jobs):
            raise ArithmeticError("overflow")
        return [f"answer to {job.name}" for job in jobs]

    @property
    def names(self) -> list[list[str]]:
        return [[job.name for job in batch] for batch in self.batches]


def opened(runner: Runner) -> Runner:
    runner.gate.set()
    return runner


@asynccontextmanager
async def scheduling(*, slots: int = 1, queue_entries: int = 100) -> AsyncIterator[Scheduler]:
    scheduler = Scheduler(slots=slots, queue_entries=queue_entries)
    scheduler.start()
    async with asyncio.timeout(SECONDS):
        yield scheduler
        await scheduler.close()


async def until(condition: Callable[[], object]) -> None:
    """Let other tasks run until something is so."""
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.001)


async def submitted(
    scheduler: Scheduler, runner: Runner, *requests: Sequence[Job]
) -> list[asyncio.Task[list[Done]]]:
    """Tasks of these requests, all of them waiting for a slot."""
    tasks = []
    for jobs in requests:
        waiting = scheduler.waiting
        tasks.append(asyncio.create_task(scheduler.submit(runner, jobs)))
        await until(lambda: scheduler.waiting == waiting + len(jobs))  # noqa: B023
    return tasks


async def occupy(scheduler: Scheduler, runner: Runner) -> asyncio.Task[list[Done]]:
    """A job that holds the one slot until the runner's gate opens."""
    task = asyncio.create_task(scheduler.submit(runner, [Job("first")]))
    await until(lambda: runner.batches)
    return task


async def answers(request: Awaitable[list[Done]]) -> list[str]:
    return [done.result for done in await request]


async def test_an_idle_scheduler_answers_at_once_and_without_a_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = opened(Runner())
    async with scheduling() as scheduler:
        with monkeypatch.context() as patch:
            patch.setattr(
                asyncio.get_running_loop(), "call_at", lambda *args, **kwargs: pytest.fail("a timer")
            )
            patch.setattr(asyncio.get_running_loop(), "call_later", lambda *args: pytest.fail("a timer"))
            (done,) = await scheduler.submit(runner, [Job("a")])
    assert (done.result, done.batch) == ("answer to a", 1)
    assert 0 <= done.queue_seconds < 1


async def test_what_waits_while_the_slot_is_busy_becomes_one_batch() -> None:
    runner = Runner()
    async with scheduling() as scheduler:
        first = await occupy(scheduler, runner)
        tasks = await submitted(scheduler, runner, [Job("a")], [Job("b"), Job("c")], [Job("d")])
        assert repr(scheduler) == "<Scheduler slots=1 waiting=4 closing=False>"
        runner.gate.set()
        assert [done.batch for task in (first, *tasks) for done in await task] == [1, 4, 4, 4, 4]
    assert runner.names == [["first"], ["a", "b", "c", "d"]]


async def test_every_slot_runs_a_batch_of_its_own() -> None:
    runner = Runner(batch_cost=10)
    async with scheduling(slots=3) as scheduler:
        tasks = [asyncio.create_task(scheduler.submit(runner, [Job(name)])) for name in "abcd"]
        await until(lambda: len(runner.batches) == 3)
        assert scheduler.waiting == 1
        runner.gate.set()
        assert [await answers(task) for task in tasks] == [[f"answer to {name}"] for name in "abcd"]


async def test_batches_keep_within_cost_and_padding() -> None:
    rng = random.Random(0)
    runner = Runner(batch_cost=300)
    jobs = [Job(f"{index}", cost=rng.choice([*range(1, 120), 500])) for index in range(80)]
    async with scheduling() as scheduler:
        await occupy(scheduler, runner)
        (task,) = await submitted(scheduler, runner, jobs)
        runner.gate.set()
        assert await answers(task) == [f"answer to {job.name}" for job in jobs]
    batches = [[job.cost for job in batch] for batch in runner.batches[1:]]
    for costs in batches:
        padded = len(costs) * max(costs)
        assert padded <= 300 or len(costs) == 1
        assert sum(costs) >= (1 - PADDING_SHARE) * padded
    assert sorted(cost for costs in batches for cost in costs) == sorted(job.cost for job in jobs)
    assert len(batches) < len(jobs) / 1.5


async def test_answers_keep_their_order_and_are_not_mixed() -> None:
    rng = random.Random(1)
    runner = opened(Runner(batch_cost=60))
    requests = [
        [Job(f"{request}.{index}", cost=rng.randint(1, 30)) for index in range(rng.randint(1, 5))]
        for request in range(60)
    ]
    async with scheduling(slots=3, queue_entries=1000) as scheduler:
        found = await asyncio.gather(*(answers(scheduler.submit(runner, jobs)) for jobs in requests))
    assert found == [[f"answer to {job.name}" for job in jobs] for jobs in requests]
    assert sum(map(len, runner.batches)) == sum(map(len, requests))


async def test_a_full_queue_takes_all_of_a_request_or_none() -> None:
    runner = Runner()
    async with scheduling(queue_entries=3) as scheduler:
        await occupy(scheduler, runner)
        (two,) = await submitted(scheduler, runner, [Job("a"), Job("b")])
        with pytest.raises(Overloaded, match="full") as caught:
            await scheduler.submit(runner, [Job("c"), Job("d")])
        assert (caught.value.field, caught.value.limit) == ("queue", 3)
        assert scheduler.waiting == 2
        (one,) = await submitted(scheduler, runner, [Job("e")])
        runner.gate.set()
        assert await answers(two) == ["answer to a", "answer to b"]
        assert await answers(one) == ["answer to e"]
    assert "c" not in {name for names in runner.names for name in names}


async def test_a_bad_job_fails_alone() -> None:
    runner = Runner()
    async with scheduling() as scheduler:
        await occupy(scheduler, runner)
        tasks = await submitted(scheduler, runner, [Job("a")], [Job("b", bad=True)], [Job("c")])
        runner.gate.set()
        assert await answers(tasks[0]) == ["answer to a"]
        assert await answers(tasks[2]) == ["answer to c"]
        with pytest.raises(ArithmeticError, match="overflow"):
            await tasks[1]
        assert await answers(scheduler.submit(runner, [Job("after")])) == ["answer to after"]
        assert scheduler.alive
    assert runner.names == [["first"], ["a", "b", "c"], ["a"], ["b"], ["c"], ["after"]]


async def test_a_request_fails_with_its_bad_job_and_what_waits_of_it_is_dropped() -> None:
    runner = opened(Runner(batch_cost=10))
    async with scheduling() as scheduler:
        with pytest.raises(ArithmeticError):
            await scheduler.submit(runner, [Job("a", bad=True), *(Job(f"{index}") for index in range(20))])
        assert await answers(scheduler.submit(runner, [Job("after")])) == ["answer to after"]
        assert scheduler.waiting == 0
    assert len(runner.batches) < 20


async def test_a_runner_that_loses_an_answer_fails_and_leaves_the_slot_working() -> None:
    class Forgetful(Runner):
        def run(self, jobs: Sequence[Job]) -> list[str]:
            return super().run(jobs)[:-1]

    async with scheduling() as scheduler:
        with pytest.raises(RuntimeError, match="1 jobs gave 0 results"):
            await scheduler.submit(opened(Forgetful()), [Job("a"), Job("b")])
        assert await answers(scheduler.submit(opened(Runner()), [Job("c")])) == ["answer to c"]


async def test_jobs_of_a_caller_who_left_are_not_run() -> None:
    runner = Runner()
    async with scheduling() as scheduler:
        first = await occupy(scheduler, runner)
        gone, stays = await submitted(scheduler, runner, [Job("a"), Job("b")], [Job("c")])
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        runner.gate.set()
        assert await answers(first) == ["answer to first"]
        assert await answers(stays) == ["answer to c"]
    assert runner.names == [["first"], ["c"]]


async def test_a_queue_of_callers_who_all_left_is_dropped() -> None:
    runner = Runner()
    async with scheduling() as scheduler:
        first = await occupy(scheduler, runner)
        (gone,) = await submitted(scheduler, runner, [Job("a"), Job("b")])
        gone.cancel()
        runner.gate.set()
        await first
        await until(lambda: not scheduler.waiting)
        assert scheduler.alive
        assert await answers(scheduler.submit(runner, [Job("c")])) == ["answer to c"]
    assert runner.names == [["first"], ["c"]]


async def test_a_caller_who_leaves_during_the_run_leaves_the_slot_working() -> None:
    runner = Runner()
    async with scheduling() as scheduler:
        first = await occupy(scheduler, runner)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        runner.gate.set()
        assert await answers(scheduler.submit(runner, [Job("a")])) == ["answer to a"]
        assert scheduler.alive


async def test_a_caller_who_leaves_during_a_failing_run_is_not_run_again() -> None:
    runner, hold = Runner(), Runner()
    async with scheduling() as scheduler:
        await occupy(scheduler, hold)
        gone, stays = await submitted(scheduler, runner, [Job("a", bad=True)], [Job("b")])
        hold.gate.set()
        await until(lambda: runner.names == [["a", "b"]])
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        runner.gate.set()
        assert await answers(stays) == ["answer to b"]
    assert runner.names == [["a", "b"], ["b"]]


async def test_models_take_turns() -> None:
    order: list[str] = []

    class Named(Runner):
        def run(self, jobs: Sequence[Job]) -> list[str]:
            order.extend(job.name for job in jobs)
            return super().run(jobs)

    one, other = Named(batch_cost=10), opened(Named(batch_cost=10))
    async with scheduling() as scheduler:
        await occupy(scheduler, one)
        tasks = await submitted(scheduler, one, [Job("a1"), Job("a2"), Job("a3")])
        tasks += await submitted(scheduler, other, [Job("b1"), Job("b2")])
        one.gate.set()
        await asyncio.gather(*tasks)
    assert order == ["first", "a1", "b1", "a2", "b2", "a3"]


async def test_closing_answers_what_was_accepted_and_refuses_the_rest() -> None:
    runner = Runner(batch_cost=10)
    scheduler = Scheduler(slots=1, queue_entries=100)
    assert not scheduler.alive
    scheduler.start()
    assert scheduler.alive
    first = await occupy(scheduler, runner)
    (waiting,) = await submitted(scheduler, runner, [Job("a"), Job("b")])
    closing = asyncio.create_task(scheduler.close())
    await until(lambda: "closing=True" in repr(scheduler))
    assert not scheduler.alive
    with pytest.raises(Overloaded, match="shutting down"):
        await scheduler.submit(runner, [Job("late")])
    assert not closing.done()
    runner.gate.set()
    async with asyncio.timeout(SECONDS):
        await closing
    assert await answers(first) == ["answer to first"]
    assert await answers(waiting) == ["answer to a", "answer to b"]
    assert runner.names == [["first"], ["a"], ["b"]]


@pytest.mark.parametrize(
    ("costs", "limit", "chosen"),
    [
        ([], 10, set()),
        ([5], 10, {0}),
        ([50], 10, {0}),
        ([50, 50], 10, {0}),
        ([5, 5], 10, {0, 1}),
        ([5, 5, 5], 10, {0, 1}),
        ([100, 1, 100], 1000, {0, 2}),  # 1 beside 100 would be mostly padding
        ([1, 100, 100], 1000, {0}),  # the oldest goes first, however good the others fit
        ([20, 19, 18, 17], 1000, {0, 1, 2}),  # 57 of 60, then 74 of 80
        ([10, 11, 9, 10], 40, {0, 2, 3}),  # 31 of 33 is too little, 29 of 30 is not
        ([100, 99, 101], 250, {0, 1}),
    ],
)
def test_the_oldest_job_is_joined_by_those_nearest_to_it(
    costs: list[int], limit: int, chosen: set[int]
) -> None:
    assert form_batch(costs, limit) == chosen
