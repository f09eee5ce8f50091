"""Names of labels from a file, or of a list that everybody knows."""

from __future__ import annotations

import csv
import re
import unicodedata
from pathlib import Path
from typing import Any

from models.checkpoints.checkpoint import CheckpointError
from models.checkpoints.document import parse_json, read_text

IMAGENET = "imagenet-1k"
IMAGENET_FILE = Path(__file__).parent / "imagenet_1k.txt"
SYNSET = re.compile(r"n\d{8}\s+")  # before the words in lists of ImageNet
MOST_BYTES = 16 * 1024**2
CSV_HEADER = "id,name"  # of the original X-CLIP's lists
UNSEEN = {"Cc", "Cs"}  # Unicode's categories of control characters and of halves of characters


def read_labels(source: str) -> tuple[str, ...]:
    """Labels in order: one per line, a JSON list, a JSON object by index, or a config with id2label.

    ImageNet's own forms are understood: lines "n01440764 tench, Tinca tinca", {"0": ["n01440764", "tench"]};
    so is a table with the columns id and name, as the original X-CLIP has it.
    `source` is a file or "imagenet-1k" (words of WordNet's synsets). Two labels may have one name, as in
    ImageNet (crane, maillot). Raises CheckpointError.
    """
    text = read_text(IMAGENET_FILE if source == IMAGENET else Path(source), most=MOST_BYTES)
    place = f"labels: {Path(source).name}"
    is_json = text.lstrip().startswith(("{", "["))
    labels = _from_json(place, parse_json(place, text)) if is_json else _from_lines(place, text)
    for index, label in enumerate(labels):
        if not label or any(unicodedata.category(character) in UNSEEN for character in label):
            raise CheckpointError(f"{place}: label {index} is {label!r}, which is no name")
    if not labels:
        raise CheckpointError(f"{place}: no labels")
    return labels


def check_count(labels: tuple[str, ...], outputs: int) -> tuple[str, ...]:
    """The labels; raises CheckpointError unless there is one for each output."""
    if len(labels) != outputs:
        raise CheckpointError(f"labels: {len(labels)} names for {outputs} outputs of the model")
    return labels


def _from_lines(place: str, text: str) -> tuple[str, ...]:
    """Lines end as in every editor; `splitlines` would also cut at characters within a name."""
    lines = [line.strip() for line in text.rstrip().split("\n")] if text.strip() else []
    if lines and lines[0] == CSV_HEADER:
        return tuple(name.strip() for name in _in_order(place, list(csv.reader(lines[1:]))))
    return tuple(SYNSET.sub("", line) for line in lines)


def _in_order(place: str, rows: list[list[str]]) -> list[str]:
    """The names of rows (index, name), which may stand in any order."""
    names = {row[0]: row[1] for row in rows if len(row) == 2}
    if len(names) != len(rows) or names.keys() != {str(index) for index in range(len(rows))}:
        raise CheckpointError(f"{place}: its ids are not 0 to {len(rows) - 1}, each with one name")
    return [names[str(index)] for index in range(len(rows))]


def _from_json(place: str, document: Any) -> tuple[str, ...]:
    if isinstance(document, dict):
        document = document.get("id2label", document)
    if isinstance(document, dict):
        if document.keys() != {str(index) for index in range(len(document))}:
            raise CheckpointError(f"{place}: its keys are not 0 to {len(document) - 1}")
        document = [document[str(index)] for index in range(len(document))]
    if not isinstance(document, list):
        raise CheckpointError(f"{place}: id2label is no object")
    return tuple(_name(place, value) for value in document)


def _name(place: str, value: Any) -> str:
    if isinstance(value, list) and len(value) == 2:
        value = value[1]  # [synset, words]
    if not isinstance(value, str):
        raise CheckpointError(f"{place}: {value!r} is no name")
    return value.strip()
