"""X-CLIP's attention over the embeddings of frames."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.attention import Taps
from models.video.config import XCLIPConfig
from models.video.residual import ResidualBlock


class FrameIntegration(nn.Module):
    """MIT: attention over the frames' embeddings, then their mean."""

    def __init__(self, config: XCLIPConfig) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(1, config.frames, config.embed) * 0.02)
        self.blocks = nn.ModuleList(
            ResidualBlock(width=config.embed, heads=config.temporal.heads)
            for _ in range(config.temporal.layers)
        )

    def forward(self, frames: Tensor) -> tuple[Tensor, list[Taps]]:
        """frames [B, T, E] -> video [B, E], each block's taps."""
        x = frames + self.positions
        layers = []
        for block in self.blocks:
            x, taps = block(x)
            layers.append(taps)
        return (x + frames).mean(1), layers

    def adjoint(self, gradient: Tensor, layers: list[Taps]) -> tuple[Tensor, list[Tensor]]:
        """Gradient by the video [B, E] -> by the frames [B, T, E], and the relevance of each block
        [B, T, T], last block first.
        """
        time = layers[0]["input"].shape[1]
        blocks: list[ResidualBlock] = list(self.blocks)  # type: ignore[arg-type]
        mean = (gradient / time)[:, None].expand(-1, time, -1)
        gradient, found = mean, []
        for block, taps in zip(reversed(blocks), reversed(layers), strict=True):
            gradient, relevance = block.adjoint(gradient, taps)
            found.append(relevance)
        return gradient + mean, found
