"""Tokens back onto their text: what can be coloured, and what lies between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.decode.item import TextItem
from service.render.lettering import number
from service.render.scale import Scaled, default_scale, finite, scaled


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Characters [start, end) of a text that one token covers, or several that overlap; `value` is their sum.

    `segment` is the text's index. A token that covers no character, as special ones do, is a piece without
    text.
    """

    segment: int
    start: int
    end: int
    value: float
    tokens: tuple[str, ...]

    @property
    def description(self) -> str:
        """The tokens and their value, as one line."""
        return f"{' + '.join(self.tokens)}: {number(self.value)}"


def pieces(item: TextItem, values: NDArray[Any]) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
    """What lies on the texts, in their order and without overlap, and what does not; values [N] for N tokens.

    Pieces of one character (byte-level tokens share its offsets) become one, with their sum.
    """
    if len(values) != len(item.tokens):
        raise ValueError(f"{len(values)} values for {len(item.tokens)} tokens")
    tokens = [
        Piece(segment=segment, start=start, end=end, value=float(value), tokens=(token,))
        for token, segment, (start, end), value in zip(
            item.tokens, item.segments, item.offsets, values, strict=True
        )
    ]
    flags = list(zip(tokens, item.special, strict=True))
    beside = tuple(piece for piece, special in flags if special or piece.start >= piece.end)
    on_text: list[Piece] = []
    for piece in sorted(
        (p for p, special in flags if not special and p.start < p.end),
        key=lambda p: (p.segment, p.start, p.end),
    ):
        if on_text and piece.segment == on_text[-1].segment and piece.start < on_text[-1].end:
            last = on_text.pop()
            piece = Piece(
                segment=last.segment,
                start=last.start,
                end=max(last.end, piece.end),
                value=last.value + piece.value,
                tokens=last.tokens + piece.tokens,
            )
        on_text.append(piece)
    return tuple(on_text), beside


@dataclass(frozen=True, kw_only=True)
class Run:
    """A stretch of text that is one piece, the `index`-th, or lies between two (None)."""

    start: int
    text: str
    index: int | None
    seen: bool


@dataclass(frozen=True, kw_only=True)
class Marked:
    """Texts with their map on one scale: `levels` (0 to 255) of the pieces on them, and of those beside them.

    `dropped` tokens of each text were not seen. The scale is that of the pieces on the texts. Special tokens
    often hold most of the attention, and would leave everything else pale; beyond the scale they are clipped.
    `query` is the piece whose attention this is, where it is that of one token.
    """

    texts: tuple[str, ...]
    on_text: tuple[Piece, ...]
    beside: tuple[Piece, ...]
    scale: Scaled
    levels: tuple[int, ...]
    beside_levels: tuple[int, ...]
    dropped: tuple[int, ...]
    query: Piece | None

    def emphasis(self, piece: Piece) -> str:
        """What is added to the class of a piece that is to be outlined."""
        return " q" if piece is self.query else ""

    def runs(self, segment: int) -> Iterator[Run]:
        """One whole text in order."""
        text, at = self.texts[segment], 0
        for index, piece in enumerate(self.on_text):
            if piece.segment != segment:
                continue
            if at < piece.start:
                yield Run(start=at, text=text[at : piece.start], index=None, seen=True)
            yield Run(start=piece.start, text=text[piece.start : piece.end], index=index, seen=True)
            at = piece.end
        if at < len(text):
            yield Run(start=at, text=text[at:], index=None, seen=not self.dropped[segment])

    @property
    def beside_share(self) -> float:
        """The share of the map's total that lies beside the texts."""
        total = sum(piece.value for piece in (*self.on_text, *self.beside))
        return sum(piece.value for piece in self.beside) / total if total else 0.0


def marked(
    item: TextItem,
    values: NDArray[Any],
    *,
    scale: str | None,
    fixed_range: tuple[float, float] | None,
    query: int | None = None,
) -> Marked:
    """Pieces of the texts with their place on the scale; values [N], `query` one of the N tokens.

    Raises UnknownOption, ValueError.
    """
    on_text, beside = pieces(item, finite(values))
    drawn = np.array([piece.value for piece in on_text or beside])
    scale_ = scaled(drawn, scale, default=default_scale("tokens"), fixed_range=fixed_range)

    def levels(of: tuple[Piece, ...]) -> tuple[int, ...]:
        places = scale_.place(np.array([piece.value for piece in of]))
        return tuple(np.rint(places * 255).astype(int).tolist())

    return Marked(
        texts=item.texts,
        on_text=on_text,
        beside=beside,
        scale=scale_,
        levels=levels(on_text),
        beside_levels=levels(beside),
        dropped=item.dropped,
        query=None if query is None else _of_token(item, query, on_text, beside),
    )


def _of_token(
    item: TextItem, token: int, on_text: tuple[Piece, ...], beside: tuple[Piece, ...]
) -> Piece | None:
    """The piece that a token is in."""
    segment, (start, end) = item.segments[token], item.offsets[token]
    if item.special[token] or start >= end:
        apart = [i for i, (first, last) in enumerate(item.offsets) if item.special[i] or first >= last]
        return beside[apart.index(token)]
    return next(
        (piece for piece in on_text if piece.segment == segment and piece.start <= start < piece.end), None
    )
