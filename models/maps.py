"""From taps to attention maps: pure functions first, then one small program per map for export.

A program holds no weights (but the classifier rows a class activation map needs). Its inputs are taps
by name, its outputs one tensor per layer, or a single one where the map covers all layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from models.attention import split_heads, weights

Kind = Literal["tokens", "token_matrix", "grid", "channels", "frames", "frame_matrix", "frame_grid"]


def attention(query: Tensor, key: Tensor, *, heads: int, lengths: Tensor | None = None) -> Tensor:
    """Attention probabilities from taps: query [B, N, D], key [B, M, D] -> [B, H, N, M]."""
    return weights(split_heads(query, heads), split_heads(key, heads), lengths=lengths)


def class_row(query: Tensor, key: Tensor, *, heads: int, lengths: Tensor | None = None) -> Tensor:
    """What the class token (the first) attends to: query [B, N, D], key [B, M, D] -> [B, H, M].

    Linear in the number of tokens: no other row is computed.
    """
    return attention(query[:, :1], key, heads=heads, lengths=lengths)[:, :, 0]


def received(query: Tensor, key: Tensor, *, heads: int, lengths: Tensor | None = None) -> Tensor:
    """How much attention each key receives, summed over queries, mean over heads: -> [B, M].

    Above 1 is above uniform. Queries that are padding give nothing.
    """
    probabilities = attention(query, key, heads=heads, lengths=lengths).mean(1)  # [B, N, M]
    return live(query, lengths)[:, None, :].matmul(probabilities)[:, 0]


def live(tokens: Tensor, lengths: Tensor | None) -> Tensor:
    """1 for a token, 0 for padding: tokens [B, N, D], lengths [B] -> [B, N]."""
    if lengths is None:
        return torch.ones_like(tokens[:, :, 0])
    return (torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]).to(tokens.dtype)


def rollout(pairs: Sequence[tuple[Tensor, Tensor]], *, heads: int, lengths: Tensor | None = None) -> Tensor:
    """Attention rollout of the class token over all layers: pairs of (query, key) [B, N, D] -> [B, N].

    Row 0 of the product of (A + I) / 2 from the last layer down to the first, A fused by the mean over
    heads (Abnar and Zuidema 2020); a chain of row-by-matrix products. The row sums to 1.
    """
    first = pairs[0][0]
    row = (torch.arange(first.shape[1], device=first.device) == 0).to(first.dtype)
    row = row.expand(first.shape[0], -1)[:, None, None]  # [B, 1, 1, N]
    for query, key in reversed(pairs):
        through = row @ attention(query, key, heads=heads, lengths=lengths)  # [B, H, 1, N]
        row = (through.mean(1, keepdim=True) + row) / 2
    return row[:, 0, 0]


def class_activation(features: Tensor, classifier: Tensor) -> Tensor:
    """Class activation maps: features [B, C, h, w], classifier rows [K, C] -> [B, K, h, w], never negative.

    ReLU(sum_k w_ck F_k / hw): Grad-CAM in closed form for a global average and one linear layer
    (Zhou et al. 2016; Selvaraju et al. 2017).
    """
    places = features.shape[2] * features.shape[3]
    return torch.einsum("bchw,kc->bkhw", features, classifier / places).relu()


def frame_importance(query: Tensor, key: Tensor, *, heads: int) -> Tensor:
    """What each frame gives to a head that ends in a mean over frames: [B, T, E] twice -> [B, T]."""
    return attention(query, key, heads=heads).mean((1, 2))


def space_time_rollout(
    frames: Sequence[tuple[Tensor, Tensor]],
    messages: Sequence[tuple[Tensor, Tensor]],
    temporal: tuple[Tensor, Tensor],
    *,
    heads: int,
    temporal_heads: int,
) -> Tensor:
    """Rollout through frames and the messages between them, read out by frame weights.

    frames: per layer (query, key) [B, T, 1+P+1, D], class token first, message token last; messages: per
    layer (query, key) [B, T, D]; temporal: (query, key) [B, T, E]. Returns [B, T, P]; with the class
    tokens' remainder it sums to 1.

    Per layer, over tokens (t, i): R[(t,i),(u,j)] = d/2 + (A_t[i,j] d_tu + A_t[i,m] M[t,u] d_j,cls) / 2, with
    d Kronecker's delta, m the message token, M = (I + A_message) / 2 and heads fused by their mean. The
    first row is the class token of each frame, weighted by the column mean of (I + A_temporal) / 2.
    """
    batch, time, tokens, _ = frames[0][0].shape
    importance = frame_importance(*temporal, heads=temporal_heads)  # [B, T]
    is_class = (torch.arange(tokens - 1, device=importance.device) == 0).to(importance.dtype)  # [1+P]
    row = (importance + 1 / time)[:, :, None] / 2 * is_class  # [B, T, 1+P]
    for (query, key), message in zip(reversed(frames), reversed(messages), strict=True):
        inside = attention(query.flatten(0, 1)[:, :-1], key.flatten(0, 1), heads=heads)
        through = (row.flatten(0, 1)[:, None, None] @ inside).mean(1)[:, 0]  # [B*T, 1+P+1]
        through = through.unflatten(0, (batch, time))
        spoken = through[:, :, -1]  # [B, T], what went to the message token
        heard = spoken[:, None] @ attention(*message, heads=heads).mean(1)  # [B, 1, T]
        heard = (heard[:, 0] + spoken) / 2
        row = (row + through[:, :, :-1] + heard[:, :, None] * is_class) / 2
    return row[:, :, 1:]


class MapProgram(nn.Module):
    """One map as a graph of its own: `forward(*taps)` in the order of `taps`, one tensor per output.

    `axes` name the axes of one output after the batch; `layers` names the layer of each output and is
    empty where the map covers all layers at once. `default` is the layer shown when none is asked for,
    `fixed_range` the scale to draw on where the values have one of their own.
    """

    kind: ClassVar[Kind]
    axes: ClassVar[tuple[str, ...]]
    description: ClassVar[str]
    fixed_range: ClassVar[tuple[float, float] | None] = None

    def __init__(self, *, taps: Sequence[str], layers: Sequence[str] = (), default: int = -1) -> None:
        super().__init__()
        self.taps = tuple(taps)
        self.layers = tuple(layers)
        self.default = default % len(layers) if layers else None

    def forward(self, *taps: Tensor) -> tuple[Tensor, ...]:
        raise NotImplementedError


def query_key(layers: Sequence[str]) -> list[str]:
    """The names of the query and key taps of these layers, alternating."""
    return [f"{layer}.{tap}" for layer in layers for tap in ("query", "key")]


def pairs(taps: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Alternating queries and keys as (query, key) per layer."""
    return list(zip(taps[::2], taps[1::2], strict=True))


