"""X-CLIP's vision tower: attention within frames, and messages between them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models import adjoints
from models.attention import MultiHeadAttention, Taps
from models.video.config import XCLIPConfig
from models.video.residual import ResidualBlock


class CrossFrameBlock(nn.Module):
    """Cross-frame attention among message tokens, then attention inside each frame with its message."""

    def __init__(self, *, width: int, heads: int) -> None:
        super().__init__()
        self.message_fc = nn.Linear(width, width)
        self.message_norm = nn.LayerNorm(width)
        self.message_attention = MultiHeadAttention(width=width, heads=heads)
        self.frame = ResidualBlock(width=width, heads=heads)

    def forward(self, x: Tensor) -> tuple[Tensor, Taps, Taps]:
        """x [B, T, 1+P, D], the class token first.

        Returns the same shape; the taps of the frames [B*T, 1+P+1, D], message last, as a `ResidualBlock`
        has them; those of the attention among messages [B, T, D], and `input`, what their norm gets.
        """
        message = self.message_fc(x[:, :, 0])  # [B, T, D]
        spoken, message_taps = self.message_attention(self.message_norm(message))
        with_message = torch.cat([x, (message + spoken)[:, :, None]], 2).flatten(0, 1)  # [B*T, 1+P+1, D]
        block = self.frame
        out, taps = block.attention(block.norm1(with_message))
        attended = (with_message + out)[:, :-1]  # the message has been heard: drop it
        out, hidden = block.mlp(block.norm2(attended))
        taps = taps | {"input": with_message, "attended": attended, "hidden": hidden}
        return (attended + out).unflatten(0, (-1, x.shape[1])), taps, message_taps | {"input": message}

    def adjoint(self, gradient: Tensor, taps: Taps, message_taps: Taps) -> tuple[Tensor, Tensor, Tensor]:
        """Gradient by the output [B, T, 1+P, D] -> by x, and the relevance within frames [B*T, 1+P+1, 1+P+1]
        and among messages [B, T, T].
        """
        time, block = gradient.shape[1], self.frame
        gradient = gradient.flatten(0, 1)
        through = block.mlp.adjoint(gradient, taps["hidden"])
        gradient = gradient + adjoints.layer_norm(block.norm2, taps["attended"], through)
        gradient = nn.functional.pad(gradient, (0, 0, 0, 1))  # of the message nothing was left
        through, relevance = adjoints.self_attention(block.attention, taps, gradient)
        gradient = gradient + adjoints.layer_norm(block.norm1, taps["input"], through)
        gradient = gradient.unflatten(0, (-1, time))  # [B, T, 1+P+1, D]
        message = gradient[:, :, -1]
        through, spoken = adjoints.self_attention(self.message_attention, message_taps, message)
        message = message + adjoints.layer_norm(self.message_norm, message_taps["input"], through)
        first = gradient[:, :, :1] + adjoints.linear(self.message_fc, message)[:, :, None]
        return torch.cat([first, gradient[:, :, 1:-1]], 2), relevance, spoken


class VisionTower(nn.Module):
    """Frames to one embedding per frame and per patch."""

    def __init__(self, config: XCLIPConfig) -> None:
        super().__init__()
        width, (rows, columns) = config.vision.width, config.grid
        self.patches = nn.Conv2d(3, width, config.patch, config.patch, bias=False)
        self.class_token = nn.Parameter(torch.randn(width) * width**-0.5)
        self.positions = nn.Parameter(torch.randn(1 + rows * columns, width) * width**-0.5)
        self.norm_pre = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(
            CrossFrameBlock(width=width, heads=config.vision.heads) for _ in range(config.vision.layers)
        )
        self.norm_post = nn.LayerNorm(width)
        self.projection = nn.Linear(width, config.embed, bias=False)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, list[tuple[Taps, Taps]]]:
        """frames [B, T, 3, H, W] -> class embeddings [B, T, E], tokens [B, T, 1+P, D], each block's taps."""
        time = frames.shape[1]
        patches = self.patches(frames.flatten(0, 1)).flatten(2).transpose(1, 2)  # [B*T, P, D]
        first = self.class_token.expand(patches.shape[0], 1, -1)
        x = self.norm_pre(torch.cat([first, patches], 1) + self.positions).unflatten(0, (-1, time))
        layers = []
        for block in self.blocks:
            x, *taps = block(x)
            layers.append((taps[0], taps[1]))
        return self.projection(self.norm_post(x[:, :, 0])), x, layers

    def adjoint(self, gradient: Tensor, tokens: Tensor) -> Tensor:
        """Gradient by the class embeddings [B, T, E] -> by the tokens [B, T, 1+P, D]."""
        by_class = adjoints.layer_norm(
            self.norm_post, tokens[:, :, 0], adjoints.linear(self.projection, gradient)
        )
        return nn.functional.pad(by_class[:, :, None], (0, 0, 0, tokens.shape[2] - 1))
