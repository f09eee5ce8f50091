"""Names of labels from a file, or of a list that everybody knows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from models.checkpoints.checkpoint import CheckpointError

IMAGENET = "imagenet-1k"
IMAGENET_FILE = Path(__file__).parent / "imagenet_1k.txt"
SYNSET = re.compile(r"n\d{8}\s+")  # before the words in lists of ImageNet


def read_labels(source: str) -> tuple[str, ...]:
    """Labels in order: one per line, a JSON list, a JSON object by index, or a config with id2label.

    ImageNet's own forms are understood: lines "n01440764 tench, Tinca tinca", {"0": ["n01440764", "tench"]}.
    `source` is a file or "imagenet-1k" (words of WordNet's synsets). Raises CheckpointError.
    """
    path = IMAGENET_FILE if source == IMAGENET else Path(source)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"labels: {source}: {error}") from None
    labels = _from_json(source, text) if text.lstrip().startswith(("{", "[")) else _from_lines(text)
    if not labels or any(not label for label in labels):
        raise CheckpointError(f"labels: {source}: no label may be empty, and there must be one")
    return labels


def check_count(labels: tuple[str, ...], outputs: int) -> tuple[str, ...]:
    """The labels; raises CheckpointError unless there is one for each output."""
    if len(labels) != outputs:
        raise CheckpointError(f"labels: {len(labels)} names for {outputs} outputs of the model")
    return labels


def _from_lines(text: str) -> tuple[str, ...]:
    return tuple(SYNSET.sub("", line.strip()) for line in text.strip().splitlines())


def _from_json(source: str, text: str) -> tuple[str, ...]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"labels: {source}: {error}") from None
    if isinstance(document, dict):
        document = document.get("id2label", document)
        if set(document) != {str(index) for index in range(len(document))}:
            raise CheckpointError(f"labels: {source}: its keys are not 0 to {len(document) - 1}")
        document = [document[str(index)] for index in range(len(document))]
    return tuple(_name(source, value) for value in document)


def _name(source: str, value: Any) -> str:
    if isinstance(value, list) and value:
        value = value[-1]  # [synset, words]
    if not isinstance(value, str):
        raise CheckpointError(f"labels: {source}: {value!r} is no name")
    return value.strip()
