"""The one way through the house: decode, schedule, run, keep, answer; the same for HTTP and command line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from numpy.typing import NDArray

from service.answers import prediction, predictions_url, write_map
from service.decode.item import Item
from service.errors import NotFound
from service.maps import AttentionMap, SelectedMap, Selection
from service.predictor import Job, Outcome, Payload, Predictor
from service.registry import Registry
from service.render import Drawing, RenderOptions
from service.scheduler import Done, Scheduler
from service.schemas import Answer, PredictOptions, Timing
from service.sessions import SessionPool
from service.settings import Settings
from service.store import Record, Store, StoredItem

Array = NDArray[Any]
Value = TypeVar("Value")


class Inference:
    """Models, slots and kept predictions of one server. `load` first, then `start` in a running loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.registry = Registry(self._open)
        self.scheduler = Scheduler(slots=settings.concurrent_runs, queue_entries=settings.queue_entries)
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

    async def predict(self, name: str, payloads: Sequence[Payload], options: PredictOptions) -> Answer:
        """Predictions and maps of several inputs, kept under the answer's id; raises a Problem."""
        started = time.perf_counter()
        predictor = self.registry.get(name)
        maps = predictor.check_maps(options.maps)
        target = None if options.target is None else predictor.target(options.target)
        selection = Selection(layers=options.layers, heads=options.heads, target=target)
        items = await self._decode(predictor, payloads)
        decoded = time.perf_counter()
        done = await self.scheduler.submit(predictor, [Job(item=item, maps=maps) for item in items])
        return self._answer(predictor, payloads, items, done, options, selection, (started, decoded))

    def _answer(
        self,
        predictor: Predictor,
        payloads: Sequence[Payload],
        items: Sequence[Item],
        done: Sequence[Done],
        options: PredictOptions,
        selection: Selection,
        times: tuple[float, float],
    ) -> Answer:
        key = Store.new_id()
        outcomes: list[Outcome] = [one.result for one in done]
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
                total_ms=_milliseconds(time.perf_counter() - times[0]),
                decode_ms=_milliseconds(times[1] - times[0]),
                queue_ms=_milliseconds(max(one.queue_seconds for one in done)),
                run_ms=_milliseconds(max(one.run_seconds for one in done)),
                maps_ms=_milliseconds(max(outcome.maps_seconds for outcome in outcomes)),
            ),
        )
        stored = tuple(
            StoredItem(payload=payload, predicted=int(outcome.logits.argmax()), maps=outcome.maps)
            for payload, outcome in zip(payloads, outcomes, strict=True)
        )
        sent = answer.model_dump_json(exclude_none=True).encode()
        self.store.put(key, Record(predictor=predictor, items=stored, answer=sent))
        return answer

    async def select(self, key: str, index: int, name: str, selection: Selection) -> SelectedMap:
        """What a selection leaves of one map of a kept input; raises a Problem."""
        record = self.store.get(key)
        if record.predictor.manifest.map(name) is None:
            have = ", ".join(spec.name for spec in record.predictor.manifest.maps)
            raise NotFound(f"the model has no map {name!r}; it has {have}", field="map")
        item = record.item(index)
        found = item.maps.get(name) or await self._make(key, index, record.predictor, item.payload, name)
        return found.select(selection, predicted=item.predicted)

    async def _make(
        self, key: str, index: int, predictor: Predictor, payload: Payload, name: str
    ) -> AttentionMap:
        """A map that no request asked for yet: the input is run again, through the scheduler."""
        (item,) = await self._decode(predictor, [payload])
        (done,) = await self.scheduler.submit(predictor, [Job(item=item, maps=frozenset([name]))])
        maps: dict[str, AttentionMap] = done.result.maps
        self.store.add_maps(key, index, maps)
        return maps[name]

    async def draw(
        self,
        key: str,
        index: int,
        name: str,
        format: str,
        selection: Selection,
        drawing: RenderOptions,
    ) -> Drawing:
        """One map of a kept input as a file; raises a Problem."""
        record = self.store.get(key)
        selected = await self.select(key, index, name, selection)
        (item,) = await self._decode(record.predictor, [record.item(index).payload])
        importance = None
        if selected.spec.kind == "frame_grid":
            importance = await self._importance(key, index, record.predictor)
        labels = record.predictor.manifest.labels
        return await self._work(write_map, selected, item, labels, format, drawing, importance)

    async def _importance(self, key: str, index: int, predictor: Predictor) -> Array | None:
        """What is drawn beside a clip's map: the frames' importance, where the model has it."""
        for spec in predictor.manifest.maps:
            if spec.kind == "frames":
                return (await self.select(key, index, spec.name, Selection())).values
        return None

    async def _decode(self, predictor: Predictor, payloads: Sequence[Payload]) -> list[Item]:
        return list(await asyncio.gather(*(self._work(predictor.decode, payload) for payload in payloads)))

    async def _work(self, function: Callable[..., Value], *args: Any) -> Value:
        """Run something slow in a decoding thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)


def _milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 3)
