"""What the text classifiers of transformers have in common: a model, its text input, and some of its keys."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from models.checkpoints.checkpoint import Checkpoint, Choices
from models.checkpoints.config import Config
from models.checkpoints.keys import Rule, fill, one, rule
from models.checkpoints.source import Source
from models.checkpoints.tokens import find_tokenizer, text_input
from models.text import TextConfig, TextTransformer


def text_classifier(
    source: Source,
    choices: Choices,
    config: Config,
    sizes: TextConfig,
    rules: Sequence[Rule],
    *,
    title: str,
    pad_id: int,
) -> Checkpoint:
    """A classifier of these sizes filled from the source; raises CheckpointError where one does not fit."""
    with torch.device("meta"):
        model = TextTransformer(sizes)
    fill(model, source.state, rules)
    tokenizer = find_tokenizer(source, choices)
    return source.checkpoint(
        model,
        family="text",
        architecture=f"{title}, {sizes.layers} layers, {sizes.width} wide, {sizes.heads} heads",
        labels=config.labels(sizes.labels, choices),
        activation=config.scoring(sizes.labels),
        preprocessing=text_input(
            tokenizer,
            model=config,
            vocabulary=sizes.vocabulary,
            positions=sizes.positions,
            pad_id=pad_id,
            token_types=sizes.token_types,
        ),
        tokenizer=tokenizer,
    )


def embedding_rules(prefix: str, skipped: int = 0) -> list[Rule]:
    """Where tokens, positions (without the first `skipped`) and their norm go; stored counters go nowhere."""
    body = rf"{prefix}\.embeddings\."
    return [
        rule(rf"{body}position_ids"),
        rule(rf"{body}word_embeddings\.weight", "embeddings.token.weight"),
        rule(
            rf"{body}position_embeddings\.weight",
            "embeddings.position.weight",
            split=one(lambda rows: rows[skipped:] if rows.ndim else rows),
        ),
        *norm_rules(rf"{body}LayerNorm", "embeddings.norm"),
    ]


def norm_rules(pattern: str, target: str) -> list[Rule]:
    """Where a layer norm goes; checkpoints converted from TensorFlow call its weight gamma, its bias beta."""
    return [
        rule(rf"{pattern}\.(?:weight|gamma)", f"{target}.weight"),
        rule(rf"{pattern}\.(?:bias|beta)", f"{target}.bias"),
    ]
