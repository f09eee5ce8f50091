"""One model version: input decoded, batched by the scheduler, run, and its taps turned into maps."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service import bundle
from service.bundle import (
    MODEL,
    TOKENIZER,
    BundleError,
    ImageInput,
    Manifest,
    MapSpec,
    TextInput,
    VideoInput,
)
from service.decode.image import ImageDecoder
from service.decode.item import Item
from service.decode.limits import Limits
from service.decode.media import declared_type
from service.decode.text import TextDecoder
from service.decode.video import VideoDecoder
from service.errors import InvalidInput, UnknownOption, UnsupportedMedia
from service.job import Job, Outcome, Payload
from service.maps import AttentionMap
from service.sessions import Program, Rows, SessionPool

Array = NDArray[Any]
OUTPUT = "logits"


class Predictor:
    """A loaded bundle. `decode` and `run` block and may be called from several threads at once."""

    def __init__(
        self,
        *,
        manifest: Manifest,
        decoder: TextDecoder | ImageDecoder | VideoDecoder,
        model: Program,
        programs: dict[str, Program],
        batch_cost: int,
    ) -> None:
        self.manifest = manifest
        self.batch_cost = batch_cost
        self._decoder = decoder
        self._model = model
        self._programs = programs
        self._padding = {"input_ids": getattr(manifest.preprocessing, "pad_id", 0)}

    def __repr__(self) -> str:
        return f"<Predictor {self.manifest.name}/{self.manifest.version}>"

    @classmethod
    def load(
        cls, folder: Path, pool: SessionPool, limits: Limits, *, batch_tokens: int, batch_pixels: int
    ) -> Predictor:
        """Read a bundle and open its graphs; raises BundleError, or what the runtime raises."""
        manifest = bundle.read(folder)
        return cls(
            manifest=manifest,
            decoder=open_decoder(manifest, folder, limits),
            model=pool.open(folder / MODEL),
            programs={spec.name: pool.open(folder / MapSpec.path(spec.name)) for spec in manifest.maps},
            batch_cost=_batch_cost(manifest, batch_tokens, batch_pixels),
        )

    def check_maps(self, names: Sequence[str]) -> frozenset[str]:
        """These maps' names; raises UnknownOption where the model has no such map."""
        have = [spec.name for spec in self.manifest.maps]
        for name in names:
            if name not in have:
                raise UnknownOption(
                    f"model {self.manifest.name} has no map {name!r}; it has {', '.join(have)}",
                    field="maps",
                    limit=", ".join(have),
                )
        return frozenset(names)

    def target(self, label: str | int) -> int:
        """The index of a label given by name or index; raises UnknownOption."""
        labels = self.manifest.labels
        if label in labels:
            return labels.index(label)
        index = {str(index): index for index in range(len(labels))}.get(str(label))
        if index is None:
            raise UnknownOption(
                f"target: model {self.manifest.name} has no label {label!r}",
                field="target",
                limit=len(labels) - 1,
            )
        return index

    def target_word(self, index: int) -> str:
        """A label as `target` understands it: its name, or its index where another has the same name."""
        label = self.manifest.labels[index]
        return label if self.target(label) == index else str(index)

    def decode(self, payload: Payload) -> Item:
        """Raw input to an item; raises a Problem that names the field and the limit."""
        decoder, data = self._decoder, payload.data
        if isinstance(decoder, TextDecoder):
            return decoder.decode(_text(payload, self.manifest.name), payload.pair)
        if not isinstance(data, bytes) or payload.pair is not None:
            family = "a picture" if self.manifest.family == "image" else "a clip"
            field = "text_pair" if isinstance(data, bytes) else payload.field
            raise InvalidInput(f"model {self.manifest.name} takes {family}, not text", field=field)
        return decoder.decode(data, content_type=payload.content_type)

    def warm_up(self) -> None:
        """Run the model and every map once; raises BundleError where the manifest says otherwise."""
        (outcome,) = self.run([Job(item=self._decoder.blank(), maps=frozenset(self._programs))])
        labels = len(self.manifest.labels)
        if outcome.logits.shape != (labels,):
            raise BundleError(f"the graph gives {outcome.logits.size} logits for {labels} labels")
        for name, found in outcome.maps.items():
            sizes = {"head": found.spec.heads, "label": labels}
            for layer in found.layers:
                axes = dict(zip(found.spec.axes, layer.shape, strict=False))
                if layer.ndim != len(found.spec.axes) or any(
                    axes[axis] != size for axis, size in sizes.items() if axis in axes
                ):
                    raise BundleError(f"map {name} has the shape {layer.shape} for axes {found.spec.axes}")

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Run a batch; a map's program gets the smallest stretch of rows that holds all who ask for it."""
        order = sorted(range(len(jobs)), key=lambda index: sorted(jobs[index].maps))
        batch = [jobs[index] for index in order]
        feeds = self._stack([job.item for job in batch])
        ranges = {name: _range(batch, name) for name in set().union(*(job.maps for job in batch))}
        taps = {tap for name in ranges for tap in self._programs[name].inputs} - set(feeds)
        found = self._model.run(feeds, [OUTPUT, *sorted(taps)])
        started = time.perf_counter()
        maps = {name: self._map(name, rows, feeds, found) for name, rows in ranges.items()}
        seconds = time.perf_counter() - started
        logits = found[OUTPUT].numpy()
        outcomes = [
            Outcome(
                logits=logits[row],
                maps={
                    name: self._own(name, maps[name], row - ranges[name].start, job)
                    for name in sorted(job.maps)
                },
                maps_seconds=seconds,
            )
            for row, job in enumerate(batch)
        ]
        return [outcome for _, outcome in sorted(zip(order, outcomes, strict=True), key=lambda pair: pair[0])]

    def _stack(self, items: Sequence[Item]) -> dict[str, Array]:
        """Tensors [B, ...] of items, right-padded along the first axis where their lengths differ."""
        feeds: dict[str, Array] = {}
        for name in items[0].tensors:
            rows = [item.tensors[name] for item in items]
            longest = max(len(row) for row in rows)
            shape = (len(rows), longest, *rows[0].shape[1:])
            feeds[name] = np.full(shape, self._padding.get(name, 0), dtype=rows[0].dtype)
            for index, row in enumerate(rows):
                feeds[name][index, : len(row)] = row
        if self.manifest.family == "text":
            feeds["lengths"] = np.array([item.cost for item in items], dtype=np.int64)
        return feeds

    def _map(self, name: str, rows: range, feeds: dict[str, Array], found: dict[str, Any]) -> list[Array]:
        program = self._programs[name]
        tensors: dict[str, Array | Rows] = {
            tap: feeds[tap][rows.start : rows.stop]
            if tap in feeds
            else found[tap].rows(rows.start, rows.stop)
            for tap in program.inputs
        }
        spec = self._spec(name)
        results = program.run(tensors, spec.outputs)
        return [results[output].numpy() for output in spec.outputs]

    def _own(self, name: str, layers: Sequence[Array], row: int, job: Job) -> AttentionMap:
        """One job's rows of a batch's map, without the padding and in memory of their own."""
        spec = self._spec(name)
        keep = tuple(
            slice(job.cost if axis in ("token", "query_token", "key_token") else None) for axis in spec.axes
        )
        own = tuple(np.array(layer[row][keep], dtype=np.float32) for layer in layers)
        return AttentionMap(spec=spec, layers=own)

    def _spec(self, name: str) -> MapSpec:
        spec = self.manifest.map(name)
        assert spec is not None
        return spec

    def scores(self, logits: Array) -> Array:
        """Scores [K] of logits [K]: probabilities, or the values themselves in a regression."""
        logits = logits.astype(np.float64)
        if self.manifest.activation == "none":
            return logits
        if self.manifest.activation == "sigmoid":
            out: Array = 1 / (1 + np.exp(-logits))
            return out
        powers = np.exp(logits - logits.max())
        out = powers / powers.sum()
        return out


