"""Maps of texts."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from models.attention import MultiHeadAttention
from models.maps import Mix, attention, class_row, output_factors, received, rollout, value_norm
from models.programs.program import MapProgram, pairs, query_key, query_key_value, triples
from models.programs.rollouts import RolloutMap


class ClassRows(MapProgram):
    kind = "tokens"
    axes = ("head", "token")
    description = "What the class token attends to, per layer and head."

    def __init__(self, layers: Sequence[str], *, heads: int) -> None:
        super().__init__(inputs=["lengths", *query_key(layers)], layers=layers)
        self.heads = heads

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(class_row(q, k, heads=self.heads, lengths=inputs[0]) for q, k in pairs(inputs[1:]))


class Received(MapProgram):
    kind = "tokens"
    axes = ("token",)
    description = "How much attention each token receives, summed over queries; 1 is uniform."

    def __init__(self, layers: Sequence[str], *, heads: int) -> None:
        super().__init__(inputs=["lengths", *query_key(layers)], layers=layers)
        self.heads = heads

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(received(q, k, heads=self.heads, lengths=inputs[0]) for q, k in pairs(inputs[1:]))


class ValueNorm(MapProgram):
    kind = "tokens"
    axes = ("head", "token")
    description = "The length of what each token gives to the class token's output, per layer and head."

    def __init__(self, layers: Sequence[str], attentions: Sequence[MultiHeadAttention]) -> None:
        super().__init__(inputs=["lengths", *query_key_value(layers)], layers=layers)
        self.heads = attentions[0].heads
        self.factors = nn.ParameterList(output_factors(attention) for attention in attentions)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        layers = zip(triples(inputs[1:]), self.factors, strict=True)
        return tuple(value_norm(*taps, factors=factors, lengths=inputs[0]) for taps, factors in layers)


class Rollout(RolloutMap):
    kind = "tokens"
    axes = ("token",)
    description = "Attention rollout of the class token through all layers."

    def __init__(self, layers: Sequence[str], *, heads: int) -> None:
        super().__init__(inputs=["lengths", *query_key(layers)])
        self.heads = heads

    def mixed(self, inputs: Sequence[Tensor], mix: Mix) -> Tensor:
        lengths, *taps = inputs
        return rollout(pairs(taps), heads=self.heads, lengths=lengths, mix=mix)


class TokenAttention(MapProgram):
    kind = "token_matrix"
    axes = ("head", "query_token", "key_token")
    description = "What chosen tokens attend to, in one layer, per head."
    sliced = True

    def __init__(self, layers: Sequence[str], *, heads: int) -> None:
        super().__init__(inputs=["query", "key", "lengths", "rows"], layers=layers)
        self.heads = heads

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        query, key, lengths, rows = inputs
        return (attention(query.index_select(1, rows), key, heads=self.heads, lengths=lengths),)
