"""BERT, RoBERTa and XLM-RoBERTa sequence classifiers as transformers saves them."""

from __future__ import annotations

from dataclasses import dataclass

from models.checkpoints.checkpoint import Checkpoint, CheckpointError, Choices
from models.checkpoints.keys import Rule, outputs, rule
from models.checkpoints.source import Source
from models.checkpoints.text_classifier import embedding_rules, norm_rules, text_classifier
from models.text import TextConfig

LAYER = r"encoder\.layer\.(\d+)\."


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What sets one of them apart.

    `prefix` begins the keys of the encoder, `dense` and `classifier` those of the two linear maps behind it;
    `vocabulary` and `pad_id` are what a config without these fields means. `after_padding` says that the
    first token has the position after the padding's id, so that the rows before are never looked up.
    """

    title: str
    prefix: str
    dense: str
    classifier: str
    vocabulary: int
    pad_id: int
    after_padding: bool


def roberta(title: str, *, vocabulary: int) -> Layout:
    """RoBERTa's layout."""
    return Layout(
        title=title,
        prefix="roberta",
        dense="classifier.dense",
        classifier="classifier.out_proj",
        vocabulary=vocabulary,
        pad_id=1,
        after_padding=True,
    )


LAYOUTS = {
    "bert": Layout(
        title="BERT",
        prefix="bert",
        dense="bert.pooler.dense",
        classifier="classifier",
        vocabulary=30522,
        pad_id=0,
        after_padding=False,
    ),
    "roberta": roberta("RoBERTa", vocabulary=50265),
    "xlm-roberta": roberta("XLM-RoBERTa", vocabulary=30522),
}


def fits(source: Source) -> bool:
    """Whether this is one of them."""
    return str(source.config.get("model_type")) in LAYOUTS


def read(source: Source, choices: Choices) -> Checkpoint:
    """Raises CheckpointError where the checkpoint does not fit."""
    config, layout = source.required_config(), find_layout(source)
    config.classes("ForSequenceClassification")
    config.only("position_embedding_type", "absolute")
    config.only("is_decoder", False)
    config.only("add_cross_attention", False)
    pad_id = config.token("pad_token_id", layout.pad_id)
    skipped = pad_id + 1 if layout.after_padding else 0
    positions = config.count("max_position_embeddings", 512)
    if skipped >= positions:
        raise CheckpointError(
            f"config.json: max_position_embeddings {positions} has no position after pad_token_id {pad_id}"
        )
    width = config.count("hidden_size", 768)
    sizes = TextConfig(
        vocabulary=config.count("vocab_size", layout.vocabulary),
        labels=outputs(source.state, f"{layout.classifier}.weight"),
        width=width,
        layers=config.layers("num_hidden_layers", 12),
        heads=config.heads("num_attention_heads", 12, width=width),
        feedforward=config.count("intermediate_size", 3072),
        positions=positions - skipped,
        token_types=config.count("type_vocab_size", 2),
        head="tanh",
        activation=config.activation("hidden_act"),
        norm_eps=config.real("layer_norm_eps", 1e-12),
    )
    return text_classifier(
        source, choices, config, sizes, rules(layout, skipped), title=layout.title, pad_id=pad_id
    )


def find_layout(source: Source) -> Layout:
    """The layout that the config names, else the one whose prefix the keys have."""
    named = LAYOUTS.get(str(source.config.get("model_type")))
    if named is not None:
        return named
    prefixed = any(key.startswith("roberta.") for key in source.state)
    return LAYOUTS["roberta" if prefixed else "bert"]


def rules(layout: Layout, skipped: int) -> list[Rule]:
    """Where the keys go; the first `skipped` positions are left out."""
    body = rf"{layout.prefix}\."
    return [
        *embedding_rules(layout.prefix, skipped),
        rule(rf"{body}embeddings\.token_type_embeddings\.weight", "embeddings.token_type.weight"),
        rule(rf"{body}{LAYER}attention\.self\.(query|key|value)\.(.+)", "blocks.{}.attention.{}.{}"),
        rule(rf"{body}{LAYER}attention\.output\.dense\.(.+)", "blocks.{}.attention.out.{}"),
        *norm_rules(rf"{body}{LAYER}attention\.output\.LayerNorm", "blocks.{}.attention_norm"),
        rule(rf"{body}{LAYER}intermediate\.dense\.(.+)", "blocks.{}.feedforward.0.{}"),
        rule(rf"{body}{LAYER}output\.dense\.(.+)", "blocks.{}.feedforward.2.{}"),
        *norm_rules(rf"{body}{LAYER}output\.LayerNorm", "blocks.{}.feedforward_norm"),
        rule(rf"{layout.dense}\.(.+)", "head.0.{}"),
        rule(rf"{layout.classifier}\.(.+)", "classifier.{}"),
    ]
