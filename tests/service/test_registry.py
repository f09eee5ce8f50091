"""Models come and go: nothing that is served breaks, and nothing that has gone stays in memory."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from service.bundle import BundleError
from service.errors import InvalidInput, NotFound, Overloaded
from service.predictor import Unloaded
from service.registry import Registry
from service.sessions import OutOfMemory

DEADLINE = 20


class Model:
    """Stands for a predictor: its folder's name and version, and what its file says."""

    def __init__(self, folder: Path, **manifest: Any) -> None:
        named = {"name": folder.parent.name, "version": folder.name, **manifest}
        self.manifest = type("Manifest", (), named)
        self.says = (folder / "model.onnx").read_text()
        self.warm = False
        self.closed = False

    def warm_up(self) -> None:
        self.warm = True

    def close(self) -> None:
        self.closed = True


class Bench:
    """A repository, the models that were made of it, and how the next ones are to fail."""

    def __init__(self, root: Path, *places: str) -> None:
        self.root = root
        self.models: list[Model] = []
        self.threads: set[str] = set()
        self.faults: dict[str, Exception] = {}
        self.gate = threading.Event()
        self.gate.set()
        self.at_gate = threading.Semaphore(0)
        for place in places:
            self.write(place)
        self.registry = Registry(root, cast("Any", self.load))

    @property
    def ready(self) -> bool:
        """Whether something is served and nothing missed."""
        return bool(self.registry.all()) and not self.registry.refused

    def write(self, place: str, says: str = "first") -> Path:
        """A folder that looks like a bundle from outside."""
        folder = self.root / place
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.onnx").write_text(says)
        (folder / "manifest.json").touch()
        return folder

    def remove(self, place: str) -> None:
        shutil.rmtree(self.root / place)

    def load(self, folder: Path) -> Model:
        self.threads.add(threading.current_thread().name)
        if not self.gate.is_set():
            self.at_gate.release()
            assert self.gate.wait(DEADLINE)
        place = f"{folder.parent.name}/{folder.name}"
        if place in self.faults:
            raise self.faults[place]
        model = Model(folder)
        if model.says == "broken":
            raise BundleError(f"{folder.name}: model.onnx is missing")
        self.models.append(model)
        return model

    @property
    def served(self) -> list[str]:
        """The latest of each model, with what it says."""
        models = [cast("Model", one) for one in self.registry.all()]
        return [f"{one.manifest.name}/{one.manifest.version} {one.says}" for one in models]

    @property
    def states(self) -> dict[str, str]:
        return {f"{one.name}/{one.version}": one.state for one in self.registry.entries()}

    def reason(self, place: str) -> str | None:
        (entry,) = [one for one in self.registry.entries() if f"{one.name}/{one.version}" == place]
        return entry.reason

    def get(self, name: str, version: str | None = None) -> Model:
        return cast("Model", self.registry.get(name, version))


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., Bench]:
    return lambda *places: Bench(tmp_path / "models", *places)


def run(bench: Bench, work: Callable[[], Awaitable[None]]) -> None:
    """Open the registry, do something on an event loop, close it."""
    bench.registry.open()

    async def whole() -> None:
        async with asyncio.timeout(DEADLINE):
            await work()
            await bench.registry.close()

    asyncio.run(whole())


async def until(true: Callable[[], bool]) -> None:
    """Give the loop and the loader's thread turns until something is so."""
    async with asyncio.timeout(DEADLINE):
        while not true():
            await asyncio.sleep(0.001)


@asynccontextmanager
async def watching(registry: Registry) -> AsyncIterator[None]:
    watch = asyncio.create_task(registry.watch(0.002))
    yield
    watch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watch


