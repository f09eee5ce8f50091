"""Maps of clips."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from models.attention import MultiHeadAttention
from models.maps import (
    Mix,
    attention,
    class_row,
    frame_importance,
    output_factors,
    received,
    space_time_rollout,
    value_norm,
)
from models.programs.gradients import GradientMap
from models.programs.program import MapProgram, pairs, query_key, query_key_value, triples
from models.programs.rollouts import RolloutMap

Grid = tuple[int, int]


def in_frames(values: Tensor, time: int, grid: Grid) -> Tensor:
    """Of tokens of frames [B*T, ..., 1+P+1], message last, the patches: [B, ..., T, rows, columns]."""
    patches = values[..., 1:-1].unflatten(0, (-1, time))  # [B, T, ..., P]
    out: Tensor = patches.movedim(1, -2).unflatten(-1, grid)
    return out


class FrameClassRows(MapProgram):
    kind = "frame_grid"
    axes = ("head", "frame", "row", "column")
    description = "What the class token of each frame attends to among its patches, per layer and head."

    def __init__(self, layers: Sequence[str], *, heads: int, grid: Grid) -> None:
        super().__init__(inputs=query_key(layers), layers=layers)
        self.heads, self.grid = heads, grid

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """query and key [B, T, 1+P+1, D] per layer -> [B, H, T, rows, columns] each."""
        return tuple(
            in_frames(
                class_row(query.flatten(0, 1), key.flatten(0, 1), heads=self.heads), query.shape[1], self.grid
            )
            for query, key in pairs(inputs)
        )


class FrameReceived(MapProgram):
    kind = "frame_grid"
    axes = ("frame", "row", "column")
    description = (
        "How much attention each patch receives within its frame, summed over queries; 1 is uniform."
    )

    def __init__(self, layers: Sequence[str], *, heads: int, grid: Grid) -> None:
        super().__init__(inputs=query_key(layers), layers=layers)
        self.heads, self.grid = heads, grid

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(
            in_frames(
                received(query.flatten(0, 1), key.flatten(0, 1), heads=self.heads), query.shape[1], self.grid
            )
            for query, key in pairs(inputs)
        )


class FrameValueNorm(MapProgram):
    kind = "frame_grid"
    axes = ("head", "frame", "row", "column")
    description = "The length of what each patch gives to its frame's class token, per layer and head."

    def __init__(
        self, layers: Sequence[str], attentions: Sequence[MultiHeadAttention], *, grid: Grid
    ) -> None:
        super().__init__(inputs=query_key_value(layers), layers=layers)
        self.heads, self.grid = attentions[0].heads, grid
        self.factors = nn.ParameterList(output_factors(attention) for attention in attentions)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(
            in_frames(
                value_norm(*(tap.flatten(0, 1) for tap in taps), factors=factors), taps[0].shape[1], self.grid
            )
            for taps, factors in zip(triples(inputs), self.factors, strict=True)
        )


class Messages(MapProgram):
    kind = "frame_matrix"
    axes = ("head", "query_frame", "key_frame")
    description = "Which frame listens to which, per layer and head."

    def __init__(self, layers: Sequence[str], *, heads: int) -> None:
        super().__init__(inputs=query_key(layers), layers=layers)
        self.heads = heads

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(attention(query, key, heads=self.heads) for query, key in pairs(inputs))


class FrameImportance(MapProgram):
    kind = "frames"
    axes = ("frame",)
    description = "What each frame gives to the prediction in the last temporal attention."

    def __init__(self, layer: str, *, heads: int) -> None:
        super().__init__(inputs=query_key([layer]))
        self.heads = heads

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return (frame_importance(inputs[0], inputs[1], heads=self.heads),)


class SpaceTimeRollout(RolloutMap):
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
        grid: Grid,
    ) -> None:
        super().__init__(inputs=query_key([*frames, *messages, temporal]))
        self.heads, self.temporal_heads, self.grid = heads, temporal_heads, grid

    def mixed(self, inputs: Sequence[Tensor], mix: Mix) -> Tensor:
        *layers, temporal = pairs(inputs)
        half = len(layers) // 2
        rows = space_time_rollout(
            layers[:half],
            layers[half:],
            temporal,
            heads=self.heads,
            temporal_heads=self.temporal_heads,
            mix=mix,
        )
        out: Tensor = rows.unflatten(-1, self.grid)  # [B, T, rows, columns]
        return out


class LabelPatches(MapProgram):
    kind = "grid"
    axes = ("head", "label", "row", "column")
    description = "What each label's prompt attends to among the patches, averaged over frames."

    def __init__(self, layers: Sequence[str], *, heads: int, grid: tuple[int, int]) -> None:
        super().__init__(inputs=query_key(layers), layers=layers)
        self.heads, self.grid = heads, grid

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(attention(q, k, heads=self.heads).unflatten(-1, self.grid) for q, k in pairs(inputs))


class FrameAttention(MapProgram):
    kind = "grid_matrix"
    axes = ("head", "query_token", "row", "column")
    description = "What chosen tokens of one frame attend to among its patches, in one layer, per head."
    sliced = True

    def __init__(self, layers: Sequence[str], *, heads: int, grid: Grid) -> None:
        super().__init__(inputs=["query", "key", "rows", "frame"], layers=layers, tokens_before=1)
        self.heads, self.grid = heads, grid

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        query, key, rows, frame = inputs
        query, key = (tap.index_select(1, frame)[:, 0] for tap in (query, key))  # [B, 1+P+1, D]
        found = attention(query.index_select(1, rows), key, heads=self.heads)
        return (found[..., 1:-1].unflatten(-1, self.grid),)


class FrameGradientMap(GradientMap):
    kind = "frame_grid"
    axes = ("frame", "row", "column")

    def __init__(self, model: nn.Module, index: int, *, inputs: Sequence[str], grid: Grid) -> None:
        super().__init__(model, index, inputs=inputs)
        self.grid = grid

    def placed(self, values: Tensor) -> Tensor:
        out: Tensor = values.unflatten(-1, self.grid)
        return out
