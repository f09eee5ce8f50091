"""Predictions as /v1 gives them: answered, kept, and their maps drawn for those who ask later."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.answers import prediction, predictions_url, write_drawing, write_numbers
from service.bundle import Manifest, MapSpec
from service.errors import Expired, NotFound
from service.inference import Inference, Inferred
from service.job import Payload
from service.maps import AttentionMap, Selection
from service.predictor import Predictor, Unloaded
from service.render import NUMBERS, Drawing, RenderOptions
from service.schemas import Answer, PredictOptions, Timing
from service.store import Record, Store, StoredItem

_Place = tuple[str, int, frozenset[str]]  # a prediction's id, an item of it, and maps


@dataclass(frozen=True, kw_only=True)
class Answered:
    """An answer as JSON, the id under which it is kept, and what it says."""

    key: str
    body: bytes
    inferred: Inferred


class Predictions:
    """Answers requests for predictions and for maps of those that are kept.

    `client` is whose prediction it is, None where nobody has a name: nobody else can read it.
    """

    def __init__(self, inference: Inference) -> None:
        self._inference = inference
        self._store = inference.store
        self._making: dict[_Place, asyncio.Task[Mapping[str, AttentionMap]]] = {}

    async def predict(
        self,
        predictor: Predictor,
        payloads: Sequence[Payload],
        options: PredictOptions,
        *,
        client: str | None = None,
    ) -> Answered:
        """Predictions and maps of several inputs; raises a Problem."""
        started = time.perf_counter()
        maps = predictor.check_maps(options.maps)
        selection = predictor.selection(maps, options)
        async with self._inference.within(options.timeout):
            found = await self._inference.infer(predictor, payloads, maps=maps)
            arguments = (predictor, payloads, found, options, selection, client, started)
            if found.is_short and not maps:
                answered = self._answer(*arguments)
            else:
                answered = await self._inference.in_thread("answer", predictor, self._answer, *arguments)
        self._inference.answered(predictor, found, time.perf_counter() - started)
        return answered

    def kept(self, key: str, *, client: str | None = None) -> Record:
        """A prediction that was answered; raises Expired and NotFound."""
        return self._store.get(key, client=client)

    def _answer(
        self,
        predictor: Predictor,
        payloads: Sequence[Payload],
        found: Inferred,
        options: PredictOptions,
        selection: Selection,
        client: str | None,
        started: float,
    ) -> Answered:
        """Say what was found and keep it. An answer that is larger than the store has no links."""
        key = Store.new_id()
        predictions = [
            prediction(predictor, item, outcome, options, selection, url=f"{predictions_url(key)}/{index}")
            for index, (item, outcome) in enumerate(zip(found.items, found.outcomes, strict=True))
        ]
        timing = Timing(
            total_ms=_milliseconds(time.perf_counter() - started),
            decode_ms=_milliseconds(found.decode_seconds),
            queue_ms=_milliseconds(found.queue_seconds),
            run_ms=_milliseconds(found.run_seconds),
            maps_ms=_milliseconds(found.maps_seconds),
        )
        answer = Answer(
            id=key,
            model=predictor.manifest.name,
            version=predictor.manifest.version,
            predictions=predictions,
            timing=timing,
        )
        stored = tuple(
            StoredItem(
                payload=payload,
                view=item.view,
                predicted=int(outcome.logits.argmax()),
                maps=outcome.maps,
            )
            for payload, item, outcome in zip(payloads, found.items, found.outcomes, strict=True)
        )
        body = answer.model_dump_json(exclude_none=True).encode()
        record = Record(predictor=predictor, items=stored, answer=body, client=client)
        if not self._store.put(key, record):
            for one in predictions:
                for shown in one.maps:
                    shown.links = {}
            body = answer.model_dump_json(exclude_none=True).encode()
        return Answered(key=key, body=body, inferred=found)

    async def draw(
        self,
        key: str,
        index: int,
        name: str,
        format: str,
        selection: Selection,
        drawing: RenderOptions,
        *,
        client: str | None = None,
    ) -> Drawing:
        """One map of a kept input as a file; raises a Problem.

        A map that no request asked for yet is made by running the input again, through the scheduler.
        """
        record = self.kept(key, client=client)
        stored, predictor = record.item(index), record.predictor
        spec = predictor.manifest.map(name)
        if spec is None:
            have = ", ".join(spec.name for spec in predictor.manifest.maps)
            raise NotFound(f"the model has no map {name!r}; it has {have}", field="map")
        beside = (
            frame_map(predictor.manifest) if format not in NUMBERS and spec.kind == "frame_grid" else None
        )
        missing = frozenset({one.name for one in (spec, beside) if one is not None} - set(stored.maps))
        async with self._inference.under_way(predictor), self._inference.within():
            if missing:
                stored = stored.with_maps(await self._make(key, index, predictor, stored.payload, missing))
            started = time.perf_counter()
            drawn = await self._inference.in_thread(
                "drawing", predictor, _draw, predictor, stored, name, format, selection, drawing, beside
            )
        manifest = predictor.manifest
        self._inference.metrics.rendered(manifest.name, manifest.version, time.perf_counter() - started)
        return drawn

    async def _make(
        self, key: str, index: int, predictor: Predictor, payload: Payload, maps: frozenset[str]
    ) -> Mapping[str, AttentionMap]:
        """Further maps of a kept input. Those who ask for the same at one time share one run."""
        place = (key, index, maps)
        making = self._making.get(place)
        if making is None:
            making = asyncio.create_task(self._run_again(predictor, payload, maps))
            self._making[place] = making
            making.add_done_callback(lambda made: self._made(place, made))
        return await asyncio.shield(making)

    def _made(self, place: _Place, making: asyncio.Task[Mapping[str, AttentionMap]]) -> None:
        del self._making[place]
        if not making.cancelled() and making.exception() is None:
            self._store.add_maps(place[0], place[1], making.result())

    async def _run_again(
        self, predictor: Predictor, payload: Payload, maps: frozenset[str]
    ) -> Mapping[str, AttentionMap]:
        """Maps of an input by the model that made its prediction; raises a Problem."""
        try:
            with self._inference.registry.keep(predictor):
                async with self._inference.within():
                    found = await self._inference.infer(predictor, [payload], maps=maps)
        except Unloaded as error:
            raise Expired(f"{error}: only maps that were made before can be fetched", field="map") from error
        return found.outcomes[0].maps


def _draw(
    predictor: Predictor,
    stored: StoredItem,
    name: str,
    format: str,
    selection: Selection,
    drawing: RenderOptions,
    beside: MapSpec | None,
) -> Drawing:
    """A map of a kept input; pictures and clips are decoded again for it."""
    labels = predictor.manifest.labels
    selected = stored.maps[name].select(selection, predicted=stored.predicted)
    if format in NUMBERS:
        return write_numbers(selected, stored.view, labels, format)
    importance = None
    if beside is not None:
        importance = stored.maps[beside.name].select(Selection(), predicted=stored.predicted).values
    item = predictor.decode(stored.payload)
    return write_drawing(selected, item, labels, format, drawing, importance)


def frame_map(manifest: Manifest) -> MapSpec | None:
    """The map that says what each frame of a clip weighs, if the model has one."""
    return next((spec for spec in manifest.maps if spec.kind == "frames"), None)


def _milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 3)
