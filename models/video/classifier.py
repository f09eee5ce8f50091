"""X-CLIP: a CLIP vision tower whose frames speak to each other, and prompts that look at the video.

Ni et al. 2022, "Expanding Language-Image Pretrained Models for General Video Recognition".
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models import adjoints
from models.attention import Taps, attention_taps
from models.programs import (
    FrameAttention,
    FrameClassRows,
    FrameGradientMap,
    FrameImportance,
    FrameReceived,
    FrameValueNorm,
    LabelPatches,
    MapProgram,
    Messages,
    Proof,
    SpaceTimeRollout,
)
from models.relevance import SpaceTimeRelevance
from models.video.config import XCLIPConfig
from models.video.prompt import PromptGenerator
from models.video.temporal import FrameIntegration
from models.video.text import TextTower
from models.video.vision import CrossFrameBlock, VisionTower


def match(model: XCLIP | VideoClassifier, frames: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Taps]:
    """The forward of a model with its text tower and without."""
    embeddings, tokens, vision = model.vision(frames)
    video, temporal = model.temporal(embeddings)  # [B, E]
    addition, _, prompts = model.prompts(labels, tokens[:, :, 1:])  # [B, K, E]
    video = nn.functional.normalize(video, dim=-1)
    prompted = nn.functional.normalize(labels + addition, dim=-1)
    logits = model.logit_scale.exp() * (prompted @ video[:, :, None])[:, :, 0]
    return {"logits": logits}, clip_taps(vision, temporal, prompts, time=frames.shape[1])


def clip_taps(
    vision: Sequence[tuple[Taps, Taps]], temporal: Sequence[Taps], prompts: Sequence[Taps], *, time: int
) -> Taps:
    """The attention taps of every part by name: those of frames [B, T, 1+P+1, D]."""
    taps: Taps = {}
    for index, (frames, messages) in enumerate(vision):
        inside = attention_taps(f"vision.{index}", frames)
        taps |= {name: tap.unflatten(0, (-1, time)) for name, tap in inside.items()}
        taps |= attention_taps(f"vision.{index}.message", messages)
    for index, layer in enumerate(temporal):
        taps |= attention_taps(f"temporal.{index}", layer)
    for index, layer in enumerate(prompts):
        taps |= attention_taps(f"prompt.{index}", layer)
    return taps


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

    @property
    def _blocks(self) -> list[CrossFrameBlock]:
        return list(self.vision.blocks)  # type: ignore[arg-type]

    def relevance(self, frames: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient relevance and Grad-SAM of the labels `target` [B]: [B, T, P] twice."""
        embeddings, tokens, layers = self.vision(frames)
        video, temporal = self.temporal(embeddings)  # [B, E]
        label = self.labels[target].to(video.dtype)[:, None]  # [B, 1, E]
        addition, seen, prompts = self.prompts(label, tokens[:, :, 1:])
        prompted = label + addition
        scale = self.logit_scale.to(video.dtype).exp()
        by_video = adjoints.normalize(video, scale * nn.functional.normalize(prompted[:, 0], dim=-1))
        by_prompted = adjoints.normalize(prompted, scale * nn.functional.normalize(video, dim=-1)[:, None])
        by_embeddings, listened = self.temporal.adjoint(by_video, temporal)
        by_patches, looked = self.prompts.adjoint(by_prompted, tokens[:, :, 1:], seen, prompts)
        gradient = self.vision.adjoint(by_embeddings, tokens) + nn.functional.pad(by_patches, (0, 0, 1, 0))
        found = SpaceTimeRelevance(tokens, listened, looked)
        for block, taps in zip(reversed(self._blocks), reversed(layers), strict=True):
            gradient, relevance, spoken = block.adjoint(gradient, *taps)
            found.through(relevance, spoken)
        return found.patches, found.received(len(layers))

    def programs(self) -> dict[str, MapProgram]:
        """The maps that this model's taps allow, by name."""
        config, vision = self.config, self.layers
        heads, grid = config.vision.heads, config.grid
        messages = [f"{layer}.message" for layer in vision]
        temporal = [f"temporal.{index}" for index in range(config.temporal.layers)]
        prompt = [f"prompt.{index}" for index in range(config.prompt.layers)]
        temporal_heads = config.temporal.heads
        attentions = [block.frame.attention for block in self._blocks]
        return {
            "rollout": SpaceTimeRollout(
                vision, messages, temporal[-1], heads=heads, temporal_heads=temporal_heads, grid=grid
            ),
            "cls": FrameClassRows(vision, heads=heads, grid=grid),
            "received": FrameReceived(vision, heads=heads, grid=grid),
            "value_norm": FrameValueNorm(vision, attentions, grid=grid),
            "relevance": FrameGradientMap(self, 0, inputs=["frames"], grid=grid),
            "grad_sam": FrameGradientMap(self, 1, inputs=["frames"], grid=grid),
            "attention": FrameAttention(vision, heads=heads, grid=grid),
            "importance": FrameImportance(temporal[-1], heads=temporal_heads),
            "message": Messages(messages, heads=heads),
            "temporal": Messages(temporal, heads=temporal_heads),
            "label_patches": LabelPatches(prompt, heads=config.prompt.heads, grid=grid),
        }

    @property
    def layers(self) -> list[str]:
        """The names of the layers whose attention within frames has taps."""
        return [f"vision.{index}" for index in range(self.config.vision.layers)]

    def proof(self) -> Proof:
        """What verifies the attention of one of `layers`."""
        return Proof(heads=self.config.vision.heads, lengths=False)
