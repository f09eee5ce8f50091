"""What every reader of checkpoints hands over, and how one refuses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

Family = Literal["text", "image", "video"]
Scoring = Literal["softmax", "sigmoid", "none"]


class CheckpointError(Exception):
    """A source that does not become a model; says in one line what does not fit.

    What a source holds is quoted; what of it is not printable is escaped, for a terminal would obey it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in reason))


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A model ready for export and what has to be known to serve it.

    `preprocessing` says how raw input becomes the model's, in the words of the bundle's input schema;
    `activation` what turns logits into scores; `architecture` is for people. `weights` are the files that
    were read, `source` what they are called where they come from, `name` what the model is to be served as.
    """

    model: nn.Module
    family: Family
    architecture: str
    source: str
    name: str
    version: str
    description: str
    labels: tuple[str, ...]
    activation: Scoring
    preprocessing: dict[str, Any]
    card: dict[str, Any] | None
    weights: tuple[Path, ...]
    tokenizer: Path | None


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What a source does not say of itself, or says otherwise.

    `architecture` names the reader; `labels` is a file of names or the name of a known list; `tokenizer` a
    tokenizer.json or a folder that holds one; `heads` whose count holds in an X-CLIP of transformers: its
    config's ("config") or the paper's ("paper"). `unnamed` takes a model whose labels nobody names, which is
    enough to look at it: they are LABEL_i then, and an X-CLIP has but one.
    """

    architecture: str | None = None
    labels: str | None = None
    tokenizer: Path | None = None
    heads: str | None = None
    unnamed: bool = False
