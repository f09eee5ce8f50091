"""Vision transformer: patches as tokens behind a class token, pre-LN encoder.

Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words"; the distillation token of Touvron et al. 2021,
"Training data-efficient image transformers & distillation through attention".
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.activation import ACTIVATIONS, Activation
from models.attention import MultiHeadAttention, Taps, named
from models.programs import DistillationRows, MapProgram, PatchRollout, PatchRows


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """Sizes of a vision transformer; `image` and `patch` are height and width in pixels.

    `distillation` adds a second token, after the class token; `teacher` a classifier on it, whose logits and
    those of the class token are averaged.
    """

    image: tuple[int, int]
    patch: tuple[int, int]
    labels: int
    width: int
    layers: int
    heads: int
    feedforward: int
    qkv_bias: bool = True
    activation: Activation = "gelu"
    norm_eps: float = 1e-12
    distillation: bool = False
    teacher: bool = False

    def __post_init__(self) -> None:
        if any(size % patch for size, patch in zip(self.image, self.patch, strict=True)):
            raise ValueError(f"image size {self.image} is not divisible by patch size {self.patch}")
        if self.teacher and not self.distillation:
            raise ValueError("a teacher's classifier needs the distillation token")

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.image[0] // self.patch[0], self.image[1] // self.patch[1]


class Embeddings(nn.Module):
    """Patches as tokens, behind the class token (and the distillation token), with their positions."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        (rows, columns), width = config.grid, config.width
        tokens = (2 if config.distillation else 1) + rows * columns
        self.patches = nn.Conv2d(3, width, config.patch, config.patch)
        self.class_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.distillation_token = (
            nn.Parameter(torch.randn(1, 1, width) * 0.02) if config.distillation else None
        )
        self.positions = nn.Parameter(torch.randn(1, tokens, width) * 0.02)

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels [B, 3, H, W] -> [B, prefix+P, D]."""
        patches = self.patches(pixels).flatten(2).transpose(1, 2)  # [B, P, D]
        tokens: list[Tensor] = [self.class_token, patches]
        if self.distillation_token is not None:
            tokens.insert(1, self.distillation_token)
        batch = pixels.shape[0]  # not len(): export would take it for a constant
        return torch.cat([token.expand(batch, -1, -1) for token in tokens], 1) + self.positions


class ViTBlock(nn.Module):
    """Self-attention and feed-forward, each behind a layer norm and with a residual."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.attention = MultiHeadAttention(width=config.width, heads=config.heads, bias=config.qkv_bias)
        self.feedforward_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.feedforward = nn.Sequential(
            nn.Linear(config.width, config.feedforward),
            ACTIVATIONS[config.activation](),
            nn.Linear(config.feedforward, config.width),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Taps]:
        mixed, taps = self.attention(self.attention_norm(x))
        x = x + mixed
        return x + self.feedforward(self.feedforward_norm(x)), taps


class VisionTransformer(nn.Module):
    """Image classifier on the class token, or on it and the distillation token."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.blocks = nn.ModuleList(ViTBlock(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.classifier = nn.Linear(config.width, config.labels)
        self.teacher = nn.Linear(config.width, config.labels) if config.teacher else None

    def forward(self, pixels: Tensor) -> tuple[dict[str, Tensor], Taps]:
        """pixels [B, 3, H, W], normalised.

        Returns logits [B, K] and per layer the taps `layers.I.query` and `layers.I.key` [B, prefix+P, D].
        """
        x = self.embeddings(pixels)
        taps: Taps = {}
        for index, block in enumerate(self.blocks):
            x, attention = block(x)
            taps |= named(f"layers.{index}", attention)
        x = self.norm(x)
        logits = self.classifier(x[:, 0])
        if self.teacher is not None:
            logits = (logits + self.teacher(x[:, 1])) / 2
        return {"logits": logits}, taps

    def programs(self) -> dict[str, MapProgram]:
        """The maps that this model's taps allow, by name."""
        config = self.config
        layers, heads, grid = [f"layers.{i}" for i in range(config.layers)], config.heads, config.grid
        programs: dict[str, MapProgram] = {
            "cls": PatchRows(layers, heads=heads, grid=grid),
            "rollout": PatchRollout(layers, heads=heads, grid=grid),
        }
        if config.distillation:
            programs["distillation"] = DistillationRows(layers, heads=heads, grid=grid)
        return programs
