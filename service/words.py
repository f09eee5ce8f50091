"""Subwords to words: which tokens of a text stand for one word."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import regex
from numpy.typing import NDArray

from service.decode.item import TextItem

# Default word boundaries of Unicode (UAX 29). Runs between spaces would make one word of a line of code, and
# runs of letters one of a Chinese sentence; here punctuation and ideographs stand alone, "don't" and "3.14"
# stay whole, and tokens of a script that needs a dictionary stay as they are.
BOUNDARY = regex.compile(r"(?V1w)\b")
# Each boundary in a row of flags takes a walk back to its start: a long one is searched as ideographs that
# have a variation selector, which fall apart at the same places.
FLAGS = regex.compile("(?:[\U0001f1e6-\U0001f1ff]{2}){8,}")


def starts(item: TextItem) -> list[int]:
    """The first token of each word, in order; the tokens up to the next first one belong to it.

    Tokens are of one word where their characters, without the spaces that byte-level tokenizers put in front,
    lie in one word of the text, or where a token reaches into both. Special tokens stand alone.
    """
    edges = [_edges(text) for text in item.texts]
    found = []
    last = (-1, -1)  # the text, and the word in it, up to which the last token reaches
    for index, (segment, offsets, special) in enumerate(
        zip(item.segments, item.offsets, item.special, strict=True)
    ):
        if special or offsets[0] >= offsets[1]:
            found.append(index)
            last = (-1, -1)
            continue
        first, final = _words(item.texts[segment], offsets, edges[segment])
        if last != (segment, first):
            found.append(index)
        last = (segment, final)
    return found


def _edges(text: str) -> NDArray[np.int_]:
    """Where words begin and end."""
    searched = FLAGS.sub(lambda flags: "\u4e00\ufe0f" * (len(flags[0]) // 2), text)
    return np.array([0, *(edge.start() for edge in BOUNDARY.finditer(searched))])


def _words(text: str, offsets: tuple[int, int], edges: NDArray[np.int_]) -> tuple[int, int]:
    """The first and the last word that a token's characters lie in; spaces between words count as words."""
    start, end = offsets
    piece = text[start:end]
    if written := piece.strip():
        start += len(piece) - len(piece.lstrip())
        end = start + len(written)
    first, final = np.searchsorted(edges, (start, end - 1), side="right")
    return int(first), int(final)


def merged(item: TextItem, firsts: list[int]) -> TextItem:
    """The text with one token for each word; `firsts` as `starts` gives them."""
    spans = list(pairwise([*firsts, len(item.tokens)]))
    offsets = tuple((item.offsets[first][0], item.offsets[stop - 1][1]) for first, stop in spans)
    segments = tuple(item.segments[first] for first in firsts)
    return replace(
        item,
        tokens=tuple(
            item.texts[segment][start:end] or item.tokens[first]
            for first, segment, (start, end) in zip(firsts, segments, offsets, strict=True)
        ),
        offsets=offsets,
        segments=segments,
        special=tuple(item.special[first] for first in firsts),
    )


def without_special(item: TextItem) -> TextItem:
    """The text without the tokens that are the model's own."""
    kept = [index for index, special in enumerate(item.special) if not special]
    return replace(
        item,
        tokens=tuple(item.tokens[index] for index in kept),
        offsets=tuple(item.offsets[index] for index in kept),
        segments=tuple(item.segments[index] for index in kept),
        special=(False,) * len(kept),
    )


def place(item: TextItem, position: int, other: TextItem) -> int | None:
    """Which token of the same text after a merge or without special tokens has this one in it."""
    segment, (start, end), special = item.segments[position], item.offsets[position], item.special[position]
    for index, (first, last) in enumerate(other.offsets):
        same = (other.segments[index], other.special[index]) == (segment, special)
        if same and first <= start and end <= last:
            return index
    return None
