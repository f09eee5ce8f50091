"""From taps to attention maps: pure functions; `models/programs.py` makes graphs of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from models.attention import MultiHeadAttention, some_heads, split_heads, weights
from models.once import once
from models.relevance import class_token


def attention(query: Tensor, key: Tensor, *, heads: int, lengths: Tensor | None = None) -> Tensor:
    """Attention probabilities from taps: query [B, N, D], key [B, M, D] -> [B, H, N, M]."""
    return weights(split_heads(query, heads), split_heads(key, heads), lengths=lengths)


def class_row(query: Tensor, key: Tensor, *, heads: int, lengths: Tensor | None = None) -> Tensor:
    """What the class token (the first) attends to: query [B, N, D], key [B, M, D] -> [B, H, M]."""
    return token_row(query, key, token=0, heads=heads, lengths=lengths)


@once(lambda query, key, *, heads, **_: [(query.shape[0], heads, key.shape[1])])
def token_row(query: Tensor, key: Tensor, *, token: int, heads: int, lengths: Tensor | None = None) -> Tensor:
    """What one token attends to: query [B, N, D], key [B, M, D] -> [B, H, M].

    Linear in the number of tokens: no other row is computed.
    """
    return attention(query[:, token : token + 1], key, heads=heads, lengths=lengths)[:, :, 0]


def received(query: Tensor, key: Tensor, *, heads: int, lengths: Tensor | None = None) -> Tensor:
    """How much attention each key receives, summed over queries, mean over heads: -> [B, M].

    Above 1 is above uniform. Queries that are padding give nothing.
    """
    return gathered(live(query, lengths), query, key, heads=heads, lengths=lengths)


@once(lambda row, query, key, **_: [key.shape[:2]])
def gathered(row: Tensor, query: Tensor, key: Tensor, *, heads: int, lengths: Tensor | None = None) -> Tensor:
    """A row over queries times the mean of all heads' attention: [B, N], [B, N, D], [B, M, D] -> [B, M]."""
    out: Tensor = torch.zeros_like(key[:, :, 0])
    for some_query, some_key in some_heads(query, key, heads=heads):
        out = out + (row[:, None, None] @ weights(some_query, some_key, lengths=lengths))[:, :, 0].sum(1)
    return out / heads


def live(tokens: Tensor, lengths: Tensor | None) -> Tensor:
    """1 for a token, 0 for padding: tokens [B, N, D], lengths [B] -> [B, N]."""
    if lengths is None:
        return torch.ones_like(tokens[:, :, 0])
    return (torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]).to(tokens.dtype)


def output_factors(attention: MultiHeadAttention) -> nn.Parameter:
    """Per head a square factor R of its part W of the output projection, [H, d, d]: |v W| = |v Rt|.

    What |v W| needs D numbers for takes d of them so: W = (Q R)t with orthonormal Q.
    """
    weight = attention.out.weight.detach()  # [D, H*d]
    parts = weight.unflatten(1, (attention.heads, -1)).transpose(0, 1)  # [H, D, d]
    return nn.Parameter(torch.linalg.qr(parts.double()).R.to(weight.dtype), requires_grad=False)


@once(lambda query, key, value, *, factors, **_: [(query.shape[0], factors.shape[0], key.shape[1])])
def value_norm(
    query: Tensor, key: Tensor, value: Tensor, *, factors: Tensor, lengths: Tensor | None = None
) -> Tensor:
    """|a_0j f(x_j)|, what each token gives to the class token's output: [B, N, D] thrice -> [B, H, N].

    f(x) = (x W_V + b_V) W_O per head (Kobayashi et al. 2020, eq. 5); factors [H, d, d] are those of W_O.
    """
    heads = factors.shape[0]
    given = split_heads(value, heads) @ factors.to(value.dtype).transpose(-1, -2)  # [B, H, N, d]
    out: Tensor = class_row(query, key, heads=heads, lengths=lengths) * given.norm(dim=-1)
    return out


