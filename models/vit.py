"""Vision transformer: patches as tokens behind a class token, pre-LN encoder.

Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words"; the distillation token of Touvron et al. 2021,
"Training data-efficient image transformers & distillation through attention".
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models import adjoints
from models.activation import ACTIVATIONS, Activation
from models.attention import MultiHeadAttention, Taps, attention_taps
from models.feedforward import FeedForward
from models.programs import (
    DistillationRows,
    MapProgram,
    PatchAttention,
    PatchGradientMap,
    PatchReceived,
    PatchRollout,
    PatchRows,
    PatchValueNorm,
    Proof,
)
from models.relevance import Relevance


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
        self.feedforward = FeedForward(
            width=config.width, hidden=config.feedforward, activation=ACTIVATIONS[config.activation]()
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Taps]:
        """x [B, N, D] -> the same shape; the taps are those of the attention, and what a norm or an
        activation gets: `input` and `attended` [B, N, D], `hidden` [B, N, F].
        """
        out, taps = self.attention(self.attention_norm(x))
        attended = x + out
        out, hidden = self.feedforward(self.feedforward_norm(attended))
        return attended + out, taps | {"input": x, "attended": attended, "hidden": hidden}

    def adjoint(self, gradient: Tensor, taps: Taps) -> tuple[Tensor, Tensor]:
        """Gradient by the output [B, N, D] -> by x, and the relevance [B, N, N]."""
        through = self.feedforward.adjoint(gradient, taps["hidden"])
        gradient = gradient + adjoints.layer_norm(self.feedforward_norm, taps["attended"], through)
        through, relevance = adjoints.self_attention(self.attention, taps, gradient)
        return gradient + adjoints.layer_norm(self.attention_norm, taps["input"], through), relevance


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

        Returns logits [B, K] and per layer the taps `layers.I.query`, `.key`, `.value`, `.mixed`
        [B, prefix+P, D].
        """
        x, layers = self.encode(pixels)
        taps: Taps = {}
        for index, layer in enumerate(layers):
            taps |= attention_taps(f"layers.{index}", layer)
        x = self.norm(x)
        logits = self.classifier(x[:, 0])
        if self.teacher is not None:
            logits = (logits + self.teacher(x[:, 1])) / 2
        return {"logits": logits}, taps

    @property
    def _blocks(self) -> list[ViTBlock]:
        return list(self.blocks)  # type: ignore[arg-type]

    def encode(self, pixels: Tensor) -> tuple[Tensor, list[Taps]]:
        """What the last norm gets [B, prefix+P, D], and every tap of every block."""
        x = self.embeddings(pixels)
        layers = []
        for block in self.blocks:
            x, taps = block(x)
            layers.append(taps)
        return x, layers

    def relevance(self, pixels: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient relevance and Grad-SAM of the labels `target` [B]: [B, prefix+P] twice."""
        x, layers = self.encode(pixels)
        gradient = self.classifier.weight[target].to(x.dtype)[:, None]  # [B, 1, D]
        if self.teacher is not None:
            gradient = torch.cat([gradient, self.teacher.weight[target].to(x.dtype)[:, None]], 1) / 2
        gradient = nn.functional.pad(gradient, (0, 0, 0, x.shape[1] - gradient.shape[1]))
        gradient = adjoints.layer_norm(self.norm, x, gradient)
        found = Relevance(x)
        for block, taps in zip(reversed(self._blocks), reversed(layers), strict=True):
            gradient, relevance = block.adjoint(gradient, taps)
            found.through(relevance)
        return found.row, found.received(len(layers), x.shape[1])

    def programs(self) -> dict[str, MapProgram]:
        """The maps that this model's taps allow, by name."""
        layers, heads, grid = self.layers, self.config.heads, self.config.grid
        programs: dict[str, MapProgram] = {
            "cls": PatchRows(layers, heads=heads, grid=grid),
            "rollout": PatchRollout(layers, heads=heads, grid=grid),
            "received": PatchReceived(layers, heads=heads, grid=grid),
            "value_norm": PatchValueNorm(layers, [block.attention for block in self._blocks], grid=grid),
            "relevance": PatchGradientMap(self, 0, inputs=["pixels"], grid=grid),
            "grad_sam": PatchGradientMap(self, 1, inputs=["pixels"], grid=grid),
            "attention": PatchAttention(
                layers, heads=heads, grid=grid, tokens_before=2 if self.config.distillation else 1
            ),
        }
        if self.config.distillation:
            programs["distillation"] = DistillationRows(layers, heads=heads, grid=grid)
        return programs

    @property
    def layers(self) -> list[str]:
        """The names of the layers whose attention has taps."""
        return [f"layers.{index}" for index in range(self.config.layers)]

    def proof(self) -> Proof:
        """What verifies the attention of one of `layers`."""
        return Proof(heads=self.config.heads, lengths=False)
