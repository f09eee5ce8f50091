"""X-CLIP as transformers saves it."""

from __future__ import annotations

import torch

from models.checkpoints.checkpoint import Checkpoint, CheckpointError, Choices
from models.checkpoints.config import Config
from models.checkpoints.keys import Rule, fill, rule
from models.checkpoints.pictures import MOST_PIXELS, picture_input
from models.checkpoints.source import Source
from models.checkpoints.video_classifier import (
    HEAD_WIDTH,
    PROJECTIONS,
    paper_pictures,
    prompts,
    video_classifier,
)
from models.video import XCLIP, TowerConfig, XCLIPConfig

NORM_EPS = 1e-5


def fits(source: Source) -> bool:
    """Whether this is one."""
    return source.config.get("model_type") == "xclip"


def read(source: Source, choices: Choices) -> Checkpoint:
    """Raises CheckpointError where the checkpoint does not fit."""
    sizes = read_sizes(source.required_config(), choices.heads)
    with torch.device("meta"):
        model = XCLIP(sizes)
    fill(model, source.state, RULES)
    pictures = picture_input(
        source, height=sizes.image, width=sizes.image, default=paper_pictures(sizes.image)
    )
    return video_classifier(model, source, choices, pictures)


def read_sizes(config: Config, choice: str | None) -> XCLIPConfig:
    """The sizes in config.json; `choice` is whose heads the temporal and prompt attention have."""
    text, vision = tower_fields(config, "text_config"), tower_fields(config, "vision_config")
    for section in (text, vision):
        section.only("hidden_act", "quick_gelu")
        section.only("layer_norm_eps", NORM_EPS)
    config.only("prompt_hidden_act", "quick_gelu")
    vision.only("num_channels", 3)
    embed = config.count("projection_dim", 512)
    if vision.count("mit_hidden_size", 512) != embed:
        raise CheckpointError(
            f"config.json: vision_config: mit_hidden_size {vision.count('mit_hidden_size', 512)} "
            f"is not projection_dim {embed}"
        )
    four_times(vision, "vision_config", "mit_intermediate_size", 2048, width=embed)
    image, patch = (
        vision.count(name, default, most=MOST_PIXELS)
        for name, default in (("image_size", 224), ("patch_size", 32))
    )
    if image % patch:
        raise CheckpointError(
            f"config.json: vision_config: image_size {image} is not divisible by patch_size {patch}"
        )
    temporal_heads, prompt_heads = pooled_heads(config, vision, embed, choice)
    return XCLIPConfig(
        image=image,
        patch=patch,
        frames=vision.count("num_frames", 8),
        embed=embed,
        vision=tower(vision, "vision_config", width=768, feedforward=3072, heads=12),
        temporal=TowerConfig(
            width=embed, layers=vision.layers("mit_num_hidden_layers", 1), heads=temporal_heads
        ),
        prompt=TowerConfig(width=embed, layers=config.layers("prompt_layers", 2), heads=prompt_heads),
        text=tower(text, "text_config", width=512, feedforward=2048, heads=8),
        vocabulary=text.count("vocab_size", 49408),
        context=text.count("max_position_embeddings", 77),
    )


def tower_fields(config: Config, name: str) -> Config:
    """The config of a tower; one under the name that older versions wrote counts instead of it."""
    older = f"{name}_dict"
    return config.part(name if config.given(older) is None else older)


def tower(section: Config, name: str, *, width: int, feedforward: int, heads: int) -> TowerConfig:
    """A tower's sizes; those given here are the defaults of transformers."""
    width = section.count("hidden_size", width)
    four_times(section, name, "intermediate_size", feedforward, width=width)
    return TowerConfig(
        width=width,
        layers=section.layers("num_hidden_layers", 12),
        heads=section.heads("num_attention_heads", heads, width=width),
    )


def four_times(section: Config, name: str, field: str, default: int, *, width: int) -> None:
    """Refuse a feed-forward that is not four times as wide inside."""
    if section.count(field, default) != 4 * width:
        raise CheckpointError(
            f"config.json: {name}: {field} {section.count(field, default)} is not 4 x the width {width}"
        )


