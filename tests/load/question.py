"""Requests that know their own answer, so that another's result is noticed."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.load.client import Reply

EXAMPLES = Path(__file__).parents[2] / "examples"
TOLERANCE = 1e-4  # a neighbour in the batch may change the last digits
TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".mp4": "video/mp4", ".webm": "video/webm"}


@dataclass
class Question:
    """One input for one model, and the answers that are right: none until it was asked alone."""

    model: str
    body: bytes
    content_type: str
    options: str = ""
    right: list[Any] = field(default_factory=list)

    def wire(self, number: int) -> bytes:
        """The request, with an id of its own."""
        return (
            f"POST /v1/models/{self.model}/predict?{self.options} HTTP/1.1\r\nhost: load\r\n"
            f"content-length: {len(self.body)}\r\ncontent-type: {self.content_type}\r\n"
            f"x-request-id: load-{number}\r\n\r\n"
        ).encode() + self.body

    def learn(self, document: Any) -> None:
        """From now on, this is a right answer."""
        self.right.append(_said(document))

    def check(self, document: Any) -> int:
        """Which of the right answers this is; raises AssertionError."""
        said = _said(document)
        for index, right in enumerate(self.right):
            if _same(said, right):
                return index
        raise AssertionError(f"{str(said)[:600]} is not the answer to {self.body[:200]!r}")


def _said(document: Any) -> Any:
    """What depends on the input alone."""
    for prediction in document["predictions"]:
        for found in prediction["maps"]:
            del found["links"]
    return document["predictions"]


def _same(one: Any, other: Any) -> bool:
    if one == other:
        return True
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= TOLERANCE * max(1, abs(one))
    return False


def snippets(
    model: str, count: int, *, words: tuple[int, int], options: str = "", seed: int = 0
) -> list[Question]:
    """Texts of so many words of a program, no two the same."""
    return _texts(model, (EXAMPLES / "snippet.rs").read_text().split(), count, words, options, seed)


def numbered(model: str, count: int, *, tokens: tuple[int, int], seed: int = 0) -> list[Question]:
    """Texts of so many tokens for the model that has one for each word, no two the same."""
    words = [f"w{index}" for index in range(3, 1000)]
    return _texts(model, words, count, (tokens[0] - 2, tokens[1] - 2), "", seed)


def _texts(
    model: str, words: Sequence[str], count: int, between: tuple[int, int], options: str, seed: int
) -> list[Question]:
    chance, made = random.Random(seed), set()
    while len(made) < count:
        made.add(" ".join(chance.choices(words, k=chance.randint(*between))))
    return [Question(model, text.encode(), "text/plain", options) for text in sorted(made)]


def media(model: str, pattern: str, options: str = "") -> list[Question]:
    """The examples of this kind."""
    return [
        Question(model, path.read_bytes(), TYPES[path.suffix], options)
        for path in sorted(EXAMPLES.glob(pattern))
        if path.suffix in TYPES
    ]


def document(reply: Reply) -> Any:
    """A reply as JSON."""
    return json.loads(reply.body)
