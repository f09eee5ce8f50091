"""Predictions as /v1 gives them: answered, kept, and their maps drawn for those who ask later."""

from __future__ import annotations

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
        target = None if options.target is None else predictor.target(options.target)
        selection = Selection(layers=options.layers, heads=options.heads, target=target)
        for spec in predictor.manifest.maps:
            if spec.name in maps:
                selection.check(spec)
        found = await self._inference.infer(predictor, payloads, maps=maps, timeout=options.timeout)
        arguments = (predictor, payloads, found, options, selection, client, started)
        if len(payloads) == 1 and not maps:  # done sooner than another thread would have begun
            return self._answer(*arguments)
        return await self._inference.in_thread("drawing", self._answer, *arguments)

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
        async with self._inference.under_way(predictor):
            if missing:
                maps = await self._run_again(predictor, stored.payload, missing)
                self._store.add_maps(key, index, maps)
                stored = stored.with_maps(maps)
            started = time.perf_counter()
            async with self._inference.within():
                drawn = await self._inference.in_thread(
                    "drawing", _draw, predictor, stored, name, format, selection, drawing, beside
                )
        manifest = predictor.manifest
        self._inference.metrics.rendered(manifest.name, manifest.version, time.perf_counter() - started)
        return drawn

    async def _run_again(
        self, predictor: Predictor, payload: Payload, maps: frozenset[str]
    ) -> Mapping[str, AttentionMap]:
        """Further maps of a kept input, by the model that made its prediction; raises a Problem."""
        try:
            with self._inference.registry.keep(predictor):
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