class ClassRows(MapProgram):
    kind = "tokens"
    axes = ("head", "token")
    description = "What the class token attends to, per layer and head."

    def __init__(self, layers: Sequence[str], *, heads: int) -> None:
        super().__init__(taps=["lengths", *query_key(layers)], layers=layers)
        self.heads = heads

    def forward(self, *taps: Tensor) -> tuple[Tensor, ...]:
        return tuple(class_row(q, k, heads=self.heads, lengths=taps[0]) for q, k in pairs(taps[1:]))


class Received(MapProgram):
    kind = "tokens"
    axes = ("token",)
    description = "How much attention each token receives, summed over queries; 1 is uniform."

    def __init__(self, layers: Sequence[str], *, heads: int) -> None:
        super().__init__(taps=["lengths", *query_key(layers)], layers=layers)
        self.heads = heads

    def forward(self, *taps: Tensor) -> tuple[Tensor, ...]:
        return tuple(received(q, k, heads=self.heads, lengths=taps[0]) for q, k in pairs(taps[1:]))


class Rollout(MapProgram):
    kind = "tokens"
    axes = ("token",)
    description = "Attention rollout of the class token through all layers."

    def __init__(self, layers: Sequence[str], *, heads: int) -> None:
        super().__init__(taps=["lengths", *query_key(layers)])
        self.heads = heads

    def forward(self, *taps: Tensor) -> tuple[Tensor, ...]:
        return (rollout(pairs(taps[1:]), heads=self.heads, lengths=taps[0]),)


class SpatialGates(MapProgram):
    kind = "grid"
    axes = ("row", "column")
    description = "The spatial gate of each block, from 0 (closed) to 1 (open)."
    fixed_range = (0.0, 1.0)

    def __init__(self, blocks: Sequence[str]) -> None:
        super().__init__(taps=[f"{block}.spatial" for block in blocks], layers=blocks)

    def forward(self, *taps: Tensor) -> tuple[Tensor, ...]:
        return tuple(gate[:, 0] for gate in taps)


