"""Labels as texts: what an X-CLIP's text tower makes of their names, so that it need not be served."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from torch import Tensor

from models.checkpoints.checkpoint import CheckpointError, Choices
from models.checkpoints.labels import read_labels, unnamed
from models.checkpoints.source import Source
from models.checkpoints.tokens import find_tokenizer, open_tokenizer
from models.video import XCLIP, VideoClassifier

TOGETHER = 32  # names in one run of the text tower: what it needs does not grow with the number of labels


def with_labels(model: XCLIP, source: Source, choices: Choices) -> tuple[VideoClassifier, tuple[str, ...]]:
    """The model for the chosen labels, each name encoded as it stands, and the names.

    Raises CheckpointError where labels or tokenizer are missing or do not fit.
    """
    if choices.labels is None and choices.unnamed:
        return VideoClassifier(model, torch.zeros(1, model.config.embed)).eval(), unnamed(1)
    if choices.labels is None:
        raise CheckpointError(
            "labels: an X-CLIP has none of its own; give a file of their names with --labels"
        )
    names = read_labels(choices.labels)
    tokenizer = open_tokenizer(find_tokenizer(source, choices), vocabulary=model.config.vocabulary)
    ids = token_ids(tokenizer, names, context=model.config.context)
    return VideoClassifier(model, embeddings(model, ids)).eval().requires_grad_(False), names


def token_ids(tokenizer: Tokenizer, names: Sequence[str], *, context: int) -> list[list[int]]:
    """The tokens of each name between start and end token.

    Raises CheckpointError where the end cannot be told by its id, which is how the tower finds it, or where a
    name has more tokens than the tower has positions.
    """
    try:
        empty, *rows = (encoding.ids for encoding in tokenizer.encode_batch(["", *names]))
    except Exception as error:  # the library raises bare Exceptions
        raise CheckpointError(f"tokenizer: {error}") from None
    if len(empty) != 2:
        raise CheckpointError("tokenizer: it puts no start and end token around a text, as that of CLIP does")
    start, end = empty
    highest = max(start, *tokenizer.get_vocab(with_added_tokens=True).values())
    if end != highest or start == end:
        raise CheckpointError(
            f"tokenizer: its end token has the id {end}, and the text tower finds the end by the highest, "
            f"{highest}: the tokenizer is not the model's own"
        )
    for name, ids in zip(names, rows, strict=True):
        if ids.count(end) != 1:
            raise CheckpointError(
                f"labels: {name!r} holds the end token, or what the tokenizer does not know"
            )
        if len(ids) > context:
            raise CheckpointError(f"labels: {name!r} has {len(ids)} tokens, the model takes {context}")
    return rows


@torch.no_grad()
def embeddings(model: XCLIP, rows: Sequence[Sequence[int]]) -> Tensor:
    """Token ids of K texts -> [K, E]. The tower is causal: padding after the end is never seen."""
    found = []
    for start in range(0, len(rows), TOGETHER):
        some = rows[start : start + TOGETHER]
        longest = max(map(len, some))
        ids = [[*row, *([0] * (longest - len(row)))] for row in some]
        found.append(model.text(torch.tensor(ids)))
    return torch.cat(found)
