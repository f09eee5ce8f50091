"""What X-CLIP of transformers and of its authors have in common: labels, pictures, and some of its keys."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from models.checkpoints.checkpoint import Checkpoint, Choices
from models.checkpoints.keys import Rule, one, rule
from models.checkpoints.label_texts import with_labels
from models.checkpoints.pictures import IMAGENET
from models.checkpoints.source import Source
from models.video import XCLIP

HEAD_WIDTH = 64  # of every attention in the paper's models
PROJECTIONS = {"q_proj": "query", "k_proj": "key", "v_proj": "value"}


def video_classifier(model: XCLIP, source: Source, choices: Choices, pictures: dict[str, Any]) -> Checkpoint:
    """The checkpoint of a model whose text tower has encoded the labels; raises CheckpointError."""
    sizes, vision = model.config, model.config.vision
    classifier, labels = with_labels(model, source, choices)
    return source.checkpoint(
        classifier,
        family="video",
        architecture=f"X-CLIP, {sizes.frames} frames of {sizes.image} pixels, patches of {sizes.patch}, "
        f"{vision.layers} layers, {vision.width} wide, {vision.heads} heads",
        labels=labels,
        preprocessing={"kind": "video", "frames": sizes.frames, **pictures},
    )


def paper_pictures(image: int) -> dict[str, Any]:
    """What frames go through in the original's evaluation, for a model of this size in pixels."""
    return {**IMAGENET, "resize_to": int(256 / 224 * image), "height": image, "width": image}


def prompts(norm: str, projection: str) -> list[Rule]:
    """Rules of the prompts, in which the original and transformers differ by two names."""
    decoder = r"prompts_generator\.decoder\.(\d+)\."
    return [
        rule(rf"prompts_visual_{norm}\.(.+)", "prompts.visual_norm.{}"),
        rule(rf"prompts_visual_{projection}", "prompts.visual_projection.weight", split=one(transposed)),
        rule(r"prompts_generator\.alpha", "prompts.alpha"),
        *(
            rule(rf"{decoder}cross_attn\.{old}\.(.+)", f"prompts.blocks.{{}}.attention.{new}.{{}}")
            for old, new in (PROJECTIONS | {"proj": "out"}).items()
        ),
        rule(rf"{decoder}norm1\.(.+)", "prompts.blocks.{}.norm1.{}"),
        rule(rf"{decoder}norm3\.(.+)", "prompts.blocks.{}.norm2.{}"),
        rule(rf"{decoder}mlp\.0\.(.+)", "prompts.blocks.{}.mlp.0.{}"),
        rule(rf"{decoder}mlp\.3\.(.+)", "prompts.blocks.{}.mlp.2.{}"),
    ]


def transposed(tensor: Tensor) -> Tensor:
    """A matrix [M, N] that is multiplied from the right as the weight [N, M] of a linear map."""
    return tensor.transpose(0, -1)
