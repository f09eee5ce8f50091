"""Text transformer in the BERT layout: post-LN encoder, learned positions, padding by length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from models import adjoints
from models.activation import ACTIVATIONS, Activation
from models.attention import MultiHeadAttention, Taps, attention_taps
from models.feedforward import FeedForward
from models.programs import (
    ClassRows,
    MapProgram,
    Proof,
    Received,
    Rollout,
    TokenAttention,
    TokenGradientMap,
    ValueNorm,
)
from models.relevance import Relevance, class_token


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
        self.feedforward = FeedForward(
            width=config.width, hidden=config.feedforward, activation=ACTIVATIONS[config.activation]()
        )
        self.feedforward_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Taps]:
        """x [B, N, D] -> the same shape; the taps are those of the attention, and what a norm or an
        activation gets: `attended` and `fed` [B, N, D], `hidden` [B, N, F].
        """
        out, taps = self.attention(x, lengths=lengths)
        attended = x + self.dropout(out)
        x = self.attention_norm(attended)
        out, hidden = self.feedforward(x)
        fed = x + self.dropout(out)
        return self.feedforward_norm(fed), taps | {"attended": attended, "hidden": hidden, "fed": fed}

    def adjoint(self, gradient: Tensor, taps: Taps, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient by the output [B, N, D] -> by x, and the relevance [B, N, N]."""
        gradient = adjoints.layer_norm(self.feedforward_norm, taps["fed"], gradient)
        gradient = gradient + self.feedforward.adjoint(gradient, taps["hidden"])
        gradient = adjoints.layer_norm(self.attention_norm, taps["attended"], gradient)
        through, relevance = adjoints.self_attention(self.attention, taps, gradient, lengths=lengths)
        return gradient + through, relevance


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

        Returns logits [B, K] and per layer the taps `layers.I.query`, `.key`, `.value`, `.mixed` [B, N, D].
        """
        x, layers = self.encode(input_ids, lengths, token_types)
        taps: Taps = {}
        for index, layer in enumerate(layers):
            taps |= attention_taps(f"layers.{index}", layer)
        return {"logits": self.classifier(self.head(x[:, 0]))}, taps

    @property
    def _blocks(self) -> list[EncoderBlock]:
        return list(self.blocks)  # type: ignore[arg-type]

    def encode(
        self, input_ids: Tensor, lengths: Tensor, token_types: Tensor | None
    ) -> tuple[Tensor, list[Taps]]:
        """What the head gets [B, N, D], and every tap of every block."""
        x = self.embeddings(input_ids, token_types)
        layers = []
        for block in self.blocks:
            x, taps = block(x, lengths)
            layers.append(taps)
        return x, layers

    def relevance(
        self, input_ids: Tensor, lengths: Tensor, target: Tensor, token_types: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Gradient relevance and Grad-SAM of the labels `target` [B]: [B, N] twice."""
        x, layers = self.encode(input_ids, lengths, token_types)
        gradient = self.classifier.weight[target].to(x.dtype)  # [B, D]
        if isinstance(self.head, nn.Sequential):
            dense, activation = self.head
            assert isinstance(dense, nn.Linear)
            gradient = adjoints.linear(dense, adjoints.activation(activation, dense(x[:, 0]), gradient))
        gradient = gradient[:, None] * class_token(x)[:, None]  # [B, N, D]
        found = Relevance(x)
        for block, taps in zip(reversed(self._blocks), reversed(layers), strict=True):
            gradient, relevance = block.adjoint(gradient, taps, lengths)
            found.through(relevance)
        return found.row, found.received(len(layers), lengths)

    def programs(self) -> dict[str, MapProgram]:
        """The maps that this model's taps allow, by name."""
        layers, heads = self.layers, self.config.heads
        inputs = ["input_ids", "lengths", *(["token_types"] if self.config.token_types else [])]
        return {
            "cls": ClassRows(layers, heads=heads),
            "rollout": Rollout(layers, heads=heads),
            "received": Received(layers, heads=heads),
            "value_norm": ValueNorm(layers, [block.attention for block in self._blocks]),
            "relevance": TokenGradientMap(self, 0, inputs=inputs),
            "grad_sam": TokenGradientMap(self, 1, inputs=inputs),
            "attention": TokenAttention(layers, heads=heads),
        }

    @property
    def layers(self) -> list[str]:
        """The names of the layers whose attention has taps."""
        return [f"layers.{index}" for index in range(self.config.layers)]

    def proof(self) -> Proof:
        """What verifies the attention of one of `layers`."""
        return Proof(heads=self.config.heads, lengths=True)
