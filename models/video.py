"""X-CLIP: a CLIP vision tower whose frames speak to each other, and prompts that look at the video.

Ni et al. 2022, "Expanding Language-Image Pretrained Models for General Video Recognition".
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.activation import QuickGELU
from models.attention import MultiHeadAttention, Taps, named
from models.programs import (
    FrameClassRows,
    FrameImportance,
    LabelPatches,
    MapProgram,
    Messages,
    SpaceTimeRollout,
)


@dataclass(frozen=True, kw_only=True)
class TowerConfig:
    """Sizes of one transformer tower."""

    width: int
    layers: int
    heads: int


@dataclass(frozen=True, kw_only=True)
class XCLIPConfig:
    """Sizes of an X-CLIP. `image` and `patch` in pixels, `context` in text tokens, `embed` shared by both."""

    image: int
    patch: int
    frames: int
    embed: int
    vision: TowerConfig
    temporal: TowerConfig
    prompt: TowerConfig
    text: TowerConfig
    vocabulary: int
    context: int

    def __post_init__(self) -> None:
        if self.image % self.patch:
            raise ValueError(f"image size {self.image} is not divisible by patch size {self.patch}")
        for name, tower in (("temporal", self.temporal), ("prompt", self.prompt)):
            if tower.width != self.embed:
                raise ValueError(f"{name} width {tower.width} is not the embedding width {self.embed}")

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.image // self.patch, self.image // self.patch


def mlp(width: int) -> nn.Sequential:
    """Feed-forward, four times as wide inside."""
    return nn.Sequential(nn.Linear(width, 4 * width), QuickGELU(), nn.Linear(4 * width, width))


class ResidualBlock(nn.Module):
    """Pre-LN block of CLIP."""

    def __init__(self, *, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = MultiHeadAttention(width=width, heads=heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = mlp(width)

    def forward(self, x: Tensor, *, causal: bool = False) -> tuple[Tensor, Taps]:
        mixed, taps = self.attention(self.norm1(x), causal=causal)
        x = x + mixed
        return x + self.mlp(self.norm2(x)), taps


class CrossFrameBlock(nn.Module):
    """Cross-frame attention among message tokens, then attention inside each frame with its message."""

    def __init__(self, *, width: int, heads: int) -> None:
        super().__init__()
        self.message_fc = nn.Linear(width, width)
        self.message_norm = nn.LayerNorm(width)
        self.message_attention = MultiHeadAttention(width=width, heads=heads)
        self.frame = ResidualBlock(width=width, heads=heads)

    def forward(self, x: Tensor) -> tuple[Tensor, Taps]:
        """x [B, T, 1+P, D], the class token first.

        Returns the same shape and the taps `query`, `key` [B, T, 1+P+1, D] (message last) and
        `message.query`, `message.key` [B, T, D].
        """
        time = x.shape[1]
        message = self.message_fc(x[:, :, 0])  # [B, T, D]
        spoken, message_taps = self.message_attention(self.message_norm(message))
        message = message + spoken
        with_message = torch.cat([x, message[:, :, None]], 2).flatten(0, 1)  # [B*T, 1+P+1, D]
        block = self.frame
        mixed, taps = block.attention(block.norm1(with_message))
        x = (with_message + mixed)[:, :-1]  # the message has been heard: drop it
        x = x + block.mlp(block.norm2(x))
        taps = {name: tap.unflatten(0, (-1, time)) for name, tap in taps.items()}
        return x.unflatten(0, (-1, time)), taps | named("message", message_taps)


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

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Taps]:
        """frames [B, T, 3, H, W] -> class embeddings [B, T, E], patches [B, T, P, D], taps."""
        time = frames.shape[1]
        patches = self.patches(frames.flatten(0, 1)).flatten(2).transpose(1, 2)  # [B*T, P, D]
        first = self.class_token.expand(patches.shape[0], 1, -1)
        x = self.norm_pre(torch.cat([first, patches], 1) + self.positions).unflatten(0, (-1, time))
        taps: Taps = {}
        for index, block in enumerate(self.blocks):
            x, block_taps = block(x)
            taps |= named(f"vision.{index}", block_taps)
        return self.projection(self.norm_post(x[:, :, 0])), x[:, :, 1:], taps


class FrameIntegration(nn.Module):
    """MIT: attention over the frames' embeddings, then their mean."""

    def __init__(self, config: XCLIPConfig) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(1, config.frames, config.embed) * 0.02)
        self.blocks = nn.ModuleList(
            ResidualBlock(width=config.embed, heads=config.temporal.heads)
            for _ in range(config.temporal.layers)
        )

    def forward(self, frames: Tensor) -> tuple[Tensor, Taps]:
        """frames [B, T, E] -> video [B, E], taps `temporal.I.query` and `.key` [B, T, E]."""
        x = frames + self.positions
        taps: Taps = {}
        for index, block in enumerate(self.blocks):
            x, block_taps = block(x)
            taps |= named(f"temporal.{index}", block_taps)
        return (x + frames).mean(1), taps


