"""Tensors of a graph, and the maps that are made of them."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from service.bundle.inputs import Frozen

Kind = Literal[
    "tokens", "token_matrix", "grid", "grid_matrix", "channels", "frames", "frame_matrix", "frame_grid"
]
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]

LENGTHS = "lengths"
ITEM_BYTES = {"float32": 4, "float16": 2, "int64": 8}

# What is left of each kind of map once layer, head and label are chosen.
KIND_AXES: dict[Kind, tuple[str, ...]] = {
    "tokens": ("token",),
    "token_matrix": ("query_token", "key_token"),
    "grid": ("row", "column"),
    "grid_matrix": ("query_token", "row", "column"),
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


# Inputs of a map's graph that a request says, beside taps and the model's own inputs: a label for each row of
# the batch, query tokens, a frame, how heads are fused, the share of attention that is discarded.
PARAMETERS = ("target", "rows", "frame", "fuse", "discard")
TUNED = "-tuned"
PROOF = "proof"


class MapSpec(Frozen):
    """A map: `maps/GRAPH.onnx` turns the tensors `inputs` (taps, model inputs, PARAMETERS) into `outputs`.

    `axes` are those of one output after the batch. A map with `layers` has one output for each, in order; one
    that is `sliced` is made of one layer at a time, and its inputs are then kinds of that layer's taps;
    where its keys are patches, `tokens_before` of its query tokens stand before these.
    `default_layer` is the index shown when none is asked for. `fixed_range` is the scale on which the map is
    drawn where its values have one (gates). A map that is `tunable` is made with other heads and part of the
    attention discarded by `maps/GRAPH-tuned.onnx`, which takes `fuse` and `discard` too. Several maps may be
    outputs of one graph.
    """

    name: Name
    kind: Kind
    description: str
    axes: tuple[str, ...]
    layers: tuple[str, ...]
    default_layer: int | None
    heads: int | None
    graph: Name
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    sliced: bool = False
    tunable: bool = False
    tokens_before: int | None = Field(None, ge=0)
    fixed_range: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        expected = 1 if self.sliced else len(self.layers) or 1
        if len(self.outputs) != expected or len(set(self.outputs)) < len(self.outputs):
            raise ValueError(f"map {self.name}: one output for each layer, or one for all")
        if len(set(self.layers)) < len(self.layers):
            raise ValueError(f"map {self.name}: two layers have one name")
        if self.sliced and (not self.layers or "query_token" not in self.axes):
            raise ValueError(f"map {self.name}: slices are of one of several layers, and of query tokens")
        if (self.tokens_before is not None) != (self.kind == "grid_matrix"):
            raise ValueError(f"map {self.name}: tokens_before where it has a grid for each token")
        if self.default_layer is not None and not 0 <= self.default_layer < len(self.layers):
            raise ValueError(f"map {self.name}: default_layer {self.default_layer} is no layer")
        if (self.heads is not None) != ("head" in self.axes):
            raise ValueError(f"map {self.name}: heads, and an axis of that name, or neither")
        kept = KIND_AXES[self.kind]
        if self.axes not in [(*free, *kept) for free in ((), ("head",), ("label",), ("head", "label"))]:
            raise ValueError(f"map {self.name}: axes {self.axes} do not end in {kept}, those of {self.kind}")
        return self

    @property
    def graphs(self) -> tuple[str, ...]:
        """The names of the graphs that can make it."""
        return (self.graph, self.graph + TUNED) if self.tunable else (self.graph,)

    def taps(self, layer: int | None = None) -> dict[str, str]:
        """Which tensor of a run each input is, but PARAMETERS: those of a layer, where the map is sliced."""
        of_layer = f"{self.layers[layer or 0]}." if self.sliced else ""
        return {
            name: name if name == LENGTHS else of_layer + name
            for name in self.inputs
            if name not in PARAMETERS
        }

    @staticmethod
    def path(graph: str) -> str:
        """Where a graph lies in the bundle."""
        return f"maps/{graph}.onnx"


class ProofSpec(Frozen):
    """What `maps/proof.onnx` takes to verify the fused attention of one of `layers`: kinds of its taps, and,
    for texts, the lengths.
    """

    layers: tuple[str, ...] = Field(min_length=1)
    inputs: tuple[str, ...]

    def taps(self, layer: str) -> dict[str, str]:
        """Which tensor of a run each input is."""
        return {name: name if name == LENGTHS else f"{layer}.{name}" for name in self.inputs}
