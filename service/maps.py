"""The maps of one input as arrays, and what a request selects from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from service.bundle import KIND_AXES, Kind, MapSpec
from service.errors import InvalidInput, UnknownOption

Array = NDArray[Any]
Layers = Literal["all"] | int | tuple[int, ...]
Heads = Literal["all", "mean", "max", "min"] | int | tuple[int, ...]

FUSES: dict[str, Callable[..., Array]] = {"mean": np.mean, "max": np.max, "min": np.min}

# What one query's row of a sliced map is.
ROW_OF: dict[Kind, Kind] = {"token_matrix": "tokens", "grid_matrix": "grid"}


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which part of a map is meant, and of which making.

    layers, heads: an index takes an axis away, a tuple of indices or "all" keeps it, mean, max and min fuse
    heads; None is the map's default layer, the mean of the heads. Negative indices count from the end.
    target: a label, the predicted one if None. token, rows: query tokens of a map that is sliced, one, or
    those from a start to before a stop; all if None. frame: of a clip. discard: the share of each row of
    attention that a rollout leaves out. names: what the request calls layers and heads, for errors.
    """

    layers: Layers | None = None
    heads: Heads | None = None
    target: int | None = None
    token: int | None = None
    rows: tuple[int, int] | None = None
    frame: int | None = None
    discard: float = 0.0
    names: tuple[str, str] = field(default=("layers", "heads"), compare=False)

    def __post_init__(self) -> None:
        if not (0 <= self.discard < 1 and np.float32(self.discard) < 1):  # as the graphs take it
            raise InvalidInput(
                f"discard must be from 0 to below 1, not {self.discard}", field="discard", limit="0 to 1"
            )
        if self.token is not None and self.rows is not None:
            raise InvalidInput("token and rows: ask for one of them", field="rows")

    def check(self, spec: MapSpec) -> None:
        """Raise UnknownOption for a layer or head that this map does not have."""
        layers, heads = self.names
        if spec.sliced and not isinstance(self.layers, int | None):
            raise UnknownOption(
                f"{layers}: map {spec.name} is made of one layer at a time", field=layers, limit=1
            )
        if self.layers is not None and spec.layers:
            check_indices(layers, self.layers, len(spec.layers), spec.name)
        if self.heads is not None and spec.heads is not None:
            check_indices(heads, self.heads, spec.heads, spec.name)


DEFAULT = Selection()


@dataclass(frozen=True, kw_only=True)
class Made:
    """How a map was made, where there is a choice: with its name, what tells it from others of one input.

    target: the label of a map of gradients. layer, rows (None for all), frame: what a slice is of. fuse and
    discard: of a rollout, which heads make one and which share of attention was left out.
    """

    target: int | None = None
    layer: int | None = None
    rows: tuple[int, int] | None = None
    frame: int | None = None
    fuse: str = "mean"
    discard: float = 0.0

    @classmethod
    def of(cls, spec: MapSpec, selection: Selection, *, predicted: int | None = None) -> Made:
        """How a selection wants a map made; `predicted` is the label where none is given, if it is known."""
        target = None
        if "target" in spec.inputs:
            target = predicted if selection.target is None else selection.target
        if spec.sliced:
            layer = selection.layers if isinstance(selection.layers, int) else spec.default_layer
            token = selection.token
            return cls(
                target=target,
                layer=(layer or 0) % len(spec.layers),
                rows=selection.rows if token is None else (token, token + 1),
                frame=(selection.frame or 0) if "frame" in spec.inputs else None,
            )
        if spec.tunable:
            fuse = (
                selection.heads if isinstance(selection.heads, str) and selection.heads in FUSES else "mean"
            )
            return cls(target=target, fuse=fuse, discard=selection.discard)
        return cls(target=target)

    @property
    def tuned(self) -> bool:
        """Whether it takes another graph than the plain one."""
        return self.fuse != "mean" or self.discard > 0


PLAIN = Made()
MapKey = tuple[str, Made]


