"""Data sets on disk: many inputs for one model, decoded as a request's are, one at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
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


class DatasetError(ValueError):
    """A data set that a model cannot be run on; names the file, or the file and the line."""


class Raw(NamedTuple):
    """One input, a text or a file's bytes, and where it was found; `pair` is the second text of a pair."""

    place: str
    data: str | bytes
    pair: str | None = None


def read_inputs(folder: Path, data: Path, limit: int | None = None) -> Iterator[dict[str, Array]]:
    """The first `limit` inputs of a data set as a bundle's tensors, by name, each a batch of one.

    `data` is a folder (every file below it but hidden ones, sorted), a .txt file (a text on each line) or a
    .jsonl file ({"text": ...} on each line, and "text_pair" where the model takes pairs). Raises
    DatasetError for what cannot be decoded and where there is nothing at all, and BundleError.
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
        for path in sorted(data.rglob("*")):
            hidden = any(part.startswith(".") for part in path.relative_to(data).parts)
            if path.is_file() and not hidden:
                yield Raw(str(path.relative_to(data)), path.read_bytes())
    elif data.is_file() and data.suffix in (".txt", ".jsonl"):
        yield from _lines(data)
    else:
        raise DatasetError(f"{data} is neither a folder nor a .txt or .jsonl file")


def _lines(path: Path) -> Iterator[Raw]:
    """The texts of a list; empty lines are none."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            place = f"{path.name}, line {number}"
            if not line.strip():
                continue
            yield _record(place, line) if path.suffix == ".jsonl" else Raw(place, line.rstrip(b"\r\n"))


def _record(place: str, line: bytes) -> Raw:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise DatasetError(f"{place}: no JSON") from None
    text, pair = (
        (record.get(key) for key in ("text", "text_pair")) if isinstance(record, dict) else (None, None)
    )
    if not isinstance(text, str) or not isinstance(pair, str | None):
        raise DatasetError(f'{place}: no object with a string "text", and "text_pair" a string or left out')
    return Raw(place, text, pair)


def _text(decoder: TextDecoder, raw: Raw) -> TextItem:
    try:
        text = raw.data.decode() if isinstance(raw.data, bytes) else raw.data
    except UnicodeDecodeError:
        raise DatasetError(f"{raw.place}: not UTF-8") from None
    return decoder.decode(text, raw.pair)


def _batch_of_one(item: TextItem) -> dict[str, Array]:
    tensors = {name: tensor[None] for name, tensor in item.tensors.items()}
    return tensors | {"lengths": np.array([item.cost], np.int64)}
