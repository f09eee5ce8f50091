"""Adjoints of the layers that transformers are made of: from the gradient of a logit by a layer's output to
that by its input, in closed form. What `torch.autograd` would give, as plain operations that can be exported.

Weights are taken in the precision of the gradient.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from models.activation import QuickGELU
from models.attention import ATTENTION_TAPS, MultiHeadAttention, Taps, merge_heads, some_heads, weights
from models.once import once


def linear(layer: nn.Linear, gradient: Tensor) -> Tensor:
    """y = x Wt + b: gradient by y [..., E] -> by x [..., D]."""
    return gradient @ layer.weight.to(gradient.dtype)


def layer_norm(layer: nn.LayerNorm, x: Tensor, gradient: Tensor) -> Tensor:
    """Layer norm over the last axis (Ba et al. 2016): x and the gradient by its norm [..., D] -> by x."""
    centred = x - x.mean(-1, keepdim=True)
    spread = (centred.square().mean(-1, keepdim=True) + layer.eps).rsqrt()
    normal, gradient = centred * spread, gradient * layer.weight.to(gradient.dtype)
    along = (gradient * normal).mean(-1, keepdim=True)
    return spread * (gradient - gradient.mean(-1, keepdim=True) - normal * along)


def normalize(x: Tensor, gradient: Tensor) -> Tensor:
    """y = x / |x| over the last axis: x and the gradient by y [..., D] -> by x."""
    length = x.norm(dim=-1, keepdim=True)
    normal = x / length
    out: Tensor = (gradient - normal * (gradient * normal).sum(-1, keepdim=True)) / length
    return out


def activation(layer: nn.Module, x: Tensor, gradient: Tensor) -> Tensor:
    """One of `ACTIVATIONS`: what went in and the gradient by what came out -> by what went in."""
    return gradient * slope(layer, x)


def slope(layer: nn.Module, x: Tensor) -> Tensor:
    """The derivative of an activation at x; raises TypeError for one that has none here."""
    if isinstance(layer, nn.ReLU):
        return (x > 0).to(x.dtype)
    if isinstance(layer, nn.Tanh):
        return 1 - x.tanh().square()
    if isinstance(layer, QuickGELU):
        gate = torch.sigmoid(1.702 * x)
        return gate * (1 + 1.702 * x * (1 - gate))
    if isinstance(layer, nn.GELU) and layer.approximate == "tanh":
        # Hendrycks and Gimpel 2016: x/2 (1 + tanh(c (x + 0.044715 x^3))), c = sqrt(2 / pi)
        scale = math.sqrt(2 / math.pi)
        bend = (scale * (x + 0.044715 * x**3)).tanh()
        return (1 + bend + x * (1 - bend.square()) * scale * (1 + 3 * 0.044715 * x.square())) / 2
    if isinstance(layer, nn.GELU):
        density = (-x.square() / 2).exp() / math.sqrt(2 * math.pi)
        return (1 + torch.erf(x / math.sqrt(2))) / 2 + x * density
    raise TypeError(f"no derivative is known of {layer}")


@once(
    lambda query, key, value, *_, **__: [
        *(x.shape for x in (query, key, value)),
        (*query.shape[:2], key.shape[1]),
    ]
)
def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mixed: Tensor,
    gradient: Tensor,
    *,
    heads: int,
    lengths: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Softmax attention: query [B, N, D], key and value [B, M, D], what they made and the gradient by that
    [B, N, D] -> by query, key and value, and the relevance [B, N, M]: the positive part of the gradient by
    the probabilities, times these, mean over heads (Chefer et al. 2021, eq. 5).

    With A the probabilities, v the values and O what they make: dA_ij = dO_i . v_j, and through the softmax
    dS_ij = A_ij (dA_ij - dO_i . O_i), which needs no sum over keys (Dao et al. 2022, appendix B).
    """
    by_query, by_key, by_value, relevance = [], [], [], []
    packed = some_heads(query, key, value, mixed, gradient, heads=heads)
    for query, key, value, mixed, by_mixed in packed:
        probabilities = weights(query, key, lengths=lengths)  # [B, h, N, M]
        weighted = probabilities * (by_mixed @ value.transpose(-1, -2))
        scored = weighted - probabilities * (by_mixed * mixed).sum(-1, keepdim=True)
        scored = scored * query.shape[-1] ** -0.5
        by_query.append(merge_heads(scored @ key))
        by_key.append(merge_heads(scored.transpose(-1, -2) @ query))
        by_value.append(merge_heads(probabilities.transpose(-1, -2) @ by_mixed))
        relevance.append(weighted.relu().sum(1))
    return (
        torch.cat(by_query, -1),
        torch.cat(by_key, -1),
        torch.cat(by_value, -1),
        sum(relevance[1:], relevance[0]) / heads,
    )


def cross_attention(
    layer: MultiHeadAttention, taps: Taps, gradient: Tensor, *, lengths: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The whole module: gradient by its output [B, N, D] -> by x [B, N, D], by the source [B, M, S], and the
    relevance [B, N, M].
    """
    query, key, value, mixed = (taps[name] for name in ATTENTION_TAPS)
    by_query, by_key, by_value, relevance = attention(
        query, key, value, mixed, linear(layer.out, gradient), heads=layer.heads, lengths=lengths
    )
    by_source = linear(layer.key, by_key) + linear(layer.value, by_value)
    return linear(layer.query, by_query), by_source, relevance


def self_attention(
    layer: MultiHeadAttention, taps: Taps, gradient: Tensor, *, lengths: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The whole module on one source: gradient by its output [B, N, D] -> by x, and relevance [B, N, N]."""
    by_x, by_source, relevance = cross_attention(layer, taps, gradient, lengths=lengths)
    return by_x + by_source, relevance
