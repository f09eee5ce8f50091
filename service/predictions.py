"""Predictions as /v1 gives them: answered, kept, and their maps drawn for those who ask later."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from service.answers import prediction, predictions_url, write_drawing, write_numbers
from service.bundle import Manifest, MapSpec
from service.choices import PredictOptions
from service.decode.item import TextItem
from service.errors import Expired
from service.inference import Inference, Inferred
from service.job import Payload, Wanted
from service.maps import AttentionMap, MapKey, Selection
from service.predictor import Predictor, Unloaded
from service.refine import Refinement, refine
from service.render import NUMBERS, Drawing, RenderOptions, fit
from service.schemas import Answer, Timing
from service.slices import query_place
from service.store import Record, Store, StoredItem

_Place = tuple[str, int, frozenset[MapKey]]  # a prediction's id, an item of it, and maps


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
        self._making: dict[_Place, asyncio.Task[Collection[AttentionMap]]] = {}

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
        wanted = predictor.wanted(options, options.maps)
        async with self._inference.within(options.timeout):
            found = await self._inference.infer(predictor, payloads, wanted)
            arguments = (predictor, payloads, found, options, wanted, client, started)
            if found.is_short and not wanted:
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
        wanted: Wanted,
        client: str | None,
        started: float,
    ) -> Answered:
        """Say what was found and keep it. An answer that is larger than the store has no links."""
        key = Store.new_id()
        predictions = [
            prediction(
                predictor,
                item,
                outcome,
                options,
                wanted.selection,
                url=f"{predictions_url(key)}/{index}",
                inputs=len(found.items),
            )
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
                maps={found.key: found for found in outcome.maps.values()},
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
        refinement: Refinement,
        drawing: RenderOptions,
        *,
        client: str | None = None,
    ) -> Drawing:
        """One map of a kept input as a file; raises a Problem.

        A map that no request asked for yet is made by running the input again, through the scheduler.
        """
        record = self.kept(key, client=client)
        stored, predictor = record.item(index), record.predictor
        spec = predictor.spec(name)
        beside = (
            frame_map(predictor.manifest) if format not in NUMBERS and spec.kind == "frame_grid" else None
        )
        made = {(one.name, stored.made(one, selection)) for one in (spec, beside) if one is not None}
        missing = frozenset(made - set(stored.maps))
        async with self._inference.under_way(predictor), self._inference.within():
            if missing:
                wanted = Wanted(
                    maps=frozenset(name for name, _ in missing),
                    selection=replace(selection, target=stored.target(selection)),
                )
                place = (key, index, missing)
                stored = stored.with_maps(await self._make(place, predictor, stored.payload, wanted))
            started = time.perf_counter()
            drawn = await self._inference.in_thread(
                "drawing",
                predictor,
                _draw,
                predictor,
                stored,
                name,
                format,
                selection,
                refinement,
                drawing,
                beside,
            )
        manifest = predictor.manifest
        self._inference.metrics.rendered(manifest.name, manifest.version, time.perf_counter() - started)
        return drawn

    async def _make(
        self, place: _Place, predictor: Predictor, payload: Payload, wanted: Wanted
    ) -> Collection[AttentionMap]:
        """Further maps of a kept input. Those who ask for the same at one time share one run."""
        making = self._making.get(place)
        if making is None:
            making = asyncio.create_task(self._run_again(predictor, payload, wanted))
            self._making[place] = making
            making.add_done_callback(lambda made: self._made(place, made))
        return await asyncio.shield(making)

    def _made(self, place: _Place, making: asyncio.Task[Collection[AttentionMap]]) -> None:
        del self._making[place]
        if not making.cancelled() and making.exception() is None:
            self._store.add_maps(place[0], place[1], making.result())

    async def _run_again(
        self, predictor: Predictor, payload: Payload, wanted: Wanted
    ) -> Collection[AttentionMap]:
        """Maps of an input by the model that made its prediction; raises a Problem."""
        try:
            with self._inference.registry.keep(predictor):
                async with self._inference.within():
                    found = await self._inference.infer(predictor, [payload], wanted)
        except Unloaded as error:
            raise Expired(f"{error}: only maps that were made before can be fetched", field="map") from error
        return found.outcomes[0].maps.values()


def _draw(
    predictor: Predictor,
    stored: StoredItem,
    name: str,
    format: str,
    selection: Selection,
    refinement: Refinement,
    drawing: RenderOptions,
    beside: MapSpec | None,
) -> Drawing:
    """A map of a kept input; pictures and clips are decoded again for it."""
    labels = predictor.manifest.labels
    spec = predictor.spec(name)
    selected = stored.maps[name, stored.made(spec, selection)].select(selection, predicted=stored.predicted)
    if format in NUMBERS and not refinement.of_text:
        return write_numbers(refine(selected, refinement), stored.view, labels, format)
    item = predictor.canvas(stored.payload, lambda width, height: fit(width, height, drawing.size))
    refined = refine(selected, refinement, item if isinstance(item, TextItem) else None)
    if format in NUMBERS:
        return write_numbers(refined, stored.view, labels, format)
    importance = None
    if beside is not None:
        weights = stored.maps[beside.name, stored.made(beside, selection)]
        importance = weights.select(Selection(), predicted=stored.predicted).values
    query = query_place(selected)
    return write_drawing(refined, item, labels, format, drawing, importance, query)


def frame_map(manifest: Manifest) -> MapSpec | None:
    """The map that says what each frame of a clip weighs, if the model has one."""
    return next((spec for spec in manifest.maps if spec.kind == "frames"), None)


def _milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 3)