class Looks:
    """Lets a watch look when it is told to, and no sooner."""

    def __init__(self, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
        self._turn, self._begun = asyncio.Semaphore(0), asyncio.Semaphore(0)
        self._sleep = asyncio.sleep
        monkeypatch.setattr("service.registry.asyncio.sleep", self._wait)
        self.task = asyncio.create_task(registry.watch(5))

    async def _wait(self, seconds: float) -> None:
        if seconds != 5:
            return await self._sleep(seconds)
        self._begun.release()
        await self._turn.acquire()

    async def once(self) -> None:
        """One whole look, with what comes of it."""
        await self._begun.acquire()
        self._turn.release()
        await self._begun.acquire()
        self._begun.release()

    def stop(self) -> None:
        self.task.cancel()


# Opening


def test_all_versions_are_served_side_by_side_and_the_highest_by_default(bench: Any) -> None:
    made = bench("a/1", "a/2", "a/10", "b/9")
    made.registry.open()
    assert made.served == ["a/10 first", "b/9 first"]
    assert [made.get("a", version).manifest.version for version in ("1", "2", "10")] == ["1", "2", "10"]
    assert all(model.warm for model in made.models)
    assert made.ready
    assert all(entry.load_seconds is not None for entry in made.registry.entries())


def test_a_repository_without_a_model_is_an_error(bench: Any, tmp_path: Path) -> None:
    (tmp_path / "models" / "a" / "1").mkdir(parents=True)
    with pytest.raises(BundleError, match="holds no model"):
        bench().registry.open()
    with pytest.raises(BundleError, match="holds no model"):
        Registry(tmp_path / "missing", cast("Any", Model)).open()


def test_a_broken_bundle_is_refused_and_the_others_serve(bench: Any) -> None:
    made = bench("a/1", "b/1", "c/1")
    made.write("b/1", "broken")
    made.registry.open()
    assert made.served == ["a/1 first", "c/1 first"]
    assert made.states == {"a/1": "ready", "b/1": "refused", "c/1": "ready"}
    assert made.reason("b/1") == "1: model.onnx is missing"
    assert not made.ready
    with pytest.raises(NotFound, match=r"b is not served: version 1 is refused: 1: model\.onnx is missing"):
        made.get("b")


def test_a_broken_version_beside_one_that_serves_leaves_the_server_ready(bench: Any) -> None:
    made = bench("a/1")
    made.write("a/2", "broken")
    made.registry.open()
    assert made.served == ["a/1 first"]
    assert made.ready
    with pytest.raises(NotFound, match="version 2 is refused"):
        made.get("a", "2")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("cannot parse /srv/models/a/1"), "(RuntimeError); the server's log says why"),
        (ValueError("/srv/models"), "(ValueError)"),
        (OutOfMemory("memory does not suffice"), "memory does not suffice"),
    ],
)
def test_a_librarys_words_go_to_the_log_alone(
    bench: Any, caplog: pytest.LogCaptureFixture, error: Exception, said: str
) -> None:
    made = bench("a/1")
    made.faults["a/1"] = error
    with caplog.at_level(logging.ERROR):
        made.registry.open()
    assert said in made.reason("a/1")
    assert "/srv" not in made.reason("a/1")
    assert str(error) in caplog.text


@pytest.mark.parametrize("manifest", [{"name": "b"}, {"version": "2"}])
def test_a_bundle_in_another_ones_place_is_refused_and_closed(
    tmp_path: Path, manifest: dict[str, str]
) -> None:
    made: list[Model] = []

    def load(folder: Path) -> Any:
        made.append(Model(folder, **manifest))
        return made[0]

    Bench(tmp_path, "a/1")
    registry = Registry(tmp_path, load)
    registry.open()
    assert registry.all() == []
    assert str(registry.entries()[0].reason).startswith("the manifest says ")
    assert made[0].closed


