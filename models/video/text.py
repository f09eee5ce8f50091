"""X-CLIP's text tower, which encodes the labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.video.config import XCLIPConfig
from models.video.residual import ResidualBlock


class TextTower(nn.Module):
    """Causal CLIP text transformer, pooled at the end token, which has the highest id."""

    def __init__(self, config: XCLIPConfig) -> None:
        super().__init__()
        width = config.text.width
        self.tokens = nn.Embedding(config.vocabulary, width)
        self.positions = nn.Parameter(torch.randn(config.context, width) * 0.01)
        self.blocks = nn.ModuleList(
            ResidualBlock(width=width, heads=config.text.heads) for _ in range(config.text.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.projection = nn.Linear(width, config.embed, bias=False)

    def forward(self, input_ids: Tensor) -> Tensor:
        """input_ids [K, N] -> embeddings [K, E]."""
        x = self.tokens(input_ids) + self.positions[: input_ids.shape[1]]
        for block in self.blocks:
            x, _ = block(x, causal=True)
        ends = self.norm(x)[torch.arange(len(x), device=x.device), input_ids.argmax(1)]
        out: Tensor = self.projection(ends)
        return out
