"""ViT and DeiT image classifiers as transformers saves them."""

from __future__ import annotations

import torch

from models.checkpoints.checkpoint import Checkpoint, CheckpointError, Choices
from models.checkpoints.config import Config
from models.checkpoints.keys import Rule, fill, outputs, rule
from models.checkpoints.pictures import MOST_PIXELS, picture_input
from models.checkpoints.source import Source
from models.vit import VisionTransformer, ViTConfig

TITLES = {"vit": "ViT", "deit": "DeiT"}
LAYER = r"encoder\.layer\.(\d+)\."
CLASS_HEAD, TEACHER_HEAD = "cls_classifier", "distillation_classifier"  # where there is a teacher


def fits(source: Source) -> bool:
    """Whether this is one of them."""
    return str(source.config.get("model_type")) in TITLES


def read(source: Source, choices: Choices) -> Checkpoint:
    """Raises CheckpointError where the checkpoint does not fit."""
    kind = "deit" if source.config.get("model_type") == "deit" else "vit"
    config, state = source.required_config(), source.state
    teacher = kind == "deit" and any(key.startswith(f"{TEACHER_HEAD}.") for key in state)
    head = CLASS_HEAD if teacher else "classifier"
    config.classes("ForImageClassification", "ForImageClassificationWithTeacher")
    config.only("num_channels", 3)
    sizes = architecture(config, outputs(state, f"{head}.weight"), kind=kind, teacher=teacher)
    with torch.device("meta"):
        model = VisionTransformer(sizes)
    fill(model, state, rules(kind, head))
    height, width = sizes.image
    patch = "x".join(str(side) for side in dict.fromkeys(sizes.patch))
    return source.checkpoint(
        model,
        family="image",
        architecture=f"{TITLES[kind]}/{patch}{' with teacher' if teacher else ''}, "
        f"{sizes.layers} layers, {sizes.width} wide, {sizes.heads} heads",
        labels=config.labels(sizes.labels, choices),
        activation=config.scoring(sizes.labels),
        preprocessing={"kind": "image", **picture_input(source, height=height, width=width)},
    )


def architecture(config: Config, labels: int, *, kind: str, teacher: bool) -> ViTConfig:
    """The sizes in a config.json; raises CheckpointError."""
    width = config.count("hidden_size", 768)
    try:
        return ViTConfig(
            image=sides(config, "image_size", 224),
            patch=sides(config, "patch_size", 16),
            labels=labels,
            width=width,
            layers=config.layers("num_hidden_layers", 12),
            heads=config.heads("num_attention_heads", 12, width=width),
            feedforward=config.count("intermediate_size", 3072),
            qkv_bias=config.flag("qkv_bias", True),
            activation=config.activation("hidden_act"),
            norm_eps=config.real("layer_norm_eps", 1e-12),
            distillation=kind == "deit",
            teacher=teacher,
        )
    except ValueError as error:
        raise CheckpointError(f"config.json: {error}") from None


def sides(config: Config, name: str, default: int) -> tuple[int, int]:
    """Height and width; one number stands for both."""
    given = config.given(name)
    if not isinstance(given, list):
        side = config.count(name, default, most=MOST_PIXELS)
        return side, side
    if len(given) != 2:
        raise CheckpointError(f"config.json: {name} is {given!r}, neither a side nor height and width")
    both = Config(dict(zip(("height", "width"), given, strict=True)), place=f"config.json: {name}")
    return both.count("height", most=MOST_PIXELS), both.count("width", most=MOST_PIXELS)


def rules(kind: str, head: str) -> list[Rule]:
    """Where the keys go; `kind` is "vit" or "deit", `head` the classifier on the class token."""
    body = rf"{kind}\."
    return [
        rule(rf"{body}embeddings\.cls_token", "embeddings.class_token"),
        rule(rf"{body}embeddings\.distillation_token", "embeddings.distillation_token"),
        rule(rf"{body}embeddings\.position_embeddings", "embeddings.positions"),
        rule(rf"{body}embeddings\.patch_embeddings\.projection\.(.+)", "embeddings.patches.{}"),
        rule(rf"{body}{LAYER}layernorm_before\.(.+)", "blocks.{}.attention_norm.{}"),
        rule(rf"{body}{LAYER}attention\.attention\.(query|key|value)\.(.+)", "blocks.{}.attention.{}.{}"),
        rule(rf"{body}{LAYER}attention\.output\.dense\.(.+)", "blocks.{}.attention.out.{}"),
        rule(rf"{body}{LAYER}layernorm_after\.(.+)", "blocks.{}.feedforward_norm.{}"),
        rule(rf"{body}{LAYER}intermediate\.dense\.(.+)", "blocks.{}.feedforward.0.{}"),
        rule(rf"{body}{LAYER}output\.dense\.(.+)", "blocks.{}.feedforward.2.{}"),
        rule(rf"{body}layernorm\.(.+)", "norm.{}"),
        rule(rf"{head}\.(.+)", "classifier.{}"),
        rule(rf"{TEACHER_HEAD}\.(.+)", "teacher.{}"),
    ]