def test_a_model_that_fails_when_it_is_warmed_up_is_refused_and_closed(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def contradict(model: Model) -> None:
        raise BundleError("the graph gives 4 logits for 3 labels")

    monkeypatch.setattr(Model, "warm_up", contradict)
    made = bench("a/1")
    made.registry.open()
    assert made.states == {"a/1": "refused"}
    assert made.models[0].closed


@pytest.mark.parametrize(
    ("name", "version", "said", "field"),
    [
        ("c", None, "no model 'c'; served: a, b", "model"),
        ("c", "1", "no model 'c'; served: a, b", "model"),
        ("a", "7", "model a has no version '7'; it has 1, 2", "version"),
        ("a", "", "model a has no version ''", "version"),
        ("../a", None, "no model '../a'", "model"),
    ],
)
def test_what_is_unknown_is_named_beside_what_there_is(
    bench: Any, name: str, version: str | None, said: str, field: str
) -> None:
    made = bench("a/1", "a/2", "b/1")
    made.registry.open()
    with pytest.raises(NotFound) as caught:
        made.get(name, version)
    assert said in caught.value.detail
    assert caught.value.field == field


# Looking again


def test_new_versions_are_loaded_in_the_loaders_thread(bench: Any) -> None:
    made = bench("a/1")

    async def work() -> None:
        made.threads.clear()
        made.write("a/2", "second")
        made.write("b/1")
        await made.registry.refresh()
        assert made.served == ["a/2 second", "b/1 first"]
        assert made.get("a", "1").says == "first"
        assert {name.rpartition("-")[0] for name in made.threads} == {"loader"}

    run(made, work)


def test_a_broken_model_that_comes_later_leaves_the_server_ready(bench: Any) -> None:
    made = bench("a/1")

    async def work() -> None:
        made.write("b/1", "broken")
        await made.registry.refresh()
        assert made.states == {"a/1": "ready", "b/1": "refused"}
        assert made.ready

    run(made, work)


def test_a_folder_that_has_not_changed_is_not_loaded_again(bench: Any) -> None:
    made = bench("a/1", "b/1")
    made.faults["b/1"] = BundleError("broken")

    async def work() -> None:
        made.faults.clear()  # a refused folder is tried again only when it has changed
        for _ in range(3):
            await made.registry.refresh()
        assert len(made.models) == 1
        assert made.states == {"a/1": "ready", "b/1": "refused"}
        made.write("b/1", "mended")
        await made.registry.refresh()
        assert made.states == {"a/1": "ready", "b/1": "ready"}

    run(made, work)


def test_a_replaced_folder_is_swapped_and_the_old_model_closed(bench: Any) -> None:
    made = bench("a/1")

    async def work() -> None:
        old = made.get("a")
        made.write("a/1", "second")
        await made.registry.refresh()
        assert made.served == ["a/1 second"]
        await until(lambda: old.closed)
        assert not made.get("a").closed
        assert made.states == {"a/1": "ready"}

    run(made, work)


def test_a_broken_replacement_leaves_the_old_content_serving(bench: Any) -> None:
    made = bench("a/1")

    async def work() -> None:
        made.write("a/1", "broken")
        await made.registry.refresh()
        assert made.served == ["a/1 first"]
        assert made.states == {"a/1": "ready"}
        assert made.reason("a/1") == "what the folder holds now is refused: 1: model.onnx is missing"
        assert not made.get("a").closed
        assert made.ready
        made.write("a/1", "third")
        await made.registry.refresh()
        assert made.served == ["a/1 third"]
        assert made.reason("a/1") is None

    run(made, work)


def test_a_model_stays_in_service_while_its_successor_is_loaded(bench: Any) -> None:
    made = bench("a/1")

    async def work() -> None:
        made.write("a/1", "second")
        made.write("b/1")
        made.gate.clear()
        refresh = asyncio.create_task(made.registry.refresh())
        await until(lambda: made.at_gate.acquire(blocking=False))
        assert made.served == ["a/1 first"]
        assert made.states == {"a/1": "ready"}
        made.gate.set()
        await refresh
        assert made.served == ["a/1 second", "b/1 first"]

    run(made, work)


def test_a_version_that_goes_serves_until_the_one_that_comes_is_loaded(bench: Any) -> None:
    made = bench("a/1")

    async def work() -> None:
        made.remove("a/1")
        made.write("a/2", "second")
        made.gate.clear()
        refresh = asyncio.create_task(made.registry.refresh())
        await until(lambda: made.at_gate.acquire(blocking=False))
        assert made.served == ["a/1 first"]
        made.gate.set()
        await refresh
        assert made.served == ["a/2 second"]

    run(made, work)


def test_what_is_being_loaded_for_the_first_time_is_said_to_be(bench: Any) -> None:
    made = bench("a/1")

    async def work() -> None:
        made.write("b/1")
        made.gate.clear()
        refresh = asyncio.create_task(made.registry.refresh())
        await until(lambda: made.at_gate.acquire(blocking=False))
        assert made.states == {"a/1": "ready", "b/1": "loading"}
        with pytest.raises(NotFound, match="version 1 is loading"):
            made.get("b")
        assert made.ready  # a model that joins takes nothing out of service
        made.gate.set()
        await refresh

    run(made, work)


def test_a_removed_folder_is_unloaded_and_forgotten(bench: Any) -> None:
    made = bench("a/1", "a/2", "b/1")

    async def work() -> None:
        two, b = made.get("a"), made.get("b")
        made.remove("a/2")
        made.remove("b")
        await made.registry.refresh()
        assert made.served == ["a/1 first"]
        await until(lambda: two.closed and b.closed)
        await until(lambda: made.states == {"a/1": "ready"})
        assert made.ready
        with pytest.raises(NotFound, match="no model 'b'"):
            made.get("b")

    run(made, work)


def test_a_refused_folder_that_is_removed_is_forgotten(bench: Any) -> None:
    made = bench("a/1")
    made.write("b/1", "broken")

    async def work() -> None:
        assert not made.ready
        made.remove("b")
        await made.registry.refresh()
        assert made.states == {"a/1": "ready"}
        assert made.ready

    run(made, work)


def test_a_folder_that_changes_while_it_is_read_is_not_served(bench: Any) -> None:
    made = bench("a/1")

    async def work() -> None:
        made.write("a/2", "half")
        made.gate.clear()
        refresh = asyncio.create_task(made.registry.refresh())
        await until(lambda: made.at_gate.acquire(blocking=False))
        (made.root / "a" / "2" / "more").touch()
        made.gate.set()
        await refresh
        assert made.served == ["a/1 first"]
        assert made.reason("a/2") == "the folder changed while it was read"
        await made.registry.refresh()
        assert made.served == ["a/2 half"]

    run(made, work)


# Watching


def test_a_folder_that_is_still_being_copied_is_left_alone(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bench("a/1")

    async def work() -> None:
        looks = Looks(made.registry, monkeypatch)
        for size in range(1, 5):
            made.write("a/2", "x" * size)
            await looks.once()
            assert made.states == {"a/1": "ready"}
        await looks.once()
        assert made.served == ["a/2 xxxx"]
        assert len(made.models) == 2
        looks.stop()

    run(made, work)


def test_a_serving_version_that_is_copied_over_serves_until_the_copy_is_whole(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bench("a/1")

    async def work() -> None:
        looks = Looks(made.registry, monkeypatch)
        made.remove("a/1")
        await looks.once()
        made.write("a/1", "sec")
        await looks.once()
        made.write("a/1", "second")
        await looks.once()
        assert made.served == ["a/1 first"]
        await looks.once()
        assert made.served == ["a/1 second"]
        looks.stop()

    run(made, work)


def test_a_folder_that_stays_away_is_unloaded_at_the_second_look(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bench("a/1", "b/1")

    async def work() -> None:
        looks = Looks(made.registry, monkeypatch)
        made.remove("b")
        await looks.once()
        assert made.served == ["a/1 first", "b/1 first"]
        await looks.once()
        assert made.served == ["a/1 first"]
        looks.stop()

    run(made, work)


def test_a_refused_folder_is_tried_again_only_when_it_has_changed(
    bench: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = bench("a/1")

    async def work() -> None:
        looks = Looks(made.registry, monkeypatch)
        made.write("a/2", "broken")
        for _ in range(6):
            await looks.once()
        assert caplog.text.count("refused a/2") == 1
        made.write("a/2", "mended")
        for _ in range(2):
            await looks.once()
        assert made.served == ["a/2 mended"]
        looks.stop()

    run(made, work)


def test_a_repository_that_cannot_be_read_changes_nothing(
    bench: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = bench("a/1")

    async def work() -> None:
        looks = Looks(made.registry, monkeypatch)
        made.root.rename(made.root.with_name("away"))
        for _ in range(3):
            await looks.once()
        assert made.served == ["a/1 first"]
        assert "was not looked through" in caplog.text
        made.root.with_name("away").rename(made.root)
        made.write("a/2")
        for _ in range(2):
            await looks.once()
        assert made.served == ["a/2 first"]
        looks.stop()

    run(made, work)


# On demand


def test_a_model_is_unloaded_and_loaded_on_demand(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = bench("a/1", "a/2", "b/1")
    made.write("a/3", "broken")

    async def work() -> None:
        old = [made.get("a", "1"), made.get("a", "2")]
        looks = Looks(made.registry, monkeypatch)
        await made.registry.unload("a")
        assert made.served == ["b/1 first"]
        await until(lambda: all(model.closed for model in old))
        gone = {"a/1": "unloaded", "a/2": "unloaded", "a/3": "unloaded", "b/1": "ready"}
        await until(lambda: made.states == gone)
        assert made.ready  # it is not missed
        made.write("a/4")
        for _ in range(3):
            await looks.once()
        await made.registry.refresh()
        assert made.served == ["b/1 first"]
        await made.registry.unload("a")  # again: nothing
        await made.registry.load("a")
        assert made.served == ["a/4 first", "b/1 first"]
        assert made.states["a/3"] == "refused"
        made.write("a/5")
        await made.registry.refresh()  # it is followed again
        assert made.served == ["a/5 first", "b/1 first"]
        looks.stop()

    run(made, work)


def test_when_the_only_model_is_unloaded_the_server_is_not_ready(bench: Any) -> None:
    made = bench("a/1")

    async def work() -> None:
        await made.registry.unload("a")
        assert not made.ready

    run(made, work)


def test_an_unloaded_model_whose_folder_goes_is_forgotten(bench: Any) -> None:
    made = bench("a/1", "b/1")

    async def work() -> None:
        await made.registry.unload("b")
        await until(lambda: made.states["b/1"] == "unloaded")
        made.remove("b")
        await made.registry.refresh()
        assert made.states == {"a/1": "ready"}

    run(made, work)


@pytest.mark.parametrize("name", ["c", "", "..", "../models/a", "a/1", ".hidden", "\0", "x" * 5000])
def test_a_model_that_is_not_there_cannot_be_loaded_or_unloaded(bench: Any, name: str) -> None:
    made = bench("a/1", ".hidden/1")

    async def work() -> None:
        for change in (made.registry.load, made.registry.unload):
            with pytest.raises(NotFound) as caught:
                await change(name)
            assert caught.value.field == "model"
        assert made.served == ["a/1 first"]

    run(made, work)


def test_loading_on_demand_tries_a_refused_version_again(bench: Any) -> None:
    made = bench("a/1")
    made.faults["a/1"] = OutOfMemory("memory does not suffice")

    async def work() -> None:
        with pytest.raises(InvalidInput, match="a cannot be loaded: version 1: memory does not suffice"):
            await made.registry.load("a")
        made.faults.clear()
        await made.registry.load("a")
        assert made.served == ["a/1 first"]

    run(made, work)


def test_loading_what_is_broken_says_why_and_leaves_the_old_serving(bench: Any) -> None:
    made = bench("a/1", "b/1")

    async def work() -> None:
        made.write("a/1", "broken")
        for _ in range(2):
            with pytest.raises(InvalidInput) as caught:
                await made.registry.load("a")
            assert "version 1: what the folder holds now is refused: 1: model.onnx" in caught.value.detail
            assert str(made.root) not in caught.value.detail
            assert made.served == ["a/1 first", "b/1 first"]

    run(made, work)


def test_loading_follows_the_folder_of_this_model_alone(bench: Any) -> None:
    made = bench("a/1", "a/2", "b/1")

    async def work() -> None:
        same = made.get("a", "1")
        made.remove("a/2")
        made.write("a/3", "third")
        made.write("b/2")
        await made.registry.load("a")
        assert made.served == ["a/3 third", "b/1 first"]
        assert made.get("a", "1") is same  # what has not changed is not loaded again
        with pytest.raises(NotFound):
            made.get("a", "2")

    run(made, work)


def test_changes_asked_for_at_once_end_as_the_last_one_says(bench: Any) -> None:
    made = bench("a/1", "b/1")

    async def work() -> None:
        registry = made.registry
        changes = [registry.unload("a"), registry.load("a"), registry.refresh(), registry.load("b")]
        await asyncio.gather(*changes, *(registry.load("a") for _ in range(5)))
        assert made.served == ["a/1 first", "b/1 first"]
        await until(lambda: sum(not model.closed for model in made.models) == 2)

    run(made, work)


@pytest.mark.parametrize("change", ["load", "refresh"])
def test_a_model_that_is_unloaded_while_it_is_being_loaded_stays_away(bench: Any, change: str) -> None:
    made = bench("a/1", "b/1")

    async def work() -> None:
        made.write("a/2", "second")
        made.gate.clear()
        loads = made.registry.load("a") if change == "load" else made.registry.refresh()
        load = asyncio.create_task(loads)
        await until(lambda: made.at_gate.acquire(blocking=False))
        unload = asyncio.create_task(made.registry.unload("a"))
        await asyncio.sleep(0)
        made.gate.set()
        await asyncio.gather(load, unload)
        assert made.served == ["b/1 first"]
        await until(lambda: sum(not model.closed for model in made.models) == 1)

    run(made, work)


def test_a_load_that_nobody_waits_for_any_more_is_brought_to_its_end(bench: Any) -> None:
    made = bench("a/1")

    async def work() -> None:
        made.write("b/1")
        made.gate.clear()
        load = asyncio.create_task(made.registry.load("b"))
        await until(lambda: made.at_gate.acquire(blocking=False))
        load.cancel()
        made.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await load
        await until(lambda: made.states == {"a/1": "ready", "b/1": "ready"})

    run(made, work)


# Leases


def test_a_leased_model_is_closed_when_the_last_lease_ends(bench: Any) -> None:
    made = bench("a/1")

    async def work() -> None:
        with made.registry.lease("a") as old:
            with made.registry.lease("a", "1") as same:
                assert same is old
                await made.registry.unload("a")
                assert made.states == {"a/1": "draining"}
            with made.registry.keep(old):  # who holds it already may hold it twice
                pass
            await made.registry.refresh()
            assert not old.closed
            with pytest.raises(NotFound, match="draining"):
                made.get("a")
        await until(lambda: old.closed)
        await until(lambda: made.states == {"a/1": "unloaded"})
        with pytest.raises(Unloaded, match="a/1 was unloaded"), made.registry.keep(old):
            pass

    run(made, work)


def test_a_model_that_drains_does_not_hold_up_the_others(bench: Any) -> None:
    made = bench("a/1")

    async def work() -> None:
        with made.registry.lease("a") as old:
            made.write("a/1", "second")
            await made.registry.refresh()
            made.write("b/1")
            await made.registry.refresh()
            await made.registry.unload("b")
            await made.registry.load("b")
            assert made.served == ["a/1 second", "b/1 first"]
            assert not old.closed
        await until(lambda: old.closed)
        assert made.served == ["a/1 second", "b/1 first"]

    run(made, work)


def test_a_folder_that_comes_back_while_its_model_drains_is_served_again(bench: Any) -> None:
    made = bench("a/1", "b/1")

    async def work() -> None:
        with made.registry.lease("a") as old:
            made.remove("a")
            await made.registry.refresh()
            assert made.states == {"a/1": "draining", "b/1": "ready"}
            made.write("a/1", "again")
            await made.registry.refresh()
            assert made.served == ["a/1 again", "b/1 first"]
        await until(lambda: old.closed)
        assert made.states == {"a/1": "ready", "b/1": "ready"}

    run(made, work)


def test_a_lease_ends_when_its_request_fails(bench: Any) -> None:
    made = bench("a/1")

    async def work() -> None:
        with pytest.raises(ZeroDivisionError), made.registry.lease("a"):
            raise ZeroDivisionError
        assert repr(made.registry) == "<Registry a/1=ready leases=0>"

    run(made, work)


def test_no_request_fails_in_fifty_swaps(bench: Any) -> None:
    """Requests that take turns of the loop, swaps between any two of them: each sees an open model."""
    made = bench("a/1")

    async def work() -> None:
        done = False
        seen: set[str] = set()

        async def request(turns: int) -> int:
            answered = 0
            while not done:
                with made.registry.lease("a") as predictor:
                    model = cast("Model", predictor)
                    for _ in range(turns):
                        assert not model.closed
                        await asyncio.sleep(0)
                    seen.add(model.says)
                answered += 1
            return answered

        requests = [asyncio.create_task(request(turns)) for turns in range(1, 9)]
        for swap in range(50):
            if swap % 10 == 9:
                made.write("a/1", "broken")
                await made.registry.refresh()
            made.write("a/1", f"swap {swap}")
            await made.registry.refresh()
        done = True
        assert min(await asyncio.gather(*requests)) > 0
        assert "swap 49" in seen or made.served == ["a/1 swap 49"]
        await until(lambda: sum(not model.closed for model in made.models) == 1)
        assert len(seen) > 25

    run(made, work)


def test_readers_in_other_threads_always_see_a_model(bench: Any) -> None:
    made = bench("a/1", "a/2")

    async def work() -> None:
        done = threading.Event()

        def read() -> int:
            reads = 0
            while not done.is_set():
                assert made.get("a").manifest.version in ("1", "2")
                assert len(made.registry.entries()) == 2
                assert made.ready
                reads += 1
            return reads

        with ThreadPoolExecutor(2) as threads:
            readers = [threads.submit(read) for _ in range(2)]
            for swap in range(30):
                made.write("a/2", f"swap {swap}")
                await made.registry.refresh()
            done.set()
            assert all(reader.result(DEADLINE) > 0 for reader in readers)

    run(made, work)


# The end


def test_closing_closes_every_model(bench: Any) -> None:
    made = bench("a/1", "b/1")
    before = threading.enumerate()

    async def work() -> None:
        await made.registry.close()
        assert all(model.closed for model in made.models)
        assert set(threading.enumerate()) <= set(before)

    run(made, work)


def test_closing_waits_for_no_load(bench: Any) -> None:
    made = bench("a/1")

    async def work() -> None:
        made.write("c/1")
        made.write("d/1")
        made.gate.clear()
        refresh = asyncio.create_task(made.registry.refresh())
        await until(lambda: made.at_gate.acquire(blocking=False))
        await made.registry.close()
        with pytest.raises(Overloaded, match="shutting down"):
            await refresh
        made.gate.set()
        assert [model.manifest.name for model in made.models][:1] == ["a"]

    run(made, work)


def test_a_model_held_beyond_the_end_is_left_as_it_is(bench: Any) -> None:
    made = bench("a/1")

    async def work() -> None:
        with made.registry.lease("a") as held:
            await made.registry.close()
            assert not held.closed
        assert not held.closed

    run(made, work)


def test_watching_follows_by_the_clock(bench: Any) -> None:
    made = bench("a/1")

    async def work() -> None:
        async with watching(made.registry):
            staged = made.write("../staged", "second")
            (made.root / "a" / "1").rename(made.root.with_name("old"))
            os.rename(staged, made.root / "a" / "1")
            await until(lambda: made.served == ["a/1 second"])

    run(made, work)
