"""Names of labels from a file, or of a list that everybody knows."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.checkpoints.checkpoint import CheckpointError
from models.checkpoints.document import parse_json, read_text

IMAGENET = "imagenet-1k"
IMAGENET_FILE = Path(__file__).parent / "imagenet_1k.txt"
SYNSET = re.compile(r"n\d{8}\s+")  # before the words in lists of ImageNet
MOST_BYTES = 16 * 1024**2
CSV_HEADER = "id,name"  # of the original X-CLIP's lists
# Unicode's categories of control characters, of those that turn or hide what follows, and of halves of
# characters. Of the second, two join and part the letters of real names.
UNSEEN = {"Cc", "Cf", "Cs"}
JOINERS = "\u200c\u200d"


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
    if not labels:
        raise CheckpointError(f"{place}: no labels")
    return check_names(place, [label.strip() if isinstance(label, str) else label for label in labels])


def check_names(place: str, labels: Sequence[Any]) -> tuple[str, ...]:
    """The labels; raises CheckpointError unless each is a text without characters that nobody sees."""
    for index, label in enumerate(labels):
        if not isinstance(label, str) or not label.strip() or any(map(_is_unseen, label)):
            raise CheckpointError(f"{place}: label {index} is {label!r}, which is no name")
    return tuple(labels)


def _is_unseen(character: str) -> bool:
    return unicodedata.category(character) in UNSEEN and character not in JOINERS


def in_order(place: str, names: Mapping[str, Any]) -> list[Any]:
    """What stands under "0", "1" and so on; raises CheckpointError where other keys do."""
    if names.keys() != {str(index) for index in range(len(names))}:
        raise CheckpointError(f"{place}: its keys are not 0 to {len(names) - 1}")
    return [names[str(index)] for index in range(len(names))]


def unnamed(count: int) -> tuple[str, ...]:
    """What labels without names are called, as in transformers."""
    return tuple(f"LABEL_{index}" for index in range(count))


def check_count(labels: tuple[str, ...], outputs: int, *, place: str = "labels") -> tuple[str, ...]:
    """The labels; raises CheckpointError unless there is one for each output."""
    if len(labels) != outputs:
        raise CheckpointError(f"{place}: {len(labels)} names for {outputs} outputs of the model")
    return labels


def _from_lines(place: str, text: str) -> list[str]:
    """Lines end as in every editor; `splitlines` would also cut at characters within a name."""
    lines = [line.strip() for line in text.rstrip().split("\n")] if text.strip() else []
    if lines and lines[0] == CSV_HEADER:
        return _from_table(place, lines[1:])
    return [SYNSET.sub("", line) for line in lines]


def _from_table(place: str, lines: list[str]) -> list[str]:
    """The names of rows (index, name), which may stand in any order."""
    try:
        rows = list(csv.reader(lines))
    except csv.Error as error:
        raise CheckpointError(f"{place}: {error}") from None
    names = {row[0]: row[1] for row in rows if len(row) == 2}
    if len(names) != len(rows):
        raise CheckpointError(f"{place}: its rows are not an id and a name, each id once")
    return in_order(place, names)


def _from_json(place: str, document: Any) -> list[Any]:
    if isinstance(document, dict):
        document = document.get("id2label", document)
    if isinstance(document, dict):
        document = in_order(place, document)
    if not isinstance(document, list):
        raise CheckpointError(f"{place}: id2label is no object")
    # An entry may be [synset, words].
    return [value[1] if isinstance(value, list) and len(value) == 2 else value for value in document]