@dataclass(frozen=True, kw_only=True)
class SelectedMap:
    """What a selection left: `values` with an axis name each, and what was chosen in words.

    `kind` is what can be drawn of it: of a matrix of tokens, one query's row is a map over tokens or places.
    """

    spec: MapSpec
    kind: Kind
    values: Array
    axes: tuple[str, ...]
    layers: str | int | list[int]
    heads: str | int | list[int] | None
    target: int | None
    token: int | None = None
    rows: tuple[int, int] | None = None
    frame: int | None = None
    discard: float | None = None

    @property
    def several(self) -> bool:
        """Whether axes of layers or heads are left beside those of the map's kind."""
        return self.axes != KIND_AXES[self.kind]

    @property
    def range(self) -> tuple[float, float]:
        return float(self.values.min()), float(self.values.max())


@dataclass(frozen=True, kw_only=True)
class AttentionMap:
    """One map of one input: an array per layer, or a single one; axes as `spec.axes` says."""

    spec: MapSpec
    layers: tuple[Array, ...]
    made: Made = PLAIN

    @property
    def key(self) -> MapKey:
        """What tells it from every other map of its input."""
        return self.spec.name, self.made

    @property
    def nbytes(self) -> int:
        return sum(layer.nbytes for layer in self.layers)

    def select(self, selection: Selection, *, predicted: int) -> SelectedMap:
        """Apply a selection; `predicted` is the label taken where none is given.

        What the map has no axis for is left alone: one request may ask for several maps. Raises
        UnknownOption naming the field and the limit.
        """
        values, axes, layers = self._layers(selection)
        values, axes, heads = _heads(self.spec, values, axes, selection)
        target, kind, rows, token = self.made.target, self.spec.kind, self.made.rows, None
        if "label" in axes:
            target = predicted if selection.target is None else selection.target
            values, axes = _taken(values, axes, "label", target)
        if self.spec.sliced and selection.token is not None:
            token, kind = selection.token, ROW_OF[self.spec.kind]
            values, axes = _taken(values, axes, "query_token", token - (rows[0] if rows else 0))
            axes = tuple("token" if axis == "key_token" else axis for axis in axes)
        frame = self.made.frame
        if kind == "frame_grid" and selection.frame is not None:
            frame, kind = selection.frame, "grid"
            check_index("frame", frame, values.shape[axes.index("frame")], self.spec.name)
            values, axes = _taken(values, axes, "frame", frame)
        return SelectedMap(
            spec=self.spec,
            kind=kind,
            values=values,
            axes=axes,
            layers=layers,
            heads=self.made.fuse if self.spec.tunable else heads,
            target=target,
            token=token,
            rows=None if token is not None else rows,
            frame=frame,
            discard=self.made.discard if self.spec.tunable else None,
        )

    def _layers(self, selection: Selection) -> tuple[Array, tuple[str, ...], str | int | list[int]]:
        spec, layers, called = self.spec, selection.layers, selection.names[0]
        if not spec.layers:
            return self.layers[0], spec.axes, "all"
        if self.made.layer is not None:
            return self.layers[0], spec.axes, self.made.layer
        if layers is None:
            layers = spec.default_layer or 0
        if isinstance(layers, int):
            index = check_index(called, layers, len(spec.layers), spec.name)
            return self.layers[index], spec.axes, index
        indices = check_indices(called, layers, len(spec.layers), spec.name)
        chosen = [self.layers[index] for index in indices]
        if len({layer.shape for layer in chosen}) > 1:
            raise UnknownOption(
                f"the layers of map {spec.name} differ in resolution: ask for one layer at a time",
                field=called,
                limit=1,
            )
        return np.stack(chosen), ("layer", *spec.axes), indices


def _taken(values: Array, axes: tuple[str, ...], axis: str, index: int) -> tuple[Array, tuple[str, ...]]:
    """One index of an axis, which is gone then."""
    return values.take(index, axis=axes.index(axis)), tuple(name for name in axes if name != axis)


def _heads(
    spec: MapSpec, values: Array, axes: tuple[str, ...], selection: Selection
) -> tuple[Array, tuple[str, ...], str | int | list[int] | None]:
    if spec.heads is None:
        return values, axes, None
    heads = "mean" if selection.heads is None else selection.heads
    called = selection.names[1]
    axis = axes.index("head")
    without = tuple(name for name in axes if name != "head")
    if isinstance(heads, int):
        index = check_index(called, heads, spec.heads, spec.name)
        return values.take(index, axis=axis), without, index
    if isinstance(heads, str) and heads in FUSES:
        return FUSES[heads](values, axis=axis), without, heads
    indices = check_indices(called, heads, spec.heads, spec.name)
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
