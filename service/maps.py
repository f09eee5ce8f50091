"""The maps of one input as arrays, and what a request selects from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from service.bundle import KIND_AXES, MapSpec
from service.errors import UnknownOption

Array = NDArray[Any]
Layers = Literal["all"] | int | tuple[int, ...]
Heads = Literal["all", "mean", "max", "min"] | int | tuple[int, ...]

FUSES: dict[str, Callable[..., Array]] = {"mean": np.mean, "max": np.max, "min": np.min}


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which layers, heads and label of a map are meant.

    An index takes an axis away, a tuple of indices or "all" keeps it, mean, max and min fuse heads; None is
    the map's default layer, the mean of the heads, the predicted label. Negative indices count from the end.
    """

    layers: Layers | None = None
    heads: Heads | None = None
    target: int | None = None

    def check(self, spec: MapSpec) -> None:
        """Raise UnknownOption for a layer or head that this map does not have."""
        if self.layers is not None and spec.layers:
            check_indices("layers", self.layers, len(spec.layers), spec.name)
        if self.heads is not None and spec.heads is not None:
            check_indices("heads", self.heads, spec.heads, spec.name)


@dataclass(frozen=True, kw_only=True)
class SelectedMap:
    """What a selection left: `values` with an axis name each, and what was chosen in words."""

    spec: MapSpec
    values: Array
    axes: tuple[str, ...]
    layers: str | int | list[int]
    heads: str | int | list[int] | None
    target: int | None

    @property
    def drawable(self) -> bool:
        """Whether only the axes of the map's kind are left."""
        return self.axes == KIND_AXES[self.spec.kind]

    @property
    def range(self) -> tuple[float, float]:
        return float(self.values.min()), float(self.values.max())


@dataclass(frozen=True, kw_only=True)
class AttentionMap:
    """One map of one input: an array per layer, or a single one; axes as `spec.axes` says."""

    spec: MapSpec
    layers: tuple[Array, ...]

    @property
    def nbytes(self) -> int:
        return sum(layer.nbytes for layer in self.layers)

    def select(self, selection: Selection, *, predicted: int) -> SelectedMap:
        """Apply a selection; `predicted` is the label taken where none is given.

        What the map has no axis for is left alone: one request may ask for several maps. Raises
        UnknownOption naming the field and the limit.
        """
        values, axes, layers = self._layers(selection.layers)
        values, axes, heads = _heads(self.spec, values, axes, selection.heads)
        target = None
        if "label" in axes:
            target = predicted if selection.target is None else selection.target
            values = values.take(target, axis=axes.index("label"))
            axes = tuple(axis for axis in axes if axis != "label")
        return SelectedMap(
            spec=self.spec, values=values, axes=axes, layers=layers, heads=heads, target=target
        )

    def _layers(self, layers: Layers | None) -> tuple[Array, tuple[str, ...], str | int | list[int]]:
        spec = self.spec
        if not spec.layers:
            return self.layers[0], spec.axes, "all"
        if layers is None:
            layers = spec.default_layer or 0
        if isinstance(layers, int):
            index = check_index("layers", layers, len(spec.layers), spec.name)
            return self.layers[index], spec.axes, index
        indices = check_indices("layers", layers, len(spec.layers), spec.name)
        chosen = [self.layers[index] for index in indices]
        if len({layer.shape for layer in chosen}) > 1:
            raise UnknownOption(
                f"the layers of map {spec.name} differ in resolution: ask for one layer at a time",
                field="layers",
                limit=1,
            )
        return np.stack(chosen), ("layer", *spec.axes), indices


def _heads(
    spec: MapSpec, values: Array, axes: tuple[str, ...], heads: Heads | None
) -> tuple[Array, tuple[str, ...], str | int | list[int] | None]:
    if spec.heads is None:
        return values, axes, None
    heads = "mean" if heads is None else heads
    axis = axes.index("head")
    without = tuple(name for name in axes if name != "head")
    if isinstance(heads, int):
        index = check_index("heads", heads, spec.heads, spec.name)
        return values.take(index, axis=axis), without, index
    if isinstance(heads, str) and heads in FUSES:
        return FUSES[heads](values, axis=axis), without, heads
    indices = check_indices("heads", heads, spec.heads, spec.name)
    return values.take(indices, axis=axis), axes, indices


def check_indices(field: str, chosen: str | int | Sequence[int], count: int, name: str) -> list[int]:
    """Non-negative indices for those chosen, all of them for a word; raises UnknownOption."""
    if isinstance(chosen, str):
        return list(range(count))
    given = [chosen] if isinstance(chosen, int) else chosen
    indices = [check_index(field, index, count, name) for index in given]
    if len(set(indices)) < len(indices):
        raise UnknownOption(f"{field}: each index once", field=field, limit=count)
    return indices


def check_index(field: str, index: int, count: int, name: str) -> int:
    """A non-negative index for one that may count from the end; raises UnknownOption."""
    if not -count <= index < count:
        raise UnknownOption(
            f"{field}: map {name} has {count}, so {-count} to {count - 1}; got {index}",
            field=field,
            limit=count - 1,
        )
    return index % count
