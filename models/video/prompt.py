"""X-CLIP's prompts: what a video adds to the embedding of each label."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models import adjoints
from models.attention import MultiHeadAttention, Taps
from models.video.config import XCLIPConfig
from models.video.residual import mlp


class PromptBlock(nn.Module):
    """A label's embedding attends to the patches of the video."""

    def __init__(self, *, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = MultiHeadAttention(width=width, heads=heads, bias=False)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = mlp(width)

    def forward(self, labels: Tensor, visual: Tensor) -> tuple[Tensor, Taps]:
        """labels [B, K, E], visual [B, P, E] -> [B, K, E]; taps as a `ResidualBlock` has them."""
        out, taps = self.attention(self.norm1(labels), visual)
        attended = labels + out
        out, hidden = self.mlp(self.norm2(attended))
        return attended + out, taps | {"input": labels, "attended": attended, "hidden": hidden}

    def adjoint(self, gradient: Tensor, taps: Taps) -> tuple[Tensor, Tensor, Tensor]:
        """Gradient by the output [B, K, E] -> by labels, by visual [B, P, E], and the relevance [B, K, P]."""
        through = self.mlp.adjoint(gradient, taps["hidden"])
        gradient = gradient + adjoints.layer_norm(self.norm2, taps["attended"], through)
        through, by_visual, relevance = adjoints.cross_attention(self.attention, taps, gradient)
        gradient = gradient + adjoints.layer_norm(self.norm1, taps["input"], through)
        return gradient, by_visual, relevance


class PromptGenerator(nn.Module):
    """What the video adds to each label's embedding."""

    def __init__(self, config: XCLIPConfig) -> None:
        super().__init__()
        self.visual_norm = nn.LayerNorm(config.vision.width)
        self.visual_projection = nn.Linear(config.vision.width, config.embed, bias=False)
        self.norm = nn.LayerNorm(config.embed)
        self.blocks = nn.ModuleList(
            PromptBlock(width=config.embed, heads=config.prompt.heads) for _ in range(config.prompt.layers)
        )
        self.alpha = nn.Parameter(torch.full((config.embed,), 0.1))

    def forward(self, labels: Tensor, patches: Tensor) -> tuple[Tensor, Tensor, list[Taps]]:
        """labels [K, E] (or [B, K, E]), patches [B, T, P, D].

        Returns the addition [B, K, E], the mean over frames that is normed for the blocks [B, P, E], and
        each block's taps.
        """
        seen = self.visual_projection(self.visual_norm(patches)).mean(1)  # [B, P, E]
        visual = self.norm(seen)
        x = labels.expand(patches.shape[0], -1, -1)
        layers = []
        for block in self.blocks:
            x, taps = block(x, visual)
            layers.append(taps)
        return self.alpha * x, seen, layers

    def adjoint(
        self, gradient: Tensor, patches: Tensor, seen: Tensor, layers: list[Taps]
    ) -> tuple[Tensor, list[Tensor]]:
        """Gradient by the addition [B, K, E] -> by the patches [B, T, P, D], and the relevance of each
        block [B, K, P], last block first.
        """
        blocks: list[PromptBlock] = list(self.blocks)  # type: ignore[arg-type]
        gradient = gradient * self.alpha.to(gradient.dtype)
        by_visual, found = torch.zeros_like(seen), []
        for block, taps in zip(reversed(blocks), reversed(layers), strict=True):
            gradient, through, relevance = block.adjoint(gradient, taps)
            by_visual = by_visual + through
            found.append(relevance)
        by_seen = adjoints.layer_norm(self.norm, seen, by_visual) / patches.shape[1]
        by_projection = adjoints.linear(self.visual_projection, by_seen)[:, None]  # the same for each frame
        return adjoints.layer_norm(self.visual_norm, patches, by_projection), found
