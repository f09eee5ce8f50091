"""From taps to attention maps: pure functions; `models/programs.py` makes graphs of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from models.attention import split_heads, weights


def attention(query: Tensor, key: Tensor, *, heads: int, lengths: Tensor | None = None) -> Tensor:
    """Attention probabilities from taps: query [B, N, D], key [B, M, D] -> [B, H, N, M]."""
    return weights(split_heads(query, heads), split_heads(key, heads), lengths=lengths)


def class_row(query: Tensor, key: Tensor, *, heads: int, lengths: Tensor | None = None) -> Tensor:
    """What the class token (the first) attends to: query [B, N, D], key [B, M, D] -> [B, H, M]."""
    return token_row(query, key, token=0, heads=heads, lengths=lengths)


def token_row(query: Tensor, key: Tensor, *, token: int, heads: int, lengths: Tensor | None = None) -> Tensor:
    """What one token attends to: query [B, N, D], key [B, M, D] -> [B, H, M].

    Linear in the number of tokens: no other row is computed.
    """
    return attention(query[:, token : token + 1], key, heads=heads, lengths=lengths)[:, :, 0]


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