class ChannelGates(MapProgram):
    kind = "channels"
    axes = ("channel",)
    description = "The channel gate of each block, from 0 (closed) to 1 (open)."
    fixed_range = (0.0, 1.0)

    def __init__(self, blocks: Sequence[str]) -> None:
        super().__init__(taps=[f"{block}.channel" for block in blocks], layers=blocks)

    def forward(self, *taps: Tensor) -> tuple[Tensor, ...]:
        # Input and output of a graph need names of their own: the sum leaves one node between them.
        return tuple(gate + 0 for gate in taps)


class ClassActivation(MapProgram):
    kind = "grid"
    axes = ("label", "row", "column")
    description = "Where the evidence for each label lies: class activation, Grad-CAM in closed form."

    def __init__(self, classifier: nn.Linear) -> None:
        super().__init__(taps=["features"])
        self.classifier = classifier

    def forward(self, *taps: Tensor) -> tuple[Tensor, ...]:
        return (class_activation(taps[0], self.classifier.weight),)


class FrameClassRows(MapProgram):
    kind = "frame_grid"
    axes = ("head", "frame", "row", "column")
    description = "What the class token of each frame attends to among its patches, per layer and head."

    def __init__(self, layers: Sequence[str], *, heads: int, grid: tuple[int, int]) -> None:
        super().__init__(taps=query_key(layers), layers=layers)
        self.heads, self.grid = heads, grid

    def forward(self, *taps: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.rows(query, key) for query, key in pairs(taps))

    def rows(self, query: Tensor, key: Tensor) -> Tensor:
        row = class_row(query.flatten(0, 1), key.flatten(0, 1), heads=self.heads)  # [B*T, H, 1+P+1]
        patches = row[:, :, 1:-1].unflatten(0, (-1, query.shape[1])).transpose(1, 2)  # [B, H, T, P]
        out: Tensor = patches.unflatten(-1, self.grid)
        return out


class Messages(MapProgram):
    kind = "frame_matrix"
    axes = ("head", "query_frame", "key_frame")
    description = "Which frame listens to which, per layer and head."

    def __init__(self, layers: Sequence[str], *, heads: int) -> None:
        super().__init__(taps=query_key(layers), layers=layers)
        self.heads = heads

    def forward(self, *taps: Tensor) -> tuple[Tensor, ...]:
        return tuple(attention(query, key, heads=self.heads) for query, key in pairs(taps))


class FrameImportance(MapProgram):
    kind = "frames"
    axes = ("frame",)
    description = "What each frame gives to the prediction in the last temporal attention."

    def __init__(self, layer: str, *, heads: int) -> None:
        super().__init__(taps=query_key([layer]))
        self.heads = heads

    def forward(self, *taps: Tensor) -> tuple[Tensor, ...]:
        return (frame_importance(taps[0], taps[1], heads=self.heads),)


class SpaceTimeRollout(MapProgram):
    kind = "frame_grid"
    axes = ("frame", "row", "column")
    description = "Rollout through the patches of all frames and the messages between frames."

    def __init__(
        self,
        frames: Sequence[str],
        messages: Sequence[str],
        temporal: str,
        *,
        heads: int,
        temporal_heads: int,
        grid: tuple[int, int],
    ) -> None:
        super().__init__(taps=query_key([*frames, *messages, temporal]))
        self.heads, self.temporal_heads, self.grid = heads, temporal_heads, grid

    def forward(self, *taps: Tensor) -> tuple[Tensor, ...]:
        *layers, temporal = pairs(taps)
        half = len(layers) // 2
        rows = space_time_rollout(
            layers[:half], layers[half:], temporal, heads=self.heads, temporal_heads=self.temporal_heads
        )
        return (rows.unflatten(-1, self.grid),)


class LabelPatches(MapProgram):
    kind = "grid"
    axes = ("head", "label", "row", "column")
    description = "What each label's prompt attends to among the patches, averaged over frames."

    def __init__(self, layers: Sequence[str], *, heads: int, grid: tuple[int, int]) -> None:
        super().__init__(taps=query_key(layers), layers=layers)
        self.heads, self.grid = heads, grid

    def forward(self, *taps: Tensor) -> tuple[Tensor, ...]:
        return tuple(attention(q, k, heads=self.heads).unflatten(-1, self.grid) for q, k in pairs(taps))
