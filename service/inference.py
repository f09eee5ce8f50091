"""The one way through the house: decode, schedule, run, keep, answer; the same for HTTP and command line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from service.answers import prediction, predictions_url, write_drawing, write_numbers
from service.bundle import Manifest, MapSpec
from service.decode.item import Item
from service.errors import NotFound
from service.job import Job, Payload
from service.maps import Selection
from service.predictor import Predictor
from service.registry import Registry
from service.render import NUMBERS, Drawing, RenderOptions
from service.scheduler import Done, Scheduler
from service.schemas import Answer, PredictOptions, Timing
from service.sessions import SessionPool
from service.settings import Settings
from service.store import Record, Store, StoredItem

Value = TypeVar("Value")


class Inference:
    """Models, slots and kept predictions of one server. `load` first, then `start` in a running loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.registry = Registry(self._open)
        self.scheduler = Scheduler(slots=settings.concurrent_runs, queue_entries=settings.max_requests)
        self.store = Store(max_bytes=settings.store_bytes, seconds=settings.store_seconds)
        self._threads = ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="decode")
        self._pool: SessionPool | None = None

    def load(self) -> None:
        """Open the device and every model of the repository; raises ProviderError and BundleError."""
        settings = self.settings
        self._pool = SessionPool(device=settings.device, gpu_memory_mib=settings.gpu_memory_mib)
        self.registry.load(settings.models)

    def start(self) -> None:
        self.scheduler.start()

    async def close(self) -> None:
        """Answer what was accepted, then stop."""
        await self.scheduler.close()
        self._threads.shutdown()

    @property
    def ready(self) -> bool:
        return self.registry.ready and self.scheduler.alive

    def _open(self, folder: Path) -> Predictor:
        assert self._pool is not None
        return Predictor.load(
            folder,
            self._pool,
            self.settings.limits(),
            batch_tokens=self.settings.batch_tokens,
            batch_pixels=self.settings.batch_pixels,
        )

    async def predict(
        self, name: str, payloads: Sequence[Payload], options: PredictOptions
    ) -> tuple[str, bytes]:
        """Predictions and maps of several inputs: the id under which they are kept, and the answer as JSON.

        Raises a Problem.
        """
        started = time.perf_counter()
        predictor = self.registry.get(name)
        maps = predictor.check_maps(options.maps)
        target = None if options.target is None else predictor.target(options.target)
        selection = Selection(layers=options.layers, heads=options.heads, target=target)
        for spec in predictor.manifest.maps:
            if spec.name in maps:
                selection.check(spec)
        items = await asyncio.gather(*(self._work(_decode, predictor, payload) for payload in payloads))
        decoded = time.perf_counter()
        done = await self.scheduler.submit(predictor, [Job(item=item, maps=maps) for item in items])
        seconds = (started, decoded)
        return await self._work(self._answer, predictor, payloads, items, done, options, selection, seconds)

    def _answer(
        self,
        predictor: Predictor,
        payloads: Sequence[Payload],
        items: Sequence[Item],
        done: Sequence[Done],
        options: PredictOptions,
        selection: Selection,
        seconds: tuple[float, float],
    ) -> tuple[str, bytes]:
        """Say what was found and keep it. An answer that is larger than the store has no links."""
        key, outcomes = Store.new_id(), [one.result for one in done]
        answer = Answer(
            id=key,
            model=predictor.manifest.name,
            version=predictor.manifest.version,
            predictions=[
                prediction(
                    predictor, item, outcome, options, selection, url=f"{predictions_url(key)}/{index}"
                )
                for index, (item, outcome) in enumerate(zip(items, outcomes, strict=True))
            ],
            timing=Timing(
                total_ms=_milliseconds(time.perf_counter() - seconds[0]),
                decode_ms=_milliseconds(seconds[1] - seconds[0]),
                queue_ms=_milliseconds(max(one.queue_seconds for one in done)),
                run_ms=_milliseconds(max(one.run_seconds for one in done)),
                maps_ms=_milliseconds(max(outcome.maps_seconds for outcome in outcomes)),
            ),
        )
        stored = tuple(
            StoredItem(
                payload=payload,
                view=item.view,
                predicted=int(outcome.logits.argmax()),
                maps=outcome.maps,
            )
            for payload, item, outcome in zip(payloads, items, outcomes, strict=True)
        )
        sent = answer.model_dump_json(exclude_none=True).encode()
        if not self.store.put(key, Record(predictor=predictor, items=stored, answer=sent)):
            for one in answer.predictions:
                for found in one.maps:
                    found.links = {}
            sent = answer.model_dump_json(exclude_none=True).encode()
        return key, sent

    async def draw(
        self,
        key: str,
        index: int,
        name: str,
        format: str,
        selection: Selection,
        drawing: RenderOptions,
    ) -> Drawing:
        """One map of a kept input as a file; raises a Problem.

        A map that no request asked for yet is made by running the input again, through the scheduler.
        """
        record = self.store.get(key)
        stored, predictor = record.item(index), record.predictor
        spec = predictor.manifest.map(name)
        if spec is None:
            have = ", ".join(spec.name for spec in predictor.manifest.maps)
            raise NotFound(f"the model has no map {name!r}; it has {have}", field="map")
        pictured = format not in NUMBERS
        beside = frame_map(predictor.manifest) if pictured and spec.kind == "frame_grid" else None
        missing = {one.name for one in (spec, beside) if one is not None} - set(stored.maps)
        item = await self._work(predictor.decode, stored.payload) if missing or pictured else None
        if missing:
            assert item is not None
            job = Job(item=item.without_original(), maps=frozenset(missing))
            (done,) = await self.scheduler.submit(predictor, [job])
            self.store.add_maps(key, index, done.result.maps)
            stored = stored.with_maps(done.result.maps)
        selected = stored.maps[name].select(selection, predicted=stored.predicted)
        if item is None or not pictured:
            return await self._work(write_numbers, selected, stored.view, predictor.manifest.labels, format)
        importance = None
        if beside is not None:
            shown = stored.maps[beside.name].select(Selection(), predicted=stored.predicted)
            importance = shown.values
        return await self._work(
            write_drawing, selected, item, predictor.manifest.labels, format, drawing, importance
        )

    async def _work(self, function: Callable[..., Value], *args: Any) -> Value:
        """Run something slow in a decoding thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)


def _decode(predictor: Predictor, payload: Payload) -> Item:
    """An input for a run: of a picture or clip, what is drawn on is decoded again when it is drawn on."""
    return predictor.decode(payload).without_original()


def frame_map(manifest: Manifest) -> MapSpec | None:
    """The map that says what each frame of a clip weighs, if the model has one."""
    return next((spec for spec in manifest.maps if spec.kind == "frames"), None)


def _milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 3)
