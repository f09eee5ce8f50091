"""Scaled dot-product attention: pure functions first, then the multi-head module built on them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

Taps = dict[str, Tensor]
HEADS_AT_ONCE = 4
ATTENTION_TAPS = ("query", "key", "value", "mixed")

# Added to the score of a key that must not be seen. Far below any real score, yet finite in fp16, and
# small enough for exp to give exactly 0: a row that sees no key at all falls back to all, never to NaN.
HIDDEN = -30000.0


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[..., N, H*d] -> [..., H, N, d]."""
    out: Tensor = x.unflatten(-1, (heads, -1)).transpose(-2, -3)
    return out


def some_heads(*packed: Tensor, heads: int) -> Iterator[tuple[Tensor, ...]]:
    """A few heads after the others, of each of these tensors: [..., N, H*d] -> [..., h, N, d].

    What is made for every pair of tokens then stays small: measured on CPU at 512 tokens, a rollout takes
    three quarters of the time that it takes with 12 heads at once, and a third of the memory.
    """
    for start in range(0, heads, HEADS_AT_ONCE):
        count = min(HEADS_AT_ONCE, heads - start)
        widths = [x.shape[-1] // heads for x in packed]
        yield tuple(
            split_heads(x[..., start * width : (start + count) * width], count)
            for x, width in zip(packed, widths, strict=True)
        )


def merge_heads(x: Tensor) -> Tensor:
    """[..., H, N, d] -> [..., N, H*d]."""
    return x.transpose(-2, -3).flatten(-2)


def scores(query: Tensor, key: Tensor, *, scale: float | None = None) -> Tensor:
    """Scaled dot products of every query with every key.

    query [..., N, d], key [..., M, d] -> [..., N, M]; `scale` is 1/sqrt(d) unless given
    (Vaswani et al. 2017, eq. 1).
    """
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    return (query * scale) @ key.transpose(-1, -2)


def length_bias(lengths: Tensor, keys: int, dtype: torch.dtype) -> Tensor:
    """What to add to scores so that right padding is not seen: lengths [B] -> [B, 1, 1, M]."""
    padded = torch.arange(keys, device=lengths.device) >= lengths[:, None]
    return (padded.to(dtype) * HIDDEN)[:, None, None, :]


def causal_bias(queries: int, keys: int, like: Tensor) -> Tensor:
    """What to add to scores so that query i sees keys 0..i alone: [N, M]."""
    return torch.full((queries, keys), HIDDEN, dtype=like.dtype, device=like.device).triu(1)


def weights(
    query: Tensor,
    key: Tensor,
    *,
    lengths: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Attention probabilities; every row sums to 1 over the keys that it may see.

    query [B, H, N, d], key [B, H, M, d], lengths [B] (keys that are not padding) -> [B, H, N, M].
    """
    logits = scores(query, key, scale=scale)
    if lengths is not None:
        logits = logits + length_bias(lengths, key.shape[-2], logits.dtype)
    if causal:
        logits = logits + causal_bias(query.shape[-2], key.shape[-2], logits)
    return logits.softmax(-1)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    heads: int,
    lengths: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Softmax attention over packed heads.

    query [B, N, H*d], key [B, M, H*d], value [B, M, H*e], lengths [B] -> [B, N, H*e].

    In eager mode this is the explicit softmax. While a graph is exported it is one fused ai.onnx
    `Attention` node (opset 24), whose probabilities exist nowhere; maps are made from query and key.
    """
    if torch.compiler.is_exporting():
        return _fused(query, key, value, heads, lengths, causal, scale)
    query, key, value = (split_heads(x, heads) for x in (query, key, value))
    return merge_heads(weights(query, key, lengths=lengths, causal=causal, scale=scale) @ value)


def _fused(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    heads: int,
    lengths: Tensor | None,
    causal: bool,
    scale: float | None,
) -> Tensor:
    attributes: dict[str, Any] = {"q_num_heads": heads, "kv_num_heads": heads, "is_causal": int(causal)}
    if scale is not None:
        attributes["scale"] = scale
    inputs: tuple[Tensor | None, ...] = (query, key, value)
    if lengths is not None:
        inputs += (None, None, None, lengths)
    shape = (*query.shape[:-1], value.shape[-1])
    (output,) = torch.onnx.ops.symbolic_multi_out(
        "Attention", inputs, attrs=attributes, dtypes=(query.dtype,), shapes=(shape,), version=24
    )
    return output


class MultiHeadAttention(nn.Module):
    """Multi-head attention that hands out its projected queries, keys and values, and what it made of them.

    `source_width` is the width of the key-value source where it differs from the queries' own.
    """

    def __init__(
        self,
        *,
        width: int,
        heads: int,
        source_width: int | None = None,
        bias: bool = True,
        out_bias: bool = True,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not divisible by {heads} heads")
        source_width = width if source_width is None else source_width
        self.heads = heads
        self.query = nn.Linear(width, width, bias=bias)
        self.key = nn.Linear(source_width, width, bias=bias)
        self.value = nn.Linear(source_width, width, bias=bias)
        self.out = nn.Linear(width, width, bias=out_bias)

    def forward(
        self,
        x: Tensor,
        source: Tensor | None = None,
        *,
        lengths: Tensor | None = None,
        causal: bool = False,
    ) -> tuple[Tensor, Taps]:
        """x [B, N, D], source [B, M, S] (x itself unless given), lengths [B] of the source.

        Returns the output [B, N, D] and the taps `query`, `key`, `value` ([B, N, D], [B, M, D] twice) and
        `mixed` [B, N, D], the mixture of values before the output projection.
        """
        source = x if source is None else source
        query, key, value = self.query(x), self.key(source), self.value(source)
        mixed = attend(query, key, value, heads=self.heads, lengths=lengths, causal=causal)
        return self.out(mixed), {"query": query, "key": key, "value": value, "mixed": mixed}


def attention_taps(layer: str, taps: Taps) -> Taps:
    """A layer's attention taps under `LAYER.`; what else it hands out is for its own adjoint."""
    return {f"{layer}.{name}": taps[name] for name in ATTENTION_TAPS}
