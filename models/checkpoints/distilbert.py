"""DistilBERT sequence classifiers as transformers saves them."""

from __future__ import annotations

from models.checkpoints.checkpoint import Checkpoint, Choices
from models.checkpoints.keys import Rule, outputs, rule
from models.checkpoints.source import Source
from models.checkpoints.text_classifier import embedding_rules, norm_rules, text_classifier
from models.text import TextConfig

LAYER = r"distilbert\.transformer\.layer\.(\d+)\."


def fits(source: Source) -> bool:
    """Whether this is one."""
    return source.config.get("model_type") == "distilbert"


def read(source: Source, choices: Choices) -> Checkpoint:
    """Raises CheckpointError where the checkpoint does not fit.

    Sinusoidal positions need no care: they are stored like learned ones.
    """
    config = source.required_config()
    config.classes("ForSequenceClassification")
    width = config.count("dim", 768)
    sizes = TextConfig(
        vocabulary=config.count("vocab_size", 30522),
        labels=outputs(source.state, "classifier.weight"),
        width=width,
        layers=config.layers("n_layers", 6),
        heads=config.heads("n_heads", 12, width=width),
        feedforward=config.count("hidden_dim", 3072),
        positions=config.count("max_position_embeddings", 512),
        head="relu",
        activation=config.activation("activation"),
        norm_eps=1e-12,
    )
    return text_classifier(
        source,
        choices,
        config,
        sizes,
        rules(),
        title="DistilBERT",
        pad_id=config.token("pad_token_id", 0),
    )


def rules() -> list[Rule]:
    """Where the keys go."""
    return [
        *embedding_rules("distilbert"),
        rule(rf"{LAYER}attention\.q_lin\.(.+)", "blocks.{}.attention.query.{}"),
        rule(rf"{LAYER}attention\.k_lin\.(.+)", "blocks.{}.attention.key.{}"),
        rule(rf"{LAYER}attention\.v_lin\.(.+)", "blocks.{}.attention.value.{}"),
        rule(rf"{LAYER}attention\.out_lin\.(.+)", "blocks.{}.attention.out.{}"),
        *norm_rules(rf"{LAYER}sa_layer_norm", "blocks.{}.attention_norm"),
        rule(rf"{LAYER}ffn\.lin1\.(.+)", "blocks.{}.feedforward.0.{}"),
        rule(rf"{LAYER}ffn\.lin2\.(.+)", "blocks.{}.feedforward.2.{}"),
        *norm_rules(rf"{LAYER}output_layer_norm", "blocks.{}.feedforward_norm"),
        rule(r"pre_classifier\.(.+)", "head.0.{}"),
        rule(r"classifier\.(.+)", "classifier.{}"),
    ]
