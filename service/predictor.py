"""One model version: input decoded, batched by the scheduler, run, and its taps turned into maps."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
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
from service.choices import PredictOptions
from service.decode.budget import Budget
from service.decode.image import ImageDecoder
from service.decode.item import Item
from service.decode.limits import Limits
from service.decode.media import declared_type
from service.decode.tensors import TensorRow, read_tensors
from service.decode.text import TextDecoder
from service.decode.video import VideoDecoder
from service.errors import InvalidInput, NotFound, UnknownOption, UnsupportedMedia
from service.graphs import Graphs
from service.job import NOTHING, Job, Outcome, Payload, Wanted
from service.maps import Made, Selection
from service.offers import check_chosen
from service.sessions import SessionPool, release_memory
from service.slices import check_part

Array = NDArray[Any]

GRADIENT_TAPS = 3  # times the bytes of all taps, what a pass forward and back keeps, or nearly

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
                programs={graph: pool.open(folder / MapSpec.path(graph)) for graph in manifest.graphs},
            ),
            limits=BatchLimits(
                cost=batch_tokens if manifest.family == "text" else batch_pixels,
                tap_bytes=batch_tap_bytes,
                jobs=manifest.max_batch,
            ),
        )

    def spec(self, name: str) -> MapSpec:
        """The map of this name; raises NotFound."""
        spec = self.manifest.map(name)
        if spec is None:
            have = ", ".join(spec.name for spec in self.manifest.maps)
            raise NotFound(f"the model has no map {name!r}; it has {have}", field="map")
        return spec

    def check_maps(self, names: Collection[str]) -> frozenset[str]:
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
                f"target: model {self.manifest.name} has no label {label!r}; by name, or index",
                field="target",
                limit=len(labels) - 1,
            )
        return index

    def wanted(self, options: PredictOptions, maps: Collection[str]) -> Wanted:
        """What options want, of the maps of these names; raises UnknownOption where one does not fit."""
        target = None if options.target is None else self.target(options.target)
        if options.verify and self.manifest.proof is None:
            raise UnknownOption(
                f"verify: model {self.manifest.name} has no softmax attention to verify", field="verify"
            )
        wanted = Wanted(maps=self.check_maps(maps), selection=options.selection(target), proof=options.verify)
        specs = [spec for spec in self.manifest.maps if spec.name in wanted.maps]
        for spec in specs:
            wanted.selection.check(spec)
        check_chosen(specs, options)
        return wanted

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

    def canvas(self, payload: Payload, drawn: Callable[[int, int], tuple[int, int]]) -> Item:
        """An input to draw maps on in the size that `drawn` gives; a picture comes without tensors."""
        if isinstance(self._decoder, ImageDecoder) and isinstance(payload.data, bytes):
            return self._decoder.canvas(payload.data, drawn, content_type=payload.content_type)
        return self.decode(payload)

    @property
    def closed(self) -> bool:
        return self._graphs is None

    def close(self) -> None:
        """Drop the graphs and give their memory back; nothing may be running."""
        self._graphs = None
        release_memory()

    @cached_property
    def smallest(self) -> Job:
        """The input that costs least, with every map: it runs through every graph there is but tuned ones."""
        return self.job(self.blank(), self.everything)

    def blank(self, tokens: int = 1) -> Item:
        """An input of nothing, for warming up; a text has that many tokens."""
        decoder = self._decoder
        return (
            decoder.blank(tokens) if isinstance(decoder, TextDecoder) else decoder.blank().without_original()
        )

    @property
    def everything(self) -> Wanted:
        """Every map, of slices one row, and a proof."""
        maps = frozenset(spec.name for spec in self.manifest.maps)
        return Wanted(maps=maps, selection=Selection(token=0), proof=self.manifest.proof is not None)

    def warm_up(self) -> None:
        """Run every shape bucket with every map: memory has grown before the first request, or does not do.

        Raises OutOfMemory, and BundleError where the manifest says otherwise than the graphs.
        """
        started = time.perf_counter()
        jobs = [self.smallest]
        spec = self.manifest.preprocessing
        if isinstance(spec, TextInput):
            jobs = [self.job(self.blank(tokens), self.everything) for tokens in lengths(spec.max_tokens)]
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

    def job(self, item: Item, wanted: Wanted = NOTHING) -> Job:
        """An input and what is wanted of it; raises UnknownOption where it has no such."""
        specs = [spec for spec in self.manifest.maps if spec.name in wanted.maps]
        slices = sum(check_part(spec, wanted.selection, item, self.manifest.taps) for spec in specs)
        layers = [Made.of(spec, wanted.selection).layer for spec in specs]
        taps = {
            tensor for spec, layer in zip(specs, layers, strict=True) for tensor in spec.taps(layer).values()
        }
        sizes = {tap.name: tap.nbytes(token=item.cost) for tap in self.manifest.taps}
        used = {name: size for name, size in sizes.items() if name in taps}
        if wanted.proof and (proof := self.manifest.proof) is not None:  # of a layer that is drawn later
            used["proof"] = sum(sizes.get(tap, 0) for tap in proof.taps(proof.layers[0]).values())
        if any("target" in spec.inputs for spec in specs):
            used["gradients"] = GRADIENT_TAPS * sum(sizes.values())
        return Job(item=item, wanted=wanted, taps=used, slices=slices)

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
