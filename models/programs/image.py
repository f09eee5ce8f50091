"""Maps of pictures with patches for tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from models.attention import MultiHeadAttention
from models.maps import Mix, attention, output_factors, received, rollout, token_row, value_norm
from models.programs.gradients import GradientMap
from models.programs.program import MapProgram, pairs, query_key, query_key_value, triples
from models.programs.rollouts import RolloutMap

Grid = tuple[int, int]


def patch_grid(row: Tensor, grid: Grid) -> Tensor:
    """A row over tokens, the patches last [..., prefix+P] -> the patches as a grid [..., rows, columns]."""
    rows, columns = grid
    out: Tensor = row[..., -rows * columns :].unflatten(-1, grid)
    return out


class PatchRows(MapProgram):
    kind = "grid"
    axes = ("head", "row", "column")
    description = "What the class token attends to among the patches, per layer and head."
    token: ClassVar[int] = 0

    def __init__(self, layers: Sequence[str], *, heads: int, grid: tuple[int, int]) -> None:
        super().__init__(inputs=query_key(layers), layers=layers)
        self.heads, self.grid = heads, grid

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        rows = (token_row(q, k, token=self.token, heads=self.heads) for q, k in pairs(inputs))
        return tuple(patch_grid(row, self.grid) for row in rows)


class DistillationRows(PatchRows):
    description = "What the distillation token attends to among the patches, per layer and head."
    token = 1


class PatchReceived(MapProgram):
    kind = "grid"
    axes = ("row", "column")
    description = "How much attention each patch receives, summed over queries; 1 is uniform."

    def __init__(self, layers: Sequence[str], *, heads: int, grid: Grid) -> None:
        super().__init__(inputs=query_key(layers), layers=layers)
        self.heads, self.grid = heads, grid

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(patch_grid(received(q, k, heads=self.heads), self.grid) for q, k in pairs(inputs))


class PatchValueNorm(MapProgram):
    kind = "grid"
    axes = ("head", "row", "column")
    description = "The length of what each patch gives to the class token's output, per layer and head."

    def __init__(
        self, layers: Sequence[str], attentions: Sequence[MultiHeadAttention], *, grid: Grid
    ) -> None:
        super().__init__(inputs=query_key_value(layers), layers=layers)
        self.heads, self.grid = attentions[0].heads, grid
        self.factors = nn.ParameterList(output_factors(attention) for attention in attentions)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        layers = zip(triples(inputs), self.factors, strict=True)
        return tuple(patch_grid(value_norm(*taps, factors=factors), self.grid) for taps, factors in layers)


class PatchRollout(RolloutMap):
    kind = "grid"
    axes = ("row", "column")
    description = "Attention rollout of the class token through all layers, to the patches."

    def __init__(self, layers: Sequence[str], *, heads: int, grid: Grid) -> None:
        super().__init__(inputs=query_key(layers))
        self.heads, self.grid = heads, grid

    def mixed(self, inputs: Sequence[Tensor], mix: Mix) -> Tensor:
        return patch_grid(rollout(pairs(inputs), heads=self.heads, mix=mix), self.grid)


class PatchAttention(MapProgram):
    kind = "grid_matrix"
    axes = ("head", "query_token", "row", "column")
    description = "What chosen tokens attend to among the patches, in one layer, per head."
    sliced = True

    def __init__(self, layers: Sequence[str], *, heads: int, grid: Grid, tokens_before: int) -> None:
        super().__init__(inputs=["query", "key", "rows"], layers=layers, tokens_before=tokens_before)
        self.heads, self.grid = heads, grid

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        query, key, rows = inputs
        return (patch_grid(attention(query.index_select(1, rows), key, heads=self.heads), self.grid),)


class PatchGradientMap(GradientMap):
    kind = "grid"
    axes = ("row", "column")

    def __init__(self, model: nn.Module, index: int, *, inputs: Sequence[str], grid: Grid) -> None:
        super().__init__(model, index, inputs=inputs)
        self.grid = grid

    def placed(self, values: Tensor) -> Tensor:
        return patch_grid(values, self.grid)
