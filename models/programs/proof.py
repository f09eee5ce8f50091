"""What an answer is verified by: the softmax of one layer made again from its taps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.attention import some_heads, weights


class Proof(nn.Module):
    """How far the fused attention of one layer is from the explicit one.

    Takes the layer's taps `query`, `key`, `value`, `mixed` [B, N, D] (of clips [B, T, N, D]) and, for texts,
    `lengths` [B]. Returns the largest distance of a row's sum from 1, [B], and the largest difference of what
    the fused node gave from softmax(QKt)V, as a share of the largest value, [B].
    """

    def __init__(self, *, heads: int, lengths: bool) -> None:
        super().__init__()
        self.heads = heads
        self.inputs = ("query", "key", "value", "mixed", *(["lengths"] if lengths else []))

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        query, key, value, mixed, *lengths = inputs
        batch = query.shape[0]
        query, key, value, mixed = (x.flatten(0, -3) for x in (query, key, value, mixed))
        off, apart = [], []
        for some_query, some_key, some_value, some_mixed in some_heads(
            query, key, value, mixed, heads=self.heads
        ):
            rows = weights(some_query, some_key, lengths=lengths[0] if lengths else None)
            off.append(largest(rows.sum(-1) - 1, batch))
            apart.append(largest(rows @ some_value - some_mixed, batch))
        whole = largest(mixed, batch).clamp_min(torch.finfo(mixed.dtype).tiny)  # zeros equal to zeros
        return torch.stack(off).amax(0), torch.stack(apart).amax(0) / whole


def largest(values: Tensor, batch: int) -> Tensor:
    """The largest distance from 0 in each input: [B, ...] or [B*T, ...] -> [B]; that of NaN is infinite.

    In so many words, because ONNX Runtime's maximum passes over NaN.
    """
    distances = torch.where(values.isnan(), torch.inf, values.abs())
    out: Tensor = distances.unflatten(0, (batch, -1)).flatten(1).amax(1)
    return out
