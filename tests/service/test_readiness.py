"""Readiness runs through every session, costs nothing when it is asked often, and says what is wrong."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from service.batch import BatchLimits
from service.bundle import BundleError
from service.readiness import KEPT_SECONDS, Readiness
from service.registry import Registry
from service.scheduler import Scheduler

DEADLINE = 20


class Job:
    cost = 1
    taps: dict[str, int] = {}  # noqa: RUF012


class Model:
    """Stands for a predictor; its runs wait at a gate, or fail."""

    limits = BatchLimits(cost=1, tap_bytes=1)

    def __init__(self, folder: Path) -> None:
        self.manifest = SimpleNamespace(name=folder.parent.name, version=folder.name)
        self.smallest = Job()
        self.gate = threading.Event()
        self.gate.set()
        self.fault: BaseException | None = None
        self.runs: list[list[Job]] = []

    def warm_up(self) -> None:
        if self.manifest.name == "broken":
            raise BundleError("broken")

    def close(self) -> None:
        pass

    def run(self, jobs: list[Job]) -> list[None]:
        self.runs.append(list(jobs))
        assert self.gate.wait(DEADLINE)
        if self.fault is not None:
            raise self.fault
        return [None] * len(jobs)


class Server:
    """A registry and a scheduler with fakes, and a clock that stands still."""

    def __init__(self, root: Path, *places: str) -> None:
        for place in places:
            (root / place).mkdir(parents=True)
            (root / place / "manifest.json").touch()
        self.registry = Registry(root, cast("Any", Model))
        self.registry.open()
        self.scheduler = Scheduler(slots=1, queue_batches=100)
        self.now = 0.0
        self.readiness = Readiness(scheduler=self.scheduler, registry=self.registry, clock=lambda: self.now)

    def model(self, name: str, version: str | None = None) -> Model:
        return cast("Model", self.registry.get(name, version))

    def run(self, work: Callable[[], Awaitable[None]]) -> None:
        async def whole() -> None:
            async with asyncio.timeout(DEADLINE):
                self.scheduler.start()
                await work()
                await self.scheduler.close()
                await self.registry.close()

        asyncio.run(whole())


@pytest.fixture
def serve(tmp_path: Path) -> Callable[..., Server]:
    return lambda *places: Server(tmp_path / "models", *places)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not true():
            await asyncio.sleep(0.001)


def test_every_version_that_is_served_runs_its_smallest_input(serve: Any) -> None:
    server = serve("a/1", "a/2", "b/1")

    async def work() -> None:
        assert await server.readiness.check() is None
        for model in (server.model("a", "1"), server.model("a", "2"), server.model("b")):
            assert model.runs == [[model.smallest]]

    server.run(work)


def test_an_answer_holds_for_a_while(serve: Any) -> None:
    server = serve("a/1")

    async def work() -> None:
        for _ in range(100):
            assert await server.readiness.check() is None
        assert len(server.model("a").runs) == 1
        server.model("a").fault = RuntimeError("cannot run /srv/models/a/1")
        assert await server.readiness.check() is None
        server.now += KEPT_SECONDS
        for _ in range(100):
            assert await server.readiness.check() == "a/1 fails (RuntimeError)"
        assert len(server.model("a").runs) == 2

    server.run(work)


def test_those_who_ask_at_the_same_time_share_one_probe(serve: Any) -> None:
    server = serve("a/1")

    async def work() -> None:
        model = server.model("a")
        model.gate.clear()
        checks = [asyncio.create_task(server.readiness.check()) for _ in range(20)]
        await until(lambda: bool(model.runs))
        checks[0].cancel()  # one who leaves takes nothing from the others
        model.gate.set()
        assert await asyncio.gather(*checks[1:]) == [None] * 19
        assert len(model.runs) == 1

    server.run(work)


def test_a_model_that_hangs_is_named_within_the_time_limit(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.readiness.PROBE_SECONDS", 0.05)
    server = serve("a/1", "b/1")

    async def work() -> None:
        server.model("b").gate.clear()
        assert await server.readiness.check() == "b/1 does not answer within 0.05 s"
        server.model("b").gate.set()
        server.now += KEPT_SECONDS
        assert await server.readiness.check() is None

    server.run(work)


def test_each_model_that_fails_is_named_without_a_librarys_words(serve: Any) -> None:
    server = serve("a/1", "b/1", "c/1")

    async def work() -> None:
        for name in ("a", "c"):
            server.model(name).fault = RuntimeError("cannot run /srv/models")
        assert await server.readiness.check() == "a/1 fails (RuntimeError); c/1 fails (RuntimeError)"

    server.run(work)


def test_a_long_queue_does_not_keep_a_probe_waiting(serve: Any) -> None:
    server = serve("a/1")

    async def work() -> None:
        model = server.model("a")
        model.gate.clear()
        requests = [
            asyncio.create_task(server.scheduler.submit(cast("Any", model), [Job()])) for _ in range(50)
        ]
        await until(lambda: len(model.runs) == 1)
        check = asyncio.create_task(server.readiness.check())
        await until(lambda: [model.smallest] in model.runs)
        assert len(model.runs) <= 3
        model.gate.set()
        assert await check is None
        await asyncio.gather(*requests)

    server.run(work)


def test_a_model_that_was_refused_makes_the_server_unready(serve: Any) -> None:
    server = serve("a/1", "broken/1")

    async def work() -> None:
        assert await server.readiness.check() == "no version can be loaded of broken"
        await server.registry.unload("broken")
        assert await server.readiness.check() is None
        await server.registry.unload("a")
        assert await server.readiness.check() == "no model is served"

    server.run(work)


def test_a_server_that_ends_is_not_ready_whatever_was_found_before(serve: Any) -> None:
    server = serve("a/1")

    async def work() -> None:
        assert await server.readiness.check() is None
        await server.scheduler.close()
        assert await server.readiness.check() == "no requests are taken"

    server.run(work)


def test_a_model_that_goes_while_it_is_probed_is_no_fault(serve: Any) -> None:
    server = serve("a/1", "b/1")

    async def work() -> None:
        model = server.model("a")
        model.gate.clear()
        check = asyncio.create_task(server.readiness.check())
        await until(lambda: bool(model.runs))
        await server.registry.unload("a")
        model.gate.set()
        assert await check is None

    server.run(work)