def _batch_cost(manifest: Manifest, tokens: int, pixels: int) -> int:
    """What a batch may cost; less than any input where each has to run alone."""
    if manifest.max_batch == 1:
        return 0
    return tokens if manifest.family == "text" else pixels


def _text(payload: Payload, model: str) -> str:
    """A payload as text; raises InvalidInput and UnsupportedMedia."""
    if isinstance(payload.data, str):
        return payload.data
    declared = declared_type(payload.content_type)
    if declared is not None and not declared.startswith("text/"):
        raise UnsupportedMedia(f"model {model} takes text, not {declared[:80]!r}", field="content-type")
    try:
        return payload.data.decode()
    except UnicodeDecodeError:
        raise InvalidInput("text: the bytes are not UTF-8", field="text") from None


def _range(batch: Sequence[Job], name: str) -> range:
    """The smallest stretch of rows that holds every job asking for this map."""
    rows = [row for row, job in enumerate(batch) if name in job.maps]
    return range(rows[0], rows[-1] + 1)


def open_decoder(
    manifest: Manifest, folder: Path, limits: Limits
) -> TextDecoder | ImageDecoder | VideoDecoder:
    """What turns raw input into the tensors of a bundle."""
    spec = manifest.preprocessing
    if isinstance(spec, TextInput):
        return TextDecoder(spec, folder / TOKENIZER, limits)
    if isinstance(spec, ImageInput):
        return ImageDecoder(spec, limits)
    assert isinstance(spec, VideoInput)
    return VideoDecoder(spec, limits)
