"""Text transformer in the BERT layout: post-LN encoder, learned positions, padding by length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from models.activation import ACTIVATIONS, Activation
from models.attention import MultiHeadAttention, Taps, named
from models.programs import ClassRows, MapProgram, Received, Rollout


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Sizes of a text transformer.

    `token_types` 0 means that the model has none; `head` is what stands between the class token and
    the classifier: nothing, or a dense layer with that activation (BERT: tanh, DistilBERT: relu).
    """

    vocabulary: int
    labels: int
    width: int
    layers: int
    heads: int
    feedforward: int
    positions: int
    token_types: int = 0
    head: Literal["linear", "tanh", "relu"] = "tanh"
    activation: Activation = "gelu"
    norm_eps: float = 1e-12
    dropout: float = 0.0


class Embeddings(nn.Module):
    """Token + position (+ token type) embeddings, normalised."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.token = nn.Embedding(config.vocabulary, config.width)
        self.position = nn.Embedding(config.positions, config.width)
        self.token_type = nn.Embedding(config.token_types, config.width) if config.token_types else None
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, input_ids: Tensor, token_types: Tensor | None) -> Tensor:
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        x: Tensor = self.token(input_ids) + self.position(positions)  # [B, N, D]
        if self.token_type is not None:
            x = x + self.token_type(torch.zeros_like(input_ids) if token_types is None else token_types)
        out: Tensor = self.dropout(self.norm(x))
        return out


class EncoderBlock(nn.Module):
    """Self-attention and feed-forward, each with a residual and a layer norm after it."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(width=config.width, heads=config.heads)
        self.attention_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.feedforward = nn.Sequential(
            nn.Linear(config.width, config.feedforward),
            ACTIVATIONS[config.activation](),
            nn.Linear(config.feedforward, config.width),
        )
        self.feedforward_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Taps]:
        mixed, taps = self.attention(x, lengths=lengths)
        x = self.attention_norm(x + self.dropout(mixed))
        return self.feedforward_norm(x + self.dropout(self.feedforward(x))), taps


class TextTransformer(nn.Module):
    """Sequence classifier on the first (class) token."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.blocks = nn.ModuleList(EncoderBlock(config) for _ in range(config.layers))
        self.head = (
            nn.Identity()
            if config.head == "linear"
            else nn.Sequential(nn.Linear(config.width, config.width), ACTIVATIONS[config.head]())
        )
        self.classifier = nn.Linear(config.width, config.labels)

    def forward(
        self, input_ids: Tensor, lengths: Tensor, token_types: Tensor | None = None
    ) -> tuple[dict[str, Tensor], Taps]:
        """input_ids [B, N] right-padded, lengths [B] in tokens, token_types [B, N].

        Returns logits [B, K] and per layer the taps `layers.I.query` and `layers.I.key` [B, N, D].
        """
        x = self.embeddings(input_ids, token_types)
        taps: Taps = {}
        for index, block in enumerate(self.blocks):
            x, attention = block(x, lengths)
            taps |= named(f"layers.{index}", attention)
        return {"logits": self.classifier(self.head(x[:, 0]))}, taps

    def programs(self) -> dict[str, MapProgram]:
        """The maps that this model's taps allow, by name."""
        layers, heads = [f"layers.{index}" for index in range(self.config.layers)], self.config.heads
        return {
            "cls": ClassRows(layers, heads=heads),
            "rollout": Rollout(layers, heads=heads),
            "received": Received(layers, heads=heads),
        }
