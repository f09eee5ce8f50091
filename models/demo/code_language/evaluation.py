"""The card's figures: accuracy on held-out snippets, and whether the maps find code planted in prose."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer
from torch import Tensor

from models.demo.card import Card, MapScore, score, wilson
from models.demo.code_language.corpus import Prose
from models.demo.code_language.snippets import Sampler, Snippet, plant
from models.demo.code_language.training import collate
from models.text import TextTransformer

Floats = NDArray[np.float64]
MAPS = ("cls", "rollout", "received")
BATCH = 32


@torch.no_grad()
def predict(model: TextTransformer, rows: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """The label of each row of token ids, in batches of like length."""
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    labels = np.zeros(len(rows), dtype=np.int64)
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        outputs, _ = model(*collate([rows[index] for index in batch]))
        labels[batch] = outputs["logits"].argmax(-1).numpy()
    return labels


def planted(
    sampler: Sampler,
    prose: Sequence[Prose],
    tokenizer: Tokenizer,
    *,
    count: int,
    positions: int,
    seed: int,
) -> list[tuple[Snippet, Encoding]]:
    """`count` snippets of 3 to 8 lines among 4 to 12 lines of prose, short enough to be read whole."""
    rng = np.random.default_rng(seed)
    found: list[tuple[Snippet, Encoding]] = []
    while len(found) < count:
        language = sampler.languages[len(found) % len(sampler.languages)]
        snippet = plant(sampler.draw(language, rng, longest=8), prose, rng, lines=int(rng.integers(4, 13)))
        encoding = tokenizer.encode(snippet.text)
        if len(encoding.ids) <= positions:
            found.append((snippet, encoding))
    return found


def inside(snippet: Snippet, encoding: Encoding) -> Floats:
    """Of each token but [CLS] and [SEP], the share of its characters that are code."""
    shares = [
        max(0, min(end, snippet.end) - max(start, snippet.start)) / max(1, end - start)
        for start, end in encoding.offsets[1:-1]
    ]
    return np.array(shares)


@torch.no_grad()
def localise(
    model: TextTransformer, places: Sequence[tuple[Snippet, Encoding]], *, seed: int
) -> tuple[MapScore, ...]:
    """Pointing game and energy pointing of the model's maps, and of random numbers beside them.

    Every layer for itself, heads averaged; [CLS] and [SEP] do not count.
    """
    masks = [inside(snippet, encoding) for snippet, encoding in places]
    rng = np.random.default_rng(seed)
    found: dict[tuple[str, str | None], list[Floats]] = {
        ("random", None): [rng.random(len(m)) for m in masks]
    }
    programs = {name: model.programs()[name] for name in MAPS}
    for _, encoding in places:
        input_ids, lengths = collate([encoding.ids])
        _, taps = model(input_ids, lengths)
        given: dict[str, Tensor] = {**taps, "lengths": lengths}
        for name, program in programs.items():
            maps = program(*(given[tap] for tap in program.inputs))
            for layer, values in zip(program.layers or (None,), maps, strict=True):
                row = values[0].mean(0) if values.ndim == 3 else values[0]  # [N], heads averaged
                found.setdefault((name, layer), []).append(row[1:-1].double().numpy())
    return tuple(score(name, layer, maps, masks) for (name, layer), maps in found.items())


def right(
    labels: Sequence[str], snippets: Sequence[Snippet], predicted: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which of the predictions name the snippet's language."""
    return np.array([labels[label] == s.language for label, s in zip(predicted, snippets, strict=True)])


def card(
    labels: Sequence[str],
    snippets: Sequence[Snippet],
    hits: NDArray[np.bool_],
    maps: tuple[MapScore, ...],
    planted_hits: NDArray[np.bool_],
) -> Card:
    """The card: `hits` among the snippets, `planted_hits` among those that the maps were scored on."""
    languages = np.array([snippet.language for snippet in snippets])
    projects = len({snippet.project for snippet in snippets})
    return Card(
        data=f"snippets of 3 to 40 lines from {projects} projects that were kept out of training, "
        "as many of each language",
        examples=len(snippets),
        accuracy=wilson(int(hits.sum()), len(hits)),
        per_label={label: float(hits[languages == label].mean()) for label in labels},
        truth=f"the code in {len(planted_hits)} texts, each a held-out snippet of 3 to 8 lines at a random "
        "place among 4 to 12 lines of held-out English prose "
        f"({planted_hits.mean():.1%} of their labels are right); special tokens left out",
        maps=maps,
    )
