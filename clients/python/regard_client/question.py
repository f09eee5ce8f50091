"""Inputs as the body of a request."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from regard_client.options import spelled

Text = str | tuple[str, str | None]
Input = Text | bytes | os.PathLike[str]
ONE = (str, tuple, bytes, os.PathLike)  # the types of an input; of others there are several


@dataclass(frozen=True, kw_only=True)
class Question:
    """A request for predictions of so many inputs. `body` is in httpx's words, and all of it in memory.

    So it can be sent again.
    """

    path: str
    body: Mapping[str, Any]
    inputs: int


def ask(
    model: str, inputs: Sequence[Input], options: Mapping[str, Any], *, version: str | None = None
) -> Question:
    """Reads files. Texts go as JSON, all else as a form.

    Raises TypeError for what is no input or not of one request, OSError for files that cannot be read.
    """
    if not inputs:
        raise ValueError("there is no input")
    path = f"{model_path(model, version)}/predict"
    texts = [one for one in inputs if isinstance(one, str | tuple)]
    if len(texts) == len(inputs):
        return Question(path=path, body={"json": {**_texts(texts), **options}}, inputs=len(inputs))
    if texts:
        raise TypeError("texts and files do not go into one request")
    # No name and no type: names are the caller's own, and the server goes by the bytes.
    files = [("file", ("file", _bytes(one), "application/octet-stream")) for one in inputs]
    return Question(path=path, body={"files": files, "params": spelled(options)}, inputs=len(inputs))


def model_path(model: str, version: str | None) -> str:
    """Where a model is, its highest version if none is given."""
    path = f"/v1/models/{quote(model, safe='')}"
    return path if version is None else f"{path}/versions/{quote(version, safe='')}"


def _texts(texts: Sequence[Text]) -> dict[str, Any]:
    split = [(one, None) if isinstance(one, str) else one for one in texts]
    if not all(len(one) == 2 and isinstance(one[0], str) and isinstance(one[1], str | None) for one in split):
        raise TypeError("a tuple as an input is a pair of texts, the second of which may be None")
    document: dict[str, Any] = {"text": [text for text, _ in split]}
    if any(pair is not None for _, pair in split):
        document["text_pair"] = [pair for _, pair in split]
    return document


def _bytes(one: Any) -> bytes:
    if isinstance(one, os.PathLike):
        return Path(one).read_bytes()
    if isinstance(one, bytes):
        return one
    raise TypeError(f"an input is a str, a pair of them, bytes or a path, not {type(one).__name__}")
