"""One model version: input decoded, batched by the scheduler, run, and its taps turned into maps."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service import bundle
from service.batch import BatchLimits
from service.buckets import buckets, lengths
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
from service.decode.budget import Budget
from service.decode.image import ImageDecoder
from service.decode.item import Item
from service.decode.limits import Limits
from service.decode.media import declared_type
from service.decode.tensors import TensorRow, read_tensors
from service.decode.text import TextDecoder
from service.decode.video import VideoDecoder
from service.errors import InvalidInput, UnknownOption, UnsupportedMedia
from service.graphs import Graphs
from service.job import Job, Outcome, Payload
from service.maps import Selection
from service.schemas import PredictOptions
from service.sessions import SessionPool, release_memory

Array = NDArray[Any]

logger = logging.getLogger(__name__)


class Unloaded(RuntimeError):
    """A model that was closed is asked to run."""


class Predictor:
    """A loaded bundle. `decode` and `run` block and may be called from several threads at once.

    `close` drops its graphs; what a kept prediction is drawn with stays as long as the prediction does.
    """

    def __init__(
        self,
        *,
        manifest: Manifest,
        decoder: TextDecoder | ImageDecoder | VideoDecoder,
        graphs: Graphs,
        limits: BatchLimits,
    ) -> None:
        self.manifest = manifest
        self.limits = limits
        self._decoder = decoder
        self._graphs: Graphs | None = graphs

    def __repr__(self) -> str:
        return f"<Predictor {self.manifest.name}/{self.manifest.version}>"

    @classmethod
    def load(
        cls,
        folder: Path,
        pool: SessionPool,
        limits: Limits,
        *,
        batch_tokens: int,
        batch_pixels: int,
        batch_tap_bytes: int,
        budget: Budget | None = None,
    ) -> Predictor:
        """Read a bundle and open its graphs; raises BundleError, or what the runtime raises."""
        manifest = bundle.read(folder)
        return cls(
            manifest=manifest,
            decoder=open_decoder(manifest, folder, limits, budget),
            graphs=Graphs(
                manifest=manifest,
                model=pool.open(folder / MODEL),
                programs={spec.name: pool.open(folder / MapSpec.path(spec.name)) for spec in manifest.maps},
            ),
            limits=BatchLimits(
                cost=batch_tokens if manifest.family == "text" else batch_pixels,
                tap_bytes=batch_tap_bytes,
                jobs=manifest.max_batch,
            ),
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

    def selection(self, maps: Collection[str], options: PredictOptions) -> Selection:
        """What options mean for the maps of these names; raises UnknownOption where one does not fit."""
        target = None if options.target is None else self.target(options.target)
        selection = Selection(layers=options.layers, heads=options.heads, target=target)
        for spec in self.manifest.maps:
            if spec.name in maps:
                selection.check(spec)
        return selection

    def target_word(self, index: int) -> str:
        """A label as `target` understands it: its name, or its index where another has the same name."""
        label = self.manifest.labels[index]
        return label if self.target(label) == index else str(index)

    def decode(self, payload: Payload | TensorRow) -> Item:
        """Raw input, or a row of the model's own tensors, to an item; raises a Problem."""
        if isinstance(payload, TensorRow):
            return read_tensors(payload, self.manifest.preprocessing, self._decoder)
        decoder, data = self._decoder, payload.data
        if isinstance(decoder, TextDecoder):
            return decoder.decode(_text(payload, self.manifest.name), payload.pair)
        if not isinstance(data, bytes) or payload.pair is not None:
            family = "a picture" if self.manifest.family == "image" else "a clip"
            field = "text_pair" if isinstance(data, bytes) else payload.field
            raise InvalidInput(f"model {self.manifest.name} takes {family}, not text", field=field)
        return decoder.decode(data, content_type=payload.content_type)

    @property
    def closed(self) -> bool:
        return self._graphs is None

    def close(self) -> None:
        """Drop the graphs and give their memory back; nothing may be running."""
        self._graphs = None
        release_memory()

    @cached_property
    def smallest(self) -> Job:
        """The input that costs least, with every map: it runs through every graph there is."""
        maps = frozenset(spec.name for spec in self.manifest.maps)
        return self.job(self._decoder.blank().without_original(), maps)

    def warm_up(self) -> None:
        """Run every shape bucket with every map: memory has grown before the first request, or does not do.

        Raises OutOfMemory, and BundleError where the manifest says otherwise than the graphs.
        """
        started = time.perf_counter()
        jobs = [self.smallest]
        decoder, spec = self._decoder, self.manifest.preprocessing
        if isinstance(decoder, TextDecoder) and isinstance(spec, TextInput):
            items = [decoder.blank(tokens) for tokens in lengths(spec.max_tokens)]
            jobs = [self.job(item, self.smallest.maps) for item in items]
        shapes = buckets(jobs, self.limits)
        for batch in shapes:
            self._check(self.run(batch)[0])
        seconds = time.perf_counter() - started
        logger.info("%r is warm: %d shapes in %.1f s", self, len(shapes), seconds)

    def _check(self, outcome: Outcome) -> None:
        """Raise BundleError where what a run gave is not what the manifest says."""
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

    def job(self, item: Item, maps: frozenset[str] = frozenset()) -> Job:
        """A job of this model: an input and the maps wanted of it."""
        taps = {tap for spec in self.manifest.maps if spec.name in maps for tap in spec.inputs}
        sizes = {tap.name: tap.nbytes(token=item.cost) for tap in self.manifest.taps if tap.name in taps}
        return Job(item=item, maps=maps, taps=sizes)

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """What a batch gives, in order; raises OutOfMemory, and Unloaded after `close`."""
        graphs = self._graphs
        if graphs is None:
            raise Unloaded(f"{self.manifest.name}/{self.manifest.version} was unloaded")
        return graphs.run(jobs)

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


def open_decoder(
    manifest: Manifest, folder: Path, limits: Limits, budget: Budget | None = None
) -> TextDecoder | ImageDecoder | VideoDecoder:
    """What turns raw input into the tensors of a bundle."""
    spec = manifest.preprocessing
    if isinstance(spec, TextInput):
        return TextDecoder(spec, folder / TOKENIZER, limits, budget)
    if isinstance(spec, ImageInput):
        return ImageDecoder(spec, limits, budget)
    assert isinstance(spec, VideoInput)
    return VideoDecoder(spec, limits, budget)
