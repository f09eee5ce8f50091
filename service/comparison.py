"""How near one bundle is to another: labels, logits and maps on the same inputs, one input at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.markup import escape
from rich.table import Table

from service import bundle
from service.bundle import MODEL, TOKENIZER, Agreement, BundleError, Manifest, MapSpec
from service.graphs import OUTPUT
from service.sessions import DeviceTensor, ProviderError, Rows, SessionPool

Array = NDArray[Any]
ALL_LAYERS = "all"
CONSTANT = (
    1e-6  # a map whose values are nearer to each other than this share of the largest has but one value
)
SHORTEST = 1e-12  # logits nearer to 0 than this are taken to be so far from it


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What export needs of the service and may not import; handed to the commands it registers."""

    read_inputs: Callable[..., Iterator[dict[str, Array]]]
    compare: Callable[..., Agreement]


class Found(NamedTuple):
    """Logits [K] of one input, and its maps by name and layer."""

    logits: Array
    maps: dict[tuple[str, str], Array]


class Graphs:
    """A bundle's model and maps, opened to be run on tensors."""

    def __init__(self, folder: Path, pool: SessionPool) -> None:
        self.manifest = bundle.read(folder)
        self._compared = [spec for spec in self.manifest.maps if not spec.sliced]
        try:
            self._model = pool.open(folder / MODEL)
            self._maps = {
                graph: pool.open(folder / MapSpec.path(graph))
                for graph in dict.fromkeys(spec.graph for spec in self._compared)
            }
        except ProviderError:
            raise
        except Exception as error:  # the runtime raises types of its own for each kind of failure
            raise BundleError(f"{folder}: a graph does not load: {error}") from error

    def run(self, feeds: Mapping[str, Array], *, target: int | None = None) -> Found:
        """Run one input, maps of one label for `target`, the predicted one if None.

        What slices are made of is in other maps too, so these are left out. Raises BundleError where a value
        is not finite.
        """
        taps = {tensor for spec in self._compared for tensor in spec.taps().values()} - set(feeds)
        outputs = self._model.run(feeds, [OUTPUT, *sorted(taps)])
        tensors: dict[str, Array | Rows] = {**feeds, **{name: outputs[name].rows(0, 1) for name in taps}}
        target = int(outputs[OUTPUT].numpy().argmax()) if target is None else target
        tensors["target"] = np.array([target], np.int64)
        made: dict[str, DeviceTensor] = {}
        for graph, program in self._maps.items():
            names = [name for spec in self._compared if spec.graph == graph for name in spec.outputs]
            made |= program.run(tensors, names)
        maps = {}
        for spec in self._compared:
            for layer, name in zip(spec.layers or (ALL_LAYERS,), spec.outputs, strict=True):
                maps[spec.name, layer] = self._finite(name, made[name].numpy()[0])
        return Found(self._finite(OUTPUT, outputs[OUTPUT].numpy()[0]), maps)

    def _finite(self, name: str, values: Array) -> Array:
        if not np.isfinite(values).all():
            model, precision = self.manifest.name, self.manifest.precision
            raise BundleError(f"{model} in {precision}: not every value of {name} is finite")
        return values.astype(np.float64)


class Tally:
    """Sums over inputs, so that none has to be kept."""

    def __init__(self, activation: str) -> None:
        self._activation = activation
        self._inputs = 0
        self._same = 0
        self._errors = (0.0, 0.0)  # sum, largest
        self._correlations: dict[tuple[str, str], float] = {}

    def add(self, found: Found, reference: Found) -> None:
        """What two bundles made of one input."""
        self._inputs += 1
        self._same += same_labels(found.logits, reference.logits, self._activation)
        error = relative_error(found.logits, reference.logits)
        self._errors = (self._errors[0] + error, max(self._errors[1], error))
        for key, values in reference.maps.items():
            summed = self._correlations.get(key, 0.0)
            self._correlations[key] = summed + correlation(found.maps[key], values)

    def agreement(self, *, against: str, data: str) -> Agreement:
        """The means; there has to be an input."""
        maps: dict[str, dict[str, float]] = {}
        for (name, layer), summed in self._correlations.items():
            maps.setdefault(name, {})[layer] = summed / self._inputs
        return Agreement(
            against=against,
            data=data,
            inputs=self._inputs,
            labels=None if self._activation == "none" else self._same / self._inputs,
            logit_error=self._errors[0] / self._inputs,
            largest_logit_error=self._errors[1],
            maps=maps,
        )


def compare(
    folder: Path, against: Path, inputs: Iterable[Mapping[str, Array]], *, data: str, device: str = "cpu"
) -> Agreement:
    """The agreement of one bundle with another on these inputs, which `data` describes.

    Raises BundleError where the two are not made for the same inputs, labels and maps, and where a value is
    not finite.
    """
    pool = SessionPool(device=device)
    ours, theirs = Graphs(folder, pool), Graphs(against, pool)
    check_comparable(ours.manifest, theirs.manifest)
    tally = Tally(theirs.manifest.activation)
    for feeds in inputs:
        reference = theirs.run(feeds)
        tally.add(ours.run(feeds, target=int(reference.logits.argmax())), reference)
    name = f"{theirs.manifest.name}/{theirs.manifest.version}, {theirs.manifest.precision}"
    return tally.agreement(against=name, data=data)


def check_comparable(one: Manifest, other: Manifest) -> None:
    """Raise BundleError unless both turn the same inputs into the same labels and maps."""
    for what in ("labels", "activation", "preprocessing", "inputs"):
        if getattr(one, what) != getattr(other, what):
            raise BundleError(f"the bundles cannot be compared: their {what} differ")
    if one.files.get(TOKENIZER) != other.files.get(TOKENIZER):
        raise BundleError("the bundles cannot be compared: their tokenizers differ")
    layers = [{spec.name: (spec.axes, spec.layers) for spec in manifest.maps} for manifest in (one, other)]
    if layers[0] != layers[1]:
        raise BundleError("the bundles cannot be compared: their maps differ")


def same_labels(one: Array, other: Array, activation: str) -> bool:
    """Whether two rows of logits [K] mean the same label, or the same labels where several may hold."""
    if activation == "sigmoid":
        return bool(((one > 0) == (other > 0)).all())
    return bool(one.argmax() == other.argmax())


def relative_error(found: Array, reference: Array) -> float:
    """|found - reference| / |reference|."""
    length = max(float(np.linalg.norm(reference)), SHORTEST)
    return float(np.linalg.norm(found - reference)) / length


def correlation(found: Array, reference: Array) -> float:
    """Pearson's, over all values; where either has but one value, 1 if they are equal, else 0."""
    if found.shape != reference.shape:
        raise BundleError(f"the bundles cannot be compared: maps of shapes {found.shape}, {reference.shape}")
    if any(np.ptp(values) <= CONSTANT * np.abs(values).max() for values in (found, reference)):
        return float(np.allclose(found, reference))
    return float(np.corrcoef(found.ravel(), reference.ravel())[0, 1])


def table(found: Agreement) -> Table:
    """An agreement for a terminal."""
    shown = Table("figure", "layer", "value", title=f"on {found.inputs} inputs, against {found.against}")
    if found.labels is not None:
        shown.add_row("same label", "", f"{found.labels:.1%}")
    shown.add_row("relative logit error, mean", "", f"{found.logit_error:.2e}")
    shown.add_row("relative logit error, largest", "", f"{found.largest_logit_error:.2e}")
    for name, layers in found.maps.items():
        for layer, value in layers.items():
            shown.add_row(f"correlation of {escape(name)}", escape(layer), f"{value:.4f}")
    return shown
