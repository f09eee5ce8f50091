"""What a map's graph is: taps in, maps out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import Tensor, nn

Kind = Literal[
    "tokens", "token_matrix", "grid", "grid_matrix", "channels", "frames", "frame_matrix", "frame_grid"
]


class MapProgram(nn.Module):
    """One map as a graph of its own: `forward(*inputs)` in the order of `inputs`, one tensor per output.

    `inputs` are taps by name, inputs of the model, or parameters of a request (`target`: a label [B]; `rows`:
    query tokens [R]; `frame`: one frame [1]). `axes` name the axes of one output after the batch; `layers`
    names the layer of each output and is empty where the map covers all layers at once. `default` is the
    layer shown when none is asked for, `fixed_range` the scale to draw on where the values have their own.

    A map that is `sliced` is made of one layer at a time: its inputs `query` and `key` are that layer's.
    Where its keys are patches, `tokens_before` query tokens stand before these (a class token, for one).
    Maps with the same `graph` are outputs of one graph.
    """

    kind: ClassVar[Kind]
    axes: ClassVar[tuple[str, ...]]
    description: str
    fixed_range: ClassVar[tuple[float, float] | None] = None
    sliced: ClassVar[bool] = False
    graph: ClassVar[str | None] = None

    def __init__(
        self,
        *,
        inputs: Sequence[str],
        layers: Sequence[str] = (),
        default: int = -1,
        tokens_before: int | None = None,
    ) -> None:
        super().__init__()
        self.inputs = tuple(inputs)
        self.layers = tuple(layers)
        self.default = default % len(layers) if layers else None
        self.tokens_before = tokens_before

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        raise NotImplementedError

    @property
    def tuned(self) -> MapProgram | None:
        """The same map as a request may want it, with the further inputs `fuse` and `discard` [B]."""
        return None


def query_key(layers: Sequence[str]) -> list[str]:
    """The names of the query and key taps of these layers, alternating."""
    return [f"{layer}.{tap}" for layer in layers for tap in ("query", "key")]


def query_key_value(layers: Sequence[str]) -> list[str]:
    """The names of the query, key and value taps of these layers, in turn."""
    return [f"{layer}.{tap}" for layer in layers for tap in ("query", "key", "value")]


def pairs(taps: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Alternating queries and keys as (query, key) per layer."""
    return list(zip(taps[::2], taps[1::2], strict=True))


def triples(taps: Sequence[Tensor]) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Queries, keys and values in turn as (query, key, value) per layer."""
    return list(zip(taps[::3], taps[1::3], taps[2::3], strict=True))