def pooled_heads(config: Config, vision: Config, embed: int, choice: str | None) -> tuple[int, int]:
    """Heads of the temporal and of the prompts' attention.

    The paper's models have E / 64 of both; the config of transformers has fields for them, which were left at
    8 when the large models were converted. Raises CheckpointError where the two differ and nothing is chosen.
    """
    said = (
        vision.heads("mit_num_attention_heads", 8, width=embed),
        config.heads("prompt_num_attention_heads", 8, width=embed),
    )
    paper = embed // HEAD_WIDTH
    if choice not in (None, "config", "paper"):
        raise CheckpointError(f"heads: {choice!r} is neither config nor paper")
    if embed % HEAD_WIDTH:
        if choice == "paper":
            raise CheckpointError(
                f"heads: the paper's are {HEAD_WIDTH} wide, which {embed} is no multiple of"
            )
        return said
    if choice is None and said != (paper, paper):
        raise CheckpointError(
            f"config.json: mit_num_attention_heads is {said[0]}, prompt_num_attention_heads {said[1]}; "
            f"the paper has {embed} / {HEAD_WIDTH} = {paper} of both. Choose with --heads: paper for weights "
            "converted from the original, config for what transformers computes"
        )
    return (paper, paper) if choice == "paper" else said


def attention(foreign: str, ours: str) -> list[Rule]:
    """Rules of one attention; both end where its own names begin."""
    return [
        *(rule(rf"{foreign}{old}\.(.+)", f"{ours}{new}.{{}}") for old, new in PROJECTIONS.items()),
        rule(rf"{foreign}out_proj\.(.+)", f"{ours}out.{{}}"),
    ]


def block(foreign: str, ours: str) -> list[Rule]:
    """Rules of one CLIP block."""
    return [
        *attention(rf"{foreign}self_attn\.", f"{ours}attention."),
        rule(rf"{foreign}layer_norm(1|2)\.(.+)", f"{ours}norm{{}}.{{}}"),
        rule(rf"{foreign}mlp\.fc1\.(.+)", f"{ours}mlp.0.{{}}"),
        rule(rf"{foreign}mlp\.fc2\.(.+)", f"{ours}mlp.2.{{}}"),
    ]


FRAMES = r"vision_model\.encoder\.layers\.(\d+)\."
RULES = [
    rule(r"(?:text|vision)_model\.embeddings\.position_ids"),
    rule("logit_scale", "logit_scale"),
    rule(r"vision_model\.embeddings\.class_embedding", "vision.class_token"),
    rule(r"vision_model\.embeddings\.patch_embedding\.weight", "vision.patches.weight"),
    rule(r"vision_model\.embeddings\.position_embedding\.weight", "vision.positions"),
    rule(r"vision_model\.(pre|post)_layernorm\.(.+)", "vision.norm_{}.{}"),
    rule(r"visual_projection\.weight", "vision.projection.weight"),
    rule(rf"{FRAMES}message_fc\.(.+)", "vision.blocks.{}.message_fc.{}"),
    rule(rf"{FRAMES}message_ln\.(.+)", "vision.blocks.{}.message_norm.{}"),
    *attention(rf"{FRAMES}message_attn\.", "vision.blocks.{}.message_attention."),
    *block(FRAMES, "vision.blocks.{}.frame."),
    rule(r"mit\.position_embedding", "temporal.positions"),
    *block(r"mit\.encoder\.layers\.(\d+)\.", "temporal.blocks.{}."),
    *prompts("layernorm", "projection"),
    rule(r"prompts_generator\.layernorm\.(.+)", "prompts.norm.{}"),
    rule(r"text_model\.embeddings\.token_embedding\.weight", "text.tokens.weight"),
    rule(r"text_model\.embeddings\.position_embedding\.weight", "text.positions"),
    *block(r"text_model\.encoder\.layers\.(\d+)\.", "text.blocks.{}."),
    rule(r"text_model\.final_layer_norm\.(.+)", "text.norm.{}"),
    rule(r"text_projection\.weight", "text.projection.weight"),
]
