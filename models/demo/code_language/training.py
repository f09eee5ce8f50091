"""Training examples, batches of like length, and the bag of tokens that warms the embeddings up."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from models.demo.code_language.corpus import Prose
from models.demo.code_language.snippets import LONGEST, SHORTEST, Sampler, Snippet, plant, vary
from models.text import TextTransformer

# The share of examples that stand among prose, and the length in tokens to which all but a few are cut.
PLANTED = 0.2
CROP, WHOLE = 160, 0.08


@dataclass(frozen=True)
class Example:
    """Token ids, special tokens included, and the label."""

    ids: list[int]
    label: int


def examples(
    sampler: Sampler, prose: Sequence[Prose], tokenizer: Tokenizer, *, positions: int, seed: int
) -> Iterator[Example]:
    """Endless training examples, the languages in turn.

    Short places are drawn more often than long ones: they are harder, and they cost less.
    """
    rng = np.random.default_rng(seed)
    while True:
        snippets = [_place(sampler, prose, language, rng) for language in sampler.languages * 16]
        limits = np.where(rng.random(len(snippets)) < WHOLE, positions, CROP)
        rows = tokenizer.encode_batch([snippet.text for snippet in snippets])
        for snippet, encoding, limit in zip(snippets, rows, limits, strict=True):
            yield Example(cut(encoding.ids, int(limit)), sampler.languages.index(snippet.language))


def cut(ids: list[int], limit: int) -> list[int]:
    """At most `limit` ids; the last one stays [SEP]."""
    return ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]]


def _place(sampler: Sampler, prose: Sequence[Prose], language: str, rng: np.random.Generator) -> Snippet:
    if rng.random() < PLANTED:
        snippet = vary(sampler.draw(language, rng, longest=8), rng)
        return plant(snippet, prose, rng, lines=int(rng.integers(2, 9)))
    longest = round(math.exp(rng.uniform(math.log(SHORTEST), math.log(LONGEST))))
    return vary(sampler.draw(language, rng, longest=longest), rng)


def batches(drawn: Iterator[Example], *, tokens: int, seed: int) -> Iterator[list[Example]]:
    """Endless batches of like length, each of at most `tokens` tokens with its padding, in random order."""
    rng = np.random.default_rng(seed)
    while True:
        ordered = sorted(islice(drawn, 4_096), key=lambda example: len(example.ids))
        found: list[list[Example]] = [[]]
        for example in ordered:
            if len(example.ids) * (len(found[-1]) + 1) > tokens:
                found.append([])
            found[-1].append(example)
        for index in rng.permutation(len(found)):
            yield found[index]


def collate(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Token ids of several texts -> input_ids [B, N] padded with 0, lengths [B]."""
    lengths = torch.tensor([len(ids) for ids in rows])
    input_ids = torch.zeros(len(rows), int(lengths.max()), dtype=torch.int64)
    for row, ids in zip(input_ids, rows, strict=True):
        row[: len(ids)] = torch.tensor(ids)
    return input_ids, lengths


class BagOfTokens(nn.Module):
    """The mean of a text's token embeddings, and a linear layer on it."""

    def __init__(self, model: TextTransformer) -> None:
        super().__init__()
        self.token = model.embeddings.token
        self.readout = nn.Linear(model.config.width, model.config.labels)

    def forward(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Token ids of B texts -> logits [B, K]."""
        starts = torch.tensor([0, *(len(ids) for ids in rows)]).cumsum(0)[:-1]
        ids = torch.tensor([index for row in rows for index in row])
        bag = embedding_bag(ids, self.token.weight, starts, mode="mean")
        logits: Tensor = self.readout(bag)
        return logits
