"""The pre-LN block of CLIP."""

from __future__ import annotations

from torch import Tensor, nn

from models import adjoints
from models.activation import QuickGELU
from models.attention import MultiHeadAttention, Taps
from models.feedforward import FeedForward


def mlp(width: int) -> FeedForward:
    """Feed-forward, four times as wide inside."""
    return FeedForward(width=width, hidden=4 * width, activation=QuickGELU())


class ResidualBlock(nn.Module):
    """Self-attention and feed-forward, each behind a layer norm and with a residual."""

    def __init__(self, *, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = MultiHeadAttention(width=width, heads=heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = mlp(width)

    def forward(self, x: Tensor, *, causal: bool = False) -> tuple[Tensor, Taps]:
        """x [B, N, D] -> the same shape; the taps are those of the attention, and what a norm or an
        activation gets: `input` and `attended` [B, N, D], `hidden` [B, N, 4D].
        """
        out, taps = self.attention(self.norm1(x), causal=causal)
        attended = x + out
        out, hidden = self.mlp(self.norm2(attended))
        return attended + out, taps | {"input": x, "attended": attended, "hidden": hidden}

    def adjoint(self, gradient: Tensor, taps: Taps) -> tuple[Tensor, Tensor]:
        """Gradient by the output [B, N, D] -> by x, and the relevance [B, N, N].

        Of a block that is not causal.
        """
        through = self.mlp.adjoint(gradient, taps["hidden"])
        gradient = gradient + adjoints.layer_norm(self.norm2, taps["attended"], through)
        through, relevance = adjoints.self_attention(self.attention, taps, gradient)
        return gradient + adjoints.layer_norm(self.norm1, taps["input"], through), relevance
