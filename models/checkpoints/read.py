"""SOURCE to a checkpoint: which architecture it is, from its config and its keys, and its reader."""

from __future__ import annotations

from typing import Protocol

from models.checkpoints import bert, cbam, distilbert, native, vit, xclip, xclip_original
from models.checkpoints.checkpoint import Checkpoint, CheckpointError, Choices
from models.checkpoints.source import CONFIG, Source, open_source


class Reader(Protocol):
    """A module of this folder."""

    def fits(self, source: Source) -> bool:
        """Whether the source looks like this architecture."""

    def read(self, source: Source, choices: Choices) -> Checkpoint:
        """The checkpoint, all keys accounted for; raises CheckpointError."""


READERS: dict[str, Reader] = {
    "regard": native,
    "bert": bert,
    "distilbert": distilbert,
    "vit": vit,
    "cbam": cbam,
    "xclip": xclip,
    "xclip-original": xclip_original,
}
KNOWN = ", ".join(READERS)
SHOWN = 5  # keys in a refusal
# How the keys begin of what is known by its config alone.
PREFIXES = {
    "bert.": "BERT",
    "roberta.": "RoBERTa",
    "distilbert.": "DistilBERT",
    "vit.": "ViT",
    "deit.": "DeiT",
    "mit.encoder.": "X-CLIP",
}


def read(source: str, choices: Choices | None = None) -> Checkpoint:
    """A checkpoint from a local folder or file or from the hub; raises CheckpointError.

    Nothing of the source is executed, and every one of its keys has a place in the model, or it is refused.
    """
    choices = choices or Choices()
    if choices.architecture not in (None, *READERS):
        raise CheckpointError(f"architecture {choices.architecture!r} is unknown; known: {KNOWN}")
    found = open_source(source)
    chosen = find_reader(found) if choices.architecture is None else READERS[choices.architecture]
    return chosen.read(found, choices)


def find_reader(source: Source) -> Reader:
    """The first reader whose architecture the source looks like; raises CheckpointError."""
    for reader in READERS.values():
        if reader.fits(source):
            return reader
    said = source.config.get("model_type") or source.config.get("architecture")
    like = next((prefix for prefix in PREFIXES if any(key.startswith(prefix) for key in source.state)), None)
    if like is not None and not said:
        raise CheckpointError(
            f"{source.name}: its keys look like {PREFIXES[like]} of transformers, which is known by the "
            f"model_type in its {CONFIG}: give the folder that holds both"
        )
    raise CheckpointError(
        f"{source.name}: no architecture that is known; its config says {said or 'nothing'}, "
        f"its keys are {', '.join(sorted(source.state)[:SHOWN])}, ...; known: {KNOWN}"
    )
