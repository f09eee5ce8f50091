"""One small program per map: its inputs are taps by name, its outputs one tensor per layer, or a single one
where the map covers all layers. A program holds no weights (but the classifier rows a class activation map
needs), so it can be exported as a graph of its own and run where the taps are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import Tensor, nn

from models.maps import (
    attention,
    class_activation,
    class_row,
    frame_importance,
    received,
    rollout,
    space_time_rollout,
    token_row,
)

Kind = Literal["tokens", "token_matrix", "grid", "channels", "frames", "frame_matrix", "frame_grid"]


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


def patch_grid(row: Tensor, grid: tuple[int, int]) -> Tensor:
    """A row over tokens, the patches last [..., prefix+P] -> the patches as a grid [..., rows, columns]."""
    rows, columns = grid
    out: Tensor = row[..., -rows * columns :].unflatten(-1, grid)
    return out


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


class PatchRows(MapProgram):
    kind = "grid"
    axes = ("head", "row", "column")
    description = "What the class token attends to among the patches, per layer and head."
    token: ClassVar[int] = 0

    def __init__(self, layers: Sequence[str], *, heads: int, grid: tuple[int, int]) -> None:
        super().__init__(taps=query_key(layers), layers=layers)
        self.heads, self.grid = heads, grid

    def forward(self, *taps: Tensor) -> tuple[Tensor, ...]:
        rows = (token_row(q, k, token=self.token, heads=self.heads) for q, k in pairs(taps))
        return tuple(patch_grid(row, self.grid) for row in rows)


class DistillationRows(PatchRows):
    description = "What the distillation token attends to among the patches, per layer and head."
    token = 1


class PatchRollout(MapProgram):
    kind = "grid"
    axes = ("row", "column")
    description = "Attention rollout of the class token through all layers, to the patches."

    def __init__(self, layers: Sequence[str], *, heads: int, grid: tuple[int, int]) -> None:
        super().__init__(taps=query_key(layers))
        self.heads, self.grid = heads, grid

    def forward(self, *taps: Tensor) -> tuple[Tensor, ...]:
        return (patch_grid(rollout(pairs(taps), heads=self.heads), self.grid),)


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
        """query and key [B, T, 1+P+1, D] of one layer -> [B, H, T, rows, columns]."""
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
