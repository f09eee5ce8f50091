"""SOURCE to a checkpoint: which architecture it is, from its config and its keys, and its reader."""

from __future__ import annotations

from typing import Protocol

from models.checkpoints import bert, native
from models.checkpoints.checkpoint import Checkpoint, CheckpointError, Choices
from models.checkpoints.source import Source, open_source


class Reader(Protocol):
    """A module of this folder."""

    def fits(self, source: Source) -> bool:
        """Whether the source looks like this architecture."""

    def read(self, source: Source, choices: Choices) -> Checkpoint:
        """The checkpoint, all keys accounted for; raises CheckpointError."""


READERS: dict[str, Reader] = {
    "regard": native,
    "bert": bert,
}


def read(source: str, choices: Choices | None = None) -> Checkpoint:
    """A checkpoint from a local folder or file or from the hub; raises CheckpointError.

    Nothing of the source is executed, and every one of its keys has a place in the model, or it is refused.
    """
    choices = choices or Choices()
    found = open_source(source)
    return reader(found, choices.architecture).read(found, choices)


def reader(source: Source, architecture: str | None = None) -> Reader:
    """The reader that was chosen, else the one whose architecture the source looks like."""
    if architecture is not None:
        if architecture not in READERS:
            raise CheckpointError(f"architecture {architecture!r} is unknown; known: {', '.join(READERS)}")
        return READERS[architecture]
    fitting = next((one for one in READERS.values() if one.fits(source)), None)
    if fitting is None:
        said = source.config.get("model_type") or source.config.get("architecture")
        looks = (
            f"its config says {said!r}"
            if said
            else f"its first keys are {', '.join(sorted(source.state)[:5])}"
        )
        raise CheckpointError(
            f"{source.name}: no architecture that is known ({looks}); known: {', '.join(READERS)}"
        )
    return fitting
