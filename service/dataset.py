"""Data sets on disk: many inputs for one model, decoded as a request's are, one at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service import bundle
from service.decode.item import TextItem
from service.decode.limits import Limits
from service.decode.text import TextDecoder
from service.errors import Problem
from service.predictor import open_decoder

Array = NDArray[Any]
TRUTH = "truth.jsonl"  # what is known of a folder's files, and no input itself


class DatasetError(ValueError):
    """A data set that a model cannot be run on; names the file, or the file and the line."""


class Raw(NamedTuple):
    """One input, a text or a file's bytes, and where it was found; `pair` is the second text of a pair.

    `record` is the JSON object that the text was read from.
    """

    place: str
    data: str | bytes
    pair: str | None = None
    record: Mapping[str, Any] | None = None


def read_inputs(folder: Path, data: Path, limit: int | None = None) -> Iterator[dict[str, Array]]:
    """The first `limit` inputs of a data set as a bundle's tensors, by name, each a batch of one.

    `data` is a folder (every file below it, sorted, but hidden ones and its truth.jsonl), a .txt file (a text
    on each line) or a .jsonl file ({"text": ...} on each line, and "text_pair" where the model takes pairs).
    Raises DatasetError for what cannot be decoded and where there is nothing at all, and BundleError.
    """
    manifest = bundle.read(folder)
    decoder = open_decoder(manifest, folder, Limits())
    empty = True
    for raw in islice(raws(data), limit):
        empty = False
        try:
            if isinstance(decoder, TextDecoder):
                yield _batch_of_one(_text(decoder, raw))
            elif isinstance(raw.data, bytes):
                yield {name: tensor[None] for name, tensor in decoder.decode(raw.data).tensors.items()}
            else:
                raise DatasetError(f"{raw.place}: a text, but the model is of the family {manifest.family}")
        except Problem as error:
            raise DatasetError(f"{raw.place}: {error}") from error
    if empty:
        raise DatasetError(f"{data} holds no inputs")


def raws(data: Path) -> Iterator[Raw]:
    """The inputs of a data set as they are; raises DatasetError."""
    if data.is_dir():
        for path in files(data):
            yield Raw(path.relative_to(data).as_posix(), path.read_bytes())
    else:
        for place, line in lines(data):
            yield _record(place, line) if data.suffix == ".jsonl" else Raw(place, line.rstrip(b"\r\n"))


def size(data: Path) -> int:
    """How many inputs a data set has; raises DatasetError."""
    return sum(1 for _ in (files(data) if data.is_dir() else lines(data)))


def files(folder: Path) -> list[Path]:
    """The files of a folder that are inputs, sorted."""
    below = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / TRUTH)
    return [path for path in below if not any(part[0] == "." for part in path.relative_to(folder).parts)]


def lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """The lines of a list that are not empty, each with its place in words; raises DatasetError."""
    if not (path.is_file() and path.suffix in (".txt", ".jsonl")):
        raise DatasetError(f"{path} is neither a folder nor a .txt or .jsonl file")
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield f"{path.name}, line {number}", line


def read_record(place: str, line: bytes) -> dict[str, Any]:
    """The JSON object on a line; raises DatasetError."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise DatasetError(f"{place}: no JSON") from None
    if not isinstance(record, dict):
        raise DatasetError(f"{place}: no object")
    return record


def _record(place: str, line: bytes) -> Raw:
    record = read_record(place, line)
    text, pair = record.get("text"), record.get("text_pair")
    if not isinstance(text, str) or not isinstance(pair, str | None):
        raise DatasetError(f'{place}: no object with a string "text", and "text_pair" a string or left out')
    return Raw(place, text, pair, record)


def _text(decoder: TextDecoder, raw: Raw) -> TextItem:
    try:
        text = raw.data.decode() if isinstance(raw.data, bytes) else raw.data
    except UnicodeDecodeError:
        raise DatasetError(f"{raw.place}: not UTF-8") from None
    return decoder.decode(text, raw.pair)


def _batch_of_one(item: TextItem) -> dict[str, Array]:
    tensors = {name: tensor[None] for name, tensor in item.tensors.items()}
    return tensors | {"lengths": np.array([item.cost], np.int64)}