class Mix(Protocol):
    """One layer of a rollout: how a row over tokens goes on to what they attend to, and what stays."""

    def __call__(
        self, row: Tensor, query: Tensor, key: Tensor, *, heads: int, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """row [B, N], query [B, N, D], key [B, M, D] -> what goes on [B, M], what stays [B, N]."""


def halves(
    row: Tensor, query: Tensor, key: Tensor, *, heads: int, lengths: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(A + I) / 2, A the mean of the heads (Abnar and Zuidema 2020)."""
    return gathered(row, query, key, heads=heads, lengths=lengths) / 2, row / 2


ROUNDING = 1e-3  # 0.7 of 10 keys are 7, whatever 0.7 is in binary


@dataclass(frozen=True)
class Tuned:
    """The rows of A' + I, each divided by its sum; A' has heads fused, and the least of each row left out.

    fuse [B]: 0 the mean over heads, 1 the largest, 2 the smallest. discard [B], from 0 to below 1: the share
    of a row's keys, those that it attends to least, that becomes 0; of equal ones none or all.
    """

    fuse: Tensor
    discard: Tensor

    def __call__(
        self, row: Tensor, query: Tensor, key: Tensor, *, heads: int, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        return tuned(row, query, key, self.fuse, self.discard, heads=heads, lengths=lengths)

    def fused(self, parts: Sequence[Tensor], heads: int) -> Tensor:
        """All heads as one: parts of them [B, h, N, M] -> [B, N, M]."""
        mean = torch.stack([part.sum(1) for part in parts]).sum(0) / heads
        largest = torch.stack([part.amax(1) for part in parts]).amax(0)
        smallest = torch.stack([part.amin(1) for part in parts]).amin(0)
        how = self.each(self.fuse, mean)
        return torch.where(how == 0, mean, torch.where(how == 1, largest, smallest))

    def kept(self, fused: Tensor, lengths: Tensor | None) -> Tensor:
        """Rows [B, N, M] without what is discarded; padding is no part of a row, and 0 already."""
        keys = fused.shape[-1]
        seen = torch.full_like(fused[:, 0, 0], keys) if lengths is None else lengths.to(fused.dtype)
        share, seen = self.each(self.discard, fused).to(fused.dtype), seen[:, None, None]
        left_out = torch.minimum((share * seen + ROUNDING).floor(), seen - 1)  # never all
        first = keys - seen + left_out  # [B, 1, 1]
        ordered = fused.sort(-1).values
        index = first.long().expand(-1, fused.shape[1], -1)
        return fused * (fused >= ordered.gather(-1, index)).to(fused.dtype)

    def each(self, values: Tensor, like: Tensor) -> Tensor:
        """One value for each row of a batch, or for each frame of its clips: [B] -> [B*T, 1, 1]."""
        clips = values[:, None].expand(-1, like.shape[0] // values.shape[0])
        return clips.flatten()[:, None, None]


@once(lambda row, query, key, *_, **__: [key.shape[:2], row.shape])
def tuned(
    row: Tensor,
    query: Tensor,
    key: Tensor,
    fuse: Tensor,
    discard: Tensor,
    *,
    heads: int,
    lengths: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """One layer with these parameters of `Tuned`."""
    mix = Tuned(fuse, discard)
    parts = [weights(*some, lengths=lengths) for some in some_heads(query, key, heads=heads)]  # [B, h, N, M]
    fused = mix.kept(mix.fused(parts, heads), lengths)
    stays = row / (fused.sum(-1) + 1)
    return (stays[:, None] @ fused)[:, 0], stays


def rollout(
    pairs: Sequence[tuple[Tensor, Tensor]], *, heads: int, lengths: Tensor | None = None, mix: Mix = halves
) -> Tensor:
    """Attention rollout of the class token over all layers: pairs of (query, key) [B, N, D] -> [B, N].

    Row 0 of the product of the layers' mixing matrices from the last down to the first, as a chain of
    row-by-matrix products. The row sums to 1.
    """
    first = pairs[0][0]
    row = class_token(first).expand(first.shape[0], -1)  # [B, N]
    for query, key in reversed(pairs):
        through, stays = mix(row, query, key, heads=heads, lengths=lengths)
        row = through + stays
    return row


def class_activation(features: Tensor, classifier: Tensor) -> Tensor:
    """Class activation maps: features [B, C, h, w], classifier rows [K, C] -> [B, K, h, w], never negative.

    ReLU(sum_k w_ck F_k / hw): Grad-CAM in closed form for a global average and one linear layer
    (Zhou et al. 2016; Selvaraju et al. 2017).
    """
    places = features.shape[2] * features.shape[3]
    return torch.einsum("bchw,kc->bkhw", features, classifier.to(features.dtype) / places).relu()


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
    mix: Mix = halves,
) -> Tensor:
    """Rollout through frames and the messages between them, read out by frame weights.

    frames: per layer (query, key) [B, T, 1+P+1, D], class token first, message token last; messages: per
    layer (query, key) [B, T, D]; temporal: (query, key) [B, T, E]. Returns [B, T, P]; with the class
    tokens' remainder it sums to 1.

    Per layer, over tokens (t, i): R[(t,i),(u,j)] = d/2 + (A_t[i,j] d_tu + A_t[i,m] M[t,u] d_j,cls) / 2, with
    d Kronecker's delta, m the message token, M = (I + A_message) / 2 and heads fused by their mean. The
    first row is the class token of each frame, weighted by the column mean of (I + A_temporal) / 2. Another
    `mix` takes the place of every (A + I) / 2.
    """
    batch, time = frames[0][0].shape[:2]
    even = torch.full_like(temporal[0][:, :, 0], 1 / time)  # [B, T]
    through, stays = mix(even, *temporal, heads=temporal_heads)
    is_class = class_token(frames[0][0][:, :, :-1])  # [1+P]
    row = (through + stays)[:, :, None] * is_class  # [B, T, 1+P]
    for (query, key), message in zip(reversed(frames), reversed(messages), strict=True):
        inside = mix(row.flatten(0, 1), query.flatten(0, 1)[:, :-1], key.flatten(0, 1), heads=heads)
        through, stays = (part.unflatten(0, (batch, time)) for part in inside)
        heard, kept = mix(through[:, :, -1], *message, heads=heads)
        row = stays + through[:, :, :-1] + (heard + kept)[:, :, None] * is_class
    return row[:, :, 1:]
