"""Batches form while the slots are busy; nothing is lost, mixed or run for nobody."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from service.batch import PADDING_SHARE, BatchLimits
from service.errors import Overloaded
from service.scheduler import Run, Scheduler
from service.slots import SlotDied
from service.waiting import Done

pytestmark = pytest.mark.anyio

SECONDS = 10  # until a test that waits for ever has failed


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass(frozen=True)
class Job:
    name: str
    cost: int = 10
    error: type[BaseException] | None = None
    taps: Mapping[str, int] = field(default_factory=dict)


@dataclass(eq=False)
class Runner:
    """Stands for a model: says each job's name, and fails a batch that holds a bad one or is too large.

    A batch waits in its slot until `gate` is open, and then takes `seconds` for each unit of its cost.
    """

    batch_cost: int = 1000
    memory: int = 10**9
    seconds: float = 0
    batches: list[list[Job]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)

    @property
    def limits(self) -> BatchLimits:
        return BatchLimits(cost=self.batch_cost, tap_bytes=100)

    def run(self, jobs: Sequence[Job]) -> list[str]:
        self.batches.append(list(jobs))
        assert self.gate.wait(SECONDS)
        if self.seconds:
            time.sleep(self.seconds * len(jobs) * max(job.cost for job in jobs))
        if sum(job.cost for job in jobs) > self.memory:
            raise MemoryError
        for job in jobs:
            if job.error is not None:
                raise job.error("overflow")
        return [f"answer to {job.name}" for job in jobs]

    @property
    def names(self) -> list[list[str]]:
        return [[job.name for job in batch] for batch in self.batches]


def opened(runner: Runner) -> Runner:
    runner.gate.set()
    return runner


@asynccontextmanager
async def scheduling(
    *, slots: int = 1, queue_batches: int = 100, observe: Callable[[Run], None] = lambda run: None
) -> AsyncIterator[Scheduler]:
    scheduler = Scheduler(slots=slots, queue_batches=queue_batches, observe=observe)
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


async def occupy_again(scheduler: Scheduler, runner: Runner) -> asyncio.Task[list[Done]]:
    """The same for a runner that has run before, and whose gate is shut now."""
    before = len(runner.batches)
    task = asyncio.create_task(scheduler.submit(runner, [Job("again")]))
    await until(lambda: len(runner.batches) > before)
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
        assert repr(scheduler) == "<Scheduler slots=1 busy=1 waiting=4 open=True>"
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
    async with scheduling(slots=3, queue_batches=1000) as scheduler:
        found = await asyncio.gather(*(answers(scheduler.submit(runner, jobs)) for jobs in requests))
    assert found == [[f"answer to {job.name}" for job in jobs] for jobs in requests]
    assert sum(map(len, runner.batches)) == sum(map(len, requests))


async def test_a_full_queue_takes_all_of_a_request_or_none() -> None:
    runner = Runner(batch_cost=10)
    async with scheduling(queue_batches=3) as scheduler:
        await occupy(scheduler, runner)
        (two,) = await submitted(scheduler, runner, [Job("a"), Job("b")])
        with pytest.raises(Overloaded, match="the queue holds 3 batches") as caught:
            await scheduler.submit(runner, [Job("c"), Job("d")])
        assert (caught.value.field, caught.value.limit) == ("queue", 3)
        assert scheduler.waiting == 2
        (one,) = await submitted(scheduler, runner, [Job("e")])
        runner.gate.set()
        assert await answers(two) == ["answer to a", "answer to b"]
        assert await answers(one) == ["answer to e"]
    assert "c" not in {name for names in runner.names for name in names}


async def test_an_empty_queue_takes_any_request() -> None:
    runner = opened(Runner(batch_cost=10))
    async with scheduling(queue_batches=1) as scheduler:
        assert len(await scheduler.submit(runner, [Job(f"{index}") for index in range(5)])) == 5


async def test_a_full_queue_leaves_room_in_that_of_another_model() -> None:
    busy, other = Runner(batch_cost=10), Runner(batch_cost=10)
    async with scheduling(queue_batches=1) as scheduler:
        await occupy(scheduler, busy)
        await submitted(scheduler, busy, [Job("a")])
        with pytest.raises(Overloaded):
            await scheduler.submit(busy, [Job("b")])
        opened(other)
        assert await answers(scheduler.submit(other, [Job("c")])) == ["answer to c"]
        busy.gate.set()


async def test_a_refused_request_is_told_when_the_queue_will_have_been_worked_off() -> None:
    runner = opened(Runner(batch_cost=10, seconds=0.01))
    async with scheduling(queue_batches=30) as scheduler:
        await scheduler.submit(runner, [Job("pace")])
        assert scheduler.backlog(runner) == 0
        runner.gate.clear()
        await occupy_again(scheduler, runner)
        (waiting,) = await submitted(scheduler, runner, [Job(f"{index}") for index in range(30)])
        assert 2.9 < scheduler.backlog(runner) < 6  # 30 batches of 0.1 s, and this machine's own delays
        with pytest.raises(Overloaded) as caught:
            await scheduler.submit(runner, [Job("more")])
        assert caught.value.retry_after in (3, 4, 5, 6)
        runner.seconds = 0
        runner.gate.set()
        await waiting


async def test_a_bad_job_fails_alone() -> None:
    runner = Runner()
    async with scheduling() as scheduler:
        await occupy(scheduler, runner)
        tasks = await submitted(scheduler, runner, [Job("a")], [Job("b", error=ArithmeticError)], [Job("c")])
        runner.gate.set()
        assert await answers(tasks[0]) == ["answer to a"]
        assert await answers(tasks[2]) == ["answer to c"]
        with pytest.raises(ArithmeticError, match="overflow"):
            await tasks[1]
        assert await answers(scheduler.submit(runner, [Job("after")])) == ["answer to after"]
        assert scheduler.alive
    assert runner.names == [["first"], ["a", "b", "c"], ["a"], ["b", "c"], ["b"], ["c"], ["after"]]


async def test_the_culprit_of_a_large_batch_is_found_by_halves() -> None:
    runner = Runner()
    jobs = [Job(f"{index}", error=ArithmeticError if index == 37 else None) for index in range(64)]
    async with scheduling() as scheduler:
        await occupy(scheduler, runner)
        tasks = await submitted(scheduler, runner, *([job] for job in jobs))
        runner.gate.set()
        found = await asyncio.gather(*map(answers, tasks), return_exceptions=True)
    assert [index for index, answer in enumerate(found) if isinstance(answer, ArithmeticError)] == [37]
    assert [answer for answer in found if not isinstance(answer, BaseException)] == [
        [f"answer to {job.name}"] for job in jobs if job.error is None
    ]
    assert len(runner.batches) == 1 + 1 + 2 * 6


async def test_a_batch_that_exhausts_memory_is_split_and_tried_again() -> None:
    runner = Runner(memory=30)
    async with scheduling() as scheduler:
        await occupy(scheduler, runner)
        (task,) = await submitted(scheduler, runner, [Job(f"{index}") for index in range(8)])
        runner.gate.set()
        assert await answers(task) == [f"answer to {index}" for index in range(8)]
    assert [len(batch) for batch in runner.batches] == [1, 8, 4, 2, 2, 4, 2, 2]


async def test_entries_of_a_thread_that_died_are_run_in_a_new_one() -> None:
    class Fatal(Runner):
        threads: list[threading.Thread] = []  # noqa: RUF012

        def run(self, jobs: Sequence[Job]) -> list[str]:
            self.threads.append(threading.current_thread())
            if len(self.threads) == 1:
                raise SystemExit
            return super().run(jobs)

    runner = opened(Fatal())
    async with scheduling() as scheduler:
        assert await answers(scheduler.submit(runner, [Job("a"), Job("b")])) == ["answer to a", "answer to b"]
        assert scheduler.alive
        runner.threads[0].join(SECONDS)
        assert not runner.threads[0].is_alive()
        assert runner.threads[1].is_alive()
        assert runner.threads[1] is not runner.threads[0]


async def test_a_job_that_kills_every_thread_fails_alone() -> None:
    runner = Runner()
    async with scheduling() as scheduler:
        await occupy(scheduler, runner)
        tasks = await submitted(scheduler, runner, [Job("a")], [Job("b", error=SystemExit)])
        runner.gate.set()
        assert await answers(tasks[0]) == ["answer to a"]
        with pytest.raises(SlotDied):
            await tasks[1]
        assert await answers(scheduler.submit(runner, [Job("after")])) == ["answer to after"]


async def test_a_request_fails_with_its_bad_job_and_what_waits_of_it_is_dropped() -> None:
    runner = opened(Runner(batch_cost=10))
    async with scheduling() as scheduler:
        with pytest.raises(ArithmeticError):
            await scheduler.submit(
                runner, [Job("a", error=ArithmeticError), *(Job(f"{index}") for index in range(20))]
            )
        assert await answers(scheduler.submit(runner, [Job("after")])) == ["answer to after"]
        assert scheduler.waiting == 0
    assert len(runner.batches) < 20


async def test_every_batch_is_told_with_its_cost_and_padding() -> None:
    runs: list[Run] = []
    runner = Runner()
    async with scheduling(observe=runs.append) as scheduler:
        await occupy(scheduler, runner)
        (task,) = await submitted(
            scheduler, runner, [Job("a", cost=100), Job("b", cost=95), Job("c", cost=1)]
        )
        runner.gate.set()
        await task
    assert [(list(run.results), run.cost) for run in runs] == [
        (["answer to first"], 10),
        (["answer to a", "answer to b"], 200),
        (["answer to c"], 1),
    ]
    assert [run.padding_share for run in runs] == [0, pytest.approx(5 / 200), 0]


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
    runner, hold, spare = Runner(), Runner(), Runner()
    async with scheduling() as scheduler:
        await occupy(scheduler, spare)
        await occupy(scheduler, hold)
        gone, stays = await submitted(scheduler, runner, [Job("a", error=ArithmeticError)], [Job("b")])
        hold.gate.set()
        await until(lambda: runner.names == [["a", "b"]])
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        runner.gate.set()
        assert await answers(stays) == ["answer to b"]
        spare.gate.set()
    assert runner.names == [["a", "b"], ["b"]]


async def competing(order: list[str], batches: Mapping[str, tuple[int, float]], *, before: str = "") -> None:
    """Models of so many batches, each so many seconds long, compete for a slot; a third holds the spare one.

    Their batches' names go to `order`. The model `before` has had the slot for itself for a while.
    """

    class Named(Runner):
        def run(self, jobs: Sequence[Job]) -> list[str]:
            order.extend(job.name for job in jobs)
            return super().run(jobs)

    hog = Runner()
    async with scheduling() as scheduler:
        holding = await occupy(scheduler, hog)
        runners = {
            name: opened(Named(batch_cost=10, seconds=seconds / 10)) for name, (_, seconds) in batches.items()
        }
        for name, runner in runners.items():
            for _ in range(30 if name == before else 1):
                await scheduler.submit(runner, [Job(name)])
        order.clear()
        tasks = [
            asyncio.create_task(scheduler.submit(runners[name], [Job(name)] * count))
            for name, (count, _) in batches.items()
        ]
        await asyncio.gather(*tasks)
        hog.gate.set()
        await holding


async def test_models_share_the_slots_time_however_much_each_has_waiting() -> None:
    order: list[str] = []
    await competing(order, {"a": (20, 0.03), "b": (60, 0.01)})
    assert 7 <= order[:40].count("a") <= 13  # 10 of 30 ms beside 30 of 10 ms


async def test_a_model_with_more_waiting_has_no_larger_share() -> None:
    order: list[str] = []
    await competing(order, {"a": (60, 0.005), "b": (10, 0.005)})
    assert 8 <= order[:20].count("a") <= 12


async def test_what_a_model_had_while_others_were_idle_is_not_held_against_it() -> None:
    order: list[str] = []
    await competing(order, {"a": (20, 0.005), "b": (20, 0.005)}, before="a")
    assert 8 <= order[:20].count("a") <= 12


async def test_a_model_without_a_slot_does_not_wait_for_the_batches_of_another() -> None:
    long, light = Runner(batch_cost=10), opened(Runner(batch_cost=10))
    async with scheduling(slots=2) as scheduler:
        tasks = [asyncio.create_task(scheduler.submit(long, [Job(name)])) for name in "abc"]
        await until(lambda: len(long.batches) == 2)
        assert await answers(scheduler.submit(light, [Job("light")])) == ["answer to light"]
        assert len(long.batches) == 2  # the further slot is not for the one that has the others
        long.gate.set()
        await asyncio.gather(*tasks)


async def test_the_memory_of_taps_bounds_a_batch() -> None:
    runner = Runner()
    async with scheduling() as scheduler:
        await occupy(scheduler, runner)
        asking = [Job(f"{index}", taps={"query": 20, "key": 20}) for index in range(4)]
        (task,) = await submitted(scheduler, runner, asking)
        runner.gate.set()
        await task
    assert [len(batch) for batch in runner.batches] == [1, 2, 2]


async def test_closing_answers_what_was_accepted_and_refuses_the_rest() -> None:
    runner = Runner(batch_cost=10)
    scheduler = Scheduler(slots=1, queue_batches=100)
    assert not scheduler.alive
    scheduler.start()
    assert scheduler.alive
    first = await occupy(scheduler, runner)
    (waiting,) = await submitted(scheduler, runner, [Job("a"), Job("b")])
    closing = asyncio.create_task(scheduler.close())
    await until(lambda: "open=False" in repr(scheduler))
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