class PromptBlock(nn.Module):
    """A label's embedding attends to the patches of the video."""

    def __init__(self, *, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = MultiHeadAttention(width=width, heads=heads, bias=False)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = mlp(width)

    def forward(self, labels: Tensor, visual: Tensor) -> tuple[Tensor, Taps]:
        mixed, taps = self.attention(self.norm1(labels), visual)
        labels = labels + mixed
        return labels + self.mlp(self.norm2(labels)), taps


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

    def forward(self, labels: Tensor, patches: Tensor) -> tuple[Tensor, Taps]:
        """labels [K, E], patches [B, T, P, D] -> addition [B, K, E], taps `prompt.I.query`, `.key`."""
        visual = self.norm(self.visual_projection(self.visual_norm(patches)).mean(1))  # [B, P, E]
        x = labels.expand(patches.shape[0], -1, -1)
        taps: Taps = {}
        for index, block in enumerate(self.blocks):
            x, block_taps = block(x, visual)
            taps |= named(f"prompt.{index}", block_taps)
        return self.alpha * x, taps


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


def match(model: XCLIP | VideoClassifier, frames: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Taps]:
    """The forward of a model with its text tower and without."""
    embeddings, patches, vision_taps = model.vision(frames)
    video, temporal_taps = model.temporal(embeddings)  # [B, E]
    addition, prompt_taps = model.prompts(labels, patches)  # [B, K, E]
    video = nn.functional.normalize(video, dim=-1)
    prompted = nn.functional.normalize(labels + addition, dim=-1)
    logits = model.logit_scale.exp() * (prompted @ video[:, :, None])[:, :, 0]
    return {"logits": logits}, vision_taps | temporal_taps | prompt_taps


class XCLIP(nn.Module):
    """Video against label texts; see `VideoClassifier` for a fixed set of labels."""

    def __init__(self, config: XCLIPConfig) -> None:
        super().__init__()
        self.config = config
        self.vision = VisionTower(config)
        self.temporal = FrameIntegration(config)
        self.prompts = PromptGenerator(config)
        self.text = TextTower(config)
        self.logit_scale = nn.Parameter(torch.tensor(1 / 0.07).log())

    def forward(self, frames: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Taps]:
        """frames [B, T, 3, H, W], labels [K, E] (from `text`) -> logits [B, K] and the taps of every part."""
        return match(self, frames, labels)


class VideoClassifier(nn.Module):
    """An X-CLIP with the embeddings of its labels fixed, without the text tower, which has done its work."""

    labels: Tensor

    def __init__(self, xclip: XCLIP, labels: Tensor) -> None:
        super().__init__()
        self.config = xclip.config
        self.vision = xclip.vision
        self.temporal = xclip.temporal
        self.prompts = xclip.prompts
        self.logit_scale = xclip.logit_scale
        self.register_buffer("labels", labels)

    def forward(self, frames: Tensor) -> tuple[dict[str, Tensor], Taps]:
        """frames [B, T, 3, H, W], normalised -> logits [B, K] and taps."""
        return match(self, frames, self.labels)

    def programs(self) -> dict[str, MapProgram]:
        """The maps that this model's taps allow, by name."""
        config = self.config
        heads, grid = config.vision.heads, config.grid
        vision = [f"vision.{index}" for index in range(config.vision.layers)]
        messages = [f"{layer}.message" for layer in vision]
        temporal = [f"temporal.{index}" for index in range(config.temporal.layers)]
        prompt = [f"prompt.{index}" for index in range(config.prompt.layers)]
        temporal_heads = config.temporal.heads
        return {
            "rollout": SpaceTimeRollout(
                vision, messages, temporal[-1], heads=heads, temporal_heads=temporal_heads, grid=grid
            ),
            "cls": FrameClassRows(vision, heads=heads, grid=grid),
            "importance": FrameImportance(temporal[-1], heads=temporal_heads),
            "message": Messages(messages, heads=heads),
            "temporal": Messages(temporal, heads=temporal_heads),
            "label_patches": LabelPatches(prompt, heads=config.prompt.heads, grid=grid),
        }
