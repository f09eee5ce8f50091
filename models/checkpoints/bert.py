"""BERT, RoBERTa and XLM-RoBERTa sequence classifiers as transformers saves them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from models.checkpoints.checkpoint import Checkpoint, CheckpointError, Choices
from models.checkpoints.config import Config
from models.checkpoints.keys import Rule, fill, rule
from models.checkpoints.source import Source
from models.checkpoints.tokens import find_tokenizer, text_input
from models.text import TextConfig, TextTransformer

TITLES = {"bert": "BERT", "roberta": "RoBERTa", "xlm-roberta": "XLM-RoBERTa"}
LAYER = r"encoder\.layer\.(\d+)\."
POSITIONS = "embeddings.position_embeddings.weight"
SEGMENTS = "embeddings.token_type_embeddings.weight"
# The linear map before the classifier and the classifier itself.
HEADS = {
    "bert": (r"bert\.pooler\.dense\.(.+)", r"classifier\.(.+)"),
    "roberta": (r"classifier\.dense\.(.+)", r"classifier\.out_proj\.(.+)"),
}


def fits(source: Source) -> bool:
    """Whether this is one of them."""
    return source.config.get("model_type") in TITLES


def read(source: Source, choices: Choices) -> Checkpoint:
    """Raises CheckpointError where the checkpoint does not fit."""
    kind = str(source.config.get("model_type", "bert"))
    prefix = "bert" if kind == "bert" else "roberta"
    config, state = Config(source.config), dict(source.state)
    config.only("position_embedding_type", "absolute")
    config.only("is_decoder", False)
    config.only("add_cross_attention", False)
    pad_id = config.token("pad_token_id", 0 if prefix == "bert" else 1)
    if prefix == "roberta":
        positions_after_padding(state, pad_id)
    width, vocabulary = config.count("hidden_size", 768), config.count("vocab_size", 30522)
    positions = rows(state, f"{prefix}.{POSITIONS}")
    token_types = rows(state, f"{prefix}.{SEGMENTS}") if prefix == "bert" else 0
    outputs = rows(state, "classifier.weight" if prefix == "bert" else "classifier.out_proj.weight")
    layers, heads = (
        config.layers("num_hidden_layers", 12),
        config.heads("num_attention_heads", 12, width=width),
    )
    with torch.device("meta"):
        model = TextTransformer(
            TextConfig(
                vocabulary=vocabulary,
                labels=outputs,
                width=width,
                layers=layers,
                heads=heads,
                feedforward=config.count("intermediate_size", 3072),
                positions=positions,
                token_types=token_types,
                head="tanh",
                activation=config.activation("hidden_act"),
                norm_eps=config.real("layer_norm_eps", 1e-12),
            )
        )
    fill(model, state, rules(prefix))
    tokenizer = find_tokenizer(source, choices)
    return source.checkpoint(
        model,
        family="text",
        architecture=f"{TITLES.get(kind, 'BERT')}, {layers} layers, {width} wide, {heads} heads",
        labels=config.labels(outputs, choices),
        activation=config.scoring(outputs),
        preprocessing=text_input(
            source,
            tokenizer,
            vocabulary=vocabulary,
            positions=positions,
            pad_id=pad_id,
            token_types=token_types,
        ),
        tokenizer=tokenizer,
    )


def rows(state: Mapping[str, Tensor], key: str) -> int:
    """The first size of a tensor; raises CheckpointError where it is missing or has none."""
    if key not in state or not state[key].ndim:
        raise CheckpointError(f"missing: {key}")
    return len(state[key])


def positions_after_padding(state: dict[str, Tensor], pad_id: int) -> None:
    """RoBERTa counts positions from the padding's id plus 1 and adds its one token type to every token.

    The rows before are never looked up; the others take the type with them.
    """
    positions, types = f"roberta.{POSITIONS}", f"roberta.{SEGMENTS}"
    if rows(state, types) != 1:
        raise CheckpointError(f"{types}: {rows(state, types)} token types; one is supported")
    if rows(state, positions) <= pad_id + 1:
        raise CheckpointError(f"{positions}: no position after the padding's id {pad_id}")
    state[positions] = state[positions][pad_id + 1 :].float() + state.pop(types)[0].float()


def rules(prefix: str) -> list[Rule]:
    """Where the keys go; `prefix` is "bert" or "roberta"."""
    body = rf"{prefix}\."
    dense, classifier = HEADS[prefix]
    return [
        rule(rf"{body}embeddings\.position_ids"),
        rule(rf"{body}embeddings\.word_embeddings\.weight", "embeddings.token.weight"),
        rule(rf"{body}embeddings\.position_embeddings\.weight", "embeddings.position.weight"),
        rule(rf"{body}embeddings\.token_type_embeddings\.weight", "embeddings.token_type.weight"),
        rule(rf"{body}embeddings\.LayerNorm\.(.+)", "embeddings.norm.{}"),
        rule(rf"{body}{LAYER}attention\.self\.(query|key|value)\.(.+)", "blocks.{}.attention.{}.{}"),
        rule(rf"{body}{LAYER}attention\.output\.dense\.(.+)", "blocks.{}.attention.out.{}"),
        rule(rf"{body}{LAYER}attention\.output\.LayerNorm\.(.+)", "blocks.{}.attention_norm.{}"),
        rule(rf"{body}{LAYER}intermediate\.dense\.(.+)", "blocks.{}.feedforward.0.{}"),
        rule(rf"{body}{LAYER}output\.dense\.(.+)", "blocks.{}.feedforward.2.{}"),
        rule(rf"{body}{LAYER}output\.LayerNorm\.(.+)", "blocks.{}.feedforward_norm.{}"),
        rule(dense, "head.0.{}"),
        rule(classifier, "classifier.{}"),
    ]
