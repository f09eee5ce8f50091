"""Tensors of a graph, and the maps that are made of them."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from service.bundle.inputs import Frozen

Kind = Literal["tokens", "token_matrix", "grid", "channels", "frames", "frame_matrix", "frame_grid"]
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]

ITEM_BYTES = {"float32": 4, "float16": 2, "int64": 8}

# What is left of each kind of map once layer, head and label are chosen.
KIND_AXES: dict[Kind, tuple[str, ...]] = {
    "tokens": ("token",),
    "token_matrix": ("query_token", "key_token"),
    "grid": ("row", "column"),
    "channels": ("channel",),
    "frames": ("frame",),
    "frame_matrix": ("query_frame", "key_frame"),
    "frame_grid": ("frame", "row", "column"),
}


class TensorSpec(Frozen):
    """A graph's input or output; an axis is a name where its size varies, else its size."""

    name: str
    dtype: Literal["float32", "float16", "int64"]
    axes: tuple[str | int, ...]

    def nbytes(self, **sizes: int) -> int:
        """Bytes of a tensor whose named axes have these sizes; an axis that is not given has 1."""
        axes = (axis if isinstance(axis, int) else sizes.get(axis, 1) for axis in self.axes)
        return math.prod(axes) * ITEM_BYTES[self.dtype]


class Tap(TensorSpec):
    """A tensor the model computes anyway and hands to map programs: what it is and of which layer."""

    layer: str
    kind: str


class MapSpec(Frozen):
    """A map: `maps/NAME.onnx` turns the tensors `inputs` (taps, model inputs) into `outputs`.

    `axes` are those of one output after the batch. A map with `layers` has one output for each, in order;
    `default_layer` is the index shown when none is asked for. `fixed_range` is the scale on which the map
    is drawn where its values have one (gates).
    """

    name: Name
    kind: Kind
    description: str
    axes: tuple[str, ...]
    layers: tuple[str, ...]
    default_layer: int | None
    heads: int | None
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    fixed_range: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.outputs) != (len(self.layers) or 1) or len(set(self.outputs)) < len(self.outputs):
            raise ValueError(f"map {self.name}: one output for each layer, or one for all")
        if self.default_layer is not None and not 0 <= self.default_layer < len(self.layers):
            raise ValueError(f"map {self.name}: default_layer {self.default_layer} is no layer")
        if (self.heads is not None) != ("head" in self.axes):
            raise ValueError(f"map {self.name}: heads, and an axis of that name, or neither")
        kept = KIND_AXES[self.kind]
        if self.axes not in [(*free, *kept) for free in ((), ("head",), ("label",), ("head", "label"))]:
            raise ValueError(f"map {self.name}: axes {self.axes} do not end in {kept}, those of {self.kind}")
        return self

    @staticmethod
    def path(name: str) -> str:
        """Where a map's graph lies in the bundle."""
        return f"maps/{name}.onnx"
