"""X-CLIP as the authors' repository saves it (microsoft/VideoX); every size is in the shapes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from models.checkpoints.checkpoint import Checkpoint, CheckpointError, Choices
from models.checkpoints.keys import Rule, fill, one, rule, shape, thirds
from models.checkpoints.source import Source
from models.checkpoints.video_classifier import (
    HEAD_WIDTH,
    paper_pictures,
    prompts,
    transposed,
    video_classifier,
)
from models.video import XCLIP, TowerConfig, XCLIPConfig

VISION = "visual.transformer.resblocks"
TEXT = "transformer.resblocks"
TEMPORAL = "mit.resblocks"
PROMPTS = "prompts_generator.decoder"


def fits(source: Source) -> bool:
    """Whether this is one: a CLIP by its keys, with the frames' integration beside it."""
    return "mit.positional_embedding" in source.state and "visual.class_embedding" in source.state


def read(source: Source, choices: Choices) -> Checkpoint:
    """Raises CheckpointError where the checkpoint does not fit."""
    if choices.heads not in (None, "paper"):
        raise CheckpointError(
            f"heads: {choices.heads!r}, but an original X-CLIP has no config: its heads are the paper's"
        )
    sizes = read_sizes(source.state)
    with torch.device("meta"):
        model = XCLIP(sizes)
    fill(model, source.state, RULES)
    return video_classifier(model, source, choices, paper_pictures(sizes.image))


def read_sizes(state: Mapping[str, Tensor]) -> XCLIPConfig:
    """The sizes in the shapes; raises CheckpointError where they are not those of an X-CLIP."""
    width, _, _, patch = shape(state, "visual.conv1.weight", axes=4)
    positions, _ = shape(state, "visual.positional_embedding", axes=2)
    side = math.isqrt(positions - 1)
    if side * side != positions - 1 or not side:
        raise CheckpointError(
            f"visual.positional_embedding: {positions} positions are no square of patches and a class token"
        )
    _, frames, _ = shape(state, "mit.positional_embedding", axes=3)
    text_width, embed = shape(state, "text_projection", axes=2)
    vocabulary, _ = shape(state, "token_embedding.weight", axes=2)
    context, _ = shape(state, "positional_embedding", axes=2)
    return XCLIPConfig(
        image=side * patch,
        patch=patch,
        frames=frames,
        embed=embed,
        vision=tower(state, VISION, "visual.conv1.weight", width),
        temporal=tower(state, TEMPORAL, "text_projection", embed),
        prompt=tower(state, PROMPTS, "text_projection", embed),
        text=tower(state, TEXT, "text_projection", text_width),
        vocabulary=vocabulary,
        context=context,
    )


def tower(state: Mapping[str, Tensor], blocks: str, key: str, width: int) -> TowerConfig:
    """A tower of as many layers as have keys and the paper's heads, its width found at `key`."""
    pattern = re.compile(rf"{re.escape(blocks)}\.(\d+)\.")
    layers = len({found[1] for name in state if (found := pattern.match(name))})
    if not layers:
        raise CheckpointError(f"missing: {blocks}.0")
    if width % HEAD_WIDTH:
        raise CheckpointError(f"{key}: the width {width} is no multiple of {HEAD_WIDTH}, that of a head")
    return TowerConfig(width=width, layers=layers, heads=width // HEAD_WIDTH)


def attention(foreign: str, ours: str) -> list[Rule]:
    """Rules of one attention, its three projections fused."""
    return [
        rule(
            rf"{foreign}in_proj_(weight|bias)",
            *(f"{ours}{part}" for part in PARTS),
            split=thirds,
        ),
        rule(rf"{foreign}out_proj\.(.+)", f"{ours}out.{{}}"),
    ]


def block(blocks: str, ours: str) -> list[Rule]:
    """Rules of one CLIP block."""
    foreign = rf"{re.escape(blocks)}\.(\d+)\."
    return [
        *attention(rf"{foreign}attn\.", f"{ours}attention."),
        rule(rf"{foreign}ln_(1|2)\.(.+)", f"{ours}norm{{}}.{{}}"),
        rule(rf"{foreign}mlp\.c_fc\.(.+)", f"{ours}mlp.0.{{}}"),
        rule(rf"{foreign}mlp\.c_proj\.(.+)", f"{ours}mlp.2.{{}}"),
    ]


PARTS = ("query.{}", "key.{}", "value.{}")
FRAMES = rf"{re.escape(VISION)}\.(\d+)\."
RULES = [
    rule("logit_scale", "logit_scale"),
    rule(r"visual\.class_embedding", "vision.class_token"),
    rule(r"visual\.conv1\.weight", "vision.patches.weight"),
    rule(r"visual\.positional_embedding", "vision.positions"),
    rule(r"visual\.ln_(pre|post)\.(.+)", "vision.norm_{}.{}"),
    rule(r"visual\.proj", "vision.projection.weight", split=one(transposed)),
    rule(rf"{FRAMES}message_fc\.(.+)", "vision.blocks.{}.message_fc.{}"),
    rule(rf"{FRAMES}message_ln\.(.+)", "vision.blocks.{}.message_norm.{}"),
    *attention(rf"{FRAMES}message_attn\.", "vision.blocks.{}.message_attention."),
    *block(VISION, "vision.blocks.{}.frame."),
    rule(r"mit\.positional_embedding", "temporal.positions"),
    *block(TEMPORAL, "temporal.blocks.{}."),
    *prompts("ln", "proj"),
    rule(r"prompts_generator\.norm\.(.+)", "prompts.norm.{}"),
    rule(r"token_embedding\.weight", "text.tokens.weight"),
    rule(r"positional_embedding", "text.positions"),
    *block(TEXT, "text.blocks.{}."),
    rule(r"ln_final\.(.+)", "text.norm.{}"),
    rule("text_projection", "text.projection.weight", split=one(transposed)),
]
