"""What becomes of a selected map's numbers before they are drawn or written down."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from service import words
from service.decode.item import Item, TextItem
from service.errors import InvalidInput, UnknownOption
from service.maps import SelectedMap

Array = NDArray[Any]
QUERIES = ("query_token", "query_frame")
APART = ("layer", "head", "label", *QUERIES)  # what lies along the other axes is one distribution
KEYS = ("token", "key_token")
OF_TEXT = ("tokens", "token_matrix")


@dataclass(frozen=True, kw_only=True)
class Refinement:
    """Nothing by default. Raises InvalidInput naming field and limit.

    special: hide takes the model's own tokens out of a text's maps, as keys and as queries.
    words: the tokens of each word become one, summed over keys and averaged over queries.
    mass: of each distribution the largest values stay until they hold this share of it, the rest is 0.
    top: of each distribution so many of the largest values stay as they are, the rest is 0.

    Applied in this order. A distribution is what one layer, head and query gives: a row of a matrix, a grid,
    all frames of a clip.
    """

    special: Literal["keep", "hide"] = "keep"
    words: bool = False
    mass: float | None = None
    top: int | None = None

    def __post_init__(self) -> None:
        if self.mass is not None and not (math.isfinite(self.mass) and 0 < self.mass <= 1):
            raise InvalidInput(
                f"mass must be above 0 and at most 1, not {self.mass}", field="mass", limit="0 to 1"
            )
        if self.top is not None and self.top < 1:
            raise InvalidInput(f"top must be 1 or more, not {self.top}", field="top", limit=1)

    @property
    def query(self) -> dict[str, str]:
        """The options as they stand in a query, without those that change nothing."""
        given = {
            "special": "hide" if self.special == "hide" else None,
            "words": "true" if self.words else None,
            "mass": None if self.mass is None else str(self.mass),
            "top": None if self.top is None else str(self.top),
        }
        return {name: value for name, value in given.items() if value is not None}

    @property
    def of_text(self) -> bool:
        """Whether the tokens have to be known."""
        return self.words or self.special == "hide"


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What a cut left: so many values above 0, and their share of what there was of them."""

    values: int
    share: float


@dataclass(frozen=True, kw_only=True)
class Refined:
    """A refined map. `text` has the tokens its numbers are of, where they are not the input's own any more.

    `special_mass` is the share of the total that hidden tokens held; of a matrix, as keys of the others.
    """

    selected: SelectedMap
    text: TextItem | None = None
    special_mass: float | None = None
    kept: Kept | None = None

    def place(self, item: Item, position: int | None) -> int | None:
        """Where a position of the input's map is in this one; None where it was hidden."""
        if position is None or self.text is None or not isinstance(item, TextItem):
            return position
        return words.place(item, position, self.text)


def refine(selected: SelectedMap, refinement: Refinement, text: TextItem | None = None) -> Refined:
    """A map refined; `text` is the input it is of, needed where the refinement is `of_text`.

    Words of a map of tokens are sums: rows of mass stay rows of mass, and of `received` each word has what
    all tokens together give to it, so that a word of k tokens has k where attention is uniform.

    Raises UnknownOption where a map is not over tokens, or holds only some rows of a matrix.
    """
    refined = Refined(selected=selected)
    if refinement.of_text:
        refined = _of_text(selected, refinement, text)
    if refinement.mass is None and refinement.top is None:
        return refined
    chosen = refined.selected
    values = _rows(chosen.values, chosen.axes)
    cut = values
    if refinement.mass is not None:
        cut = mass_cut(cut, refinement.mass)
    if refinement.top is not None:
        cut = top_cut(cut, refinement.top)
    total = float(values.clip(0).sum(dtype=np.float64))
    left = float(cut.clip(0).sum(dtype=np.float64))
    kept = Kept(values=int(np.count_nonzero(cut)), share=left / total if total else 0.0)
    return replace(refined, selected=replace(chosen, values=cut.reshape(chosen.values.shape)), kept=kept)


def mass_cut(rows: Array, mass: float) -> Array:
    """The largest values [R, C] of each row until they hold this share of its mass; of equals the first.

    What is below 0 has no mass. DINO shows its attention so (Caron 2021).
    """
    order = np.argsort(-rows, axis=1, kind="stable")
    held = np.take_along_axis(rows, order, axis=1).clip(0).cumsum(axis=1, dtype=np.float64)
    before = np.pad(held[:, :-1], ((0, 0), (1, 0)))
    needed = before < mass * held[:, -1:]
    keep = np.zeros(rows.shape, bool)
    np.put_along_axis(keep, order, needed, axis=1)
    return np.where(keep, rows, 0).clip(0).astype(rows.dtype)


def top_cut(rows: Array, count: int) -> Array:
    """So many of the largest values [R, C] of each row, as they are; of equals the first."""
    order = np.argsort(-rows, axis=1, kind="stable")[:, :count]
    out = np.zeros_like(rows)
    np.put_along_axis(out, order, np.take_along_axis(rows, order, axis=1), axis=1)
    return out


def _rows(values: Array, axes: tuple[str, ...]) -> Array:
    """Each distribution as a row."""
    apart = sum(axis in APART for axis in axes)
    return values.reshape(math.prod(values.shape[:apart]), -1)


def _of_text(selected: SelectedMap, refinement: Refinement, text: TextItem | None) -> Refined:
    field = "words" if refinement.words else "special"
    if selected.spec.kind not in OF_TEXT or text is None:
        raise UnknownOption(f"map {selected.spec.name} is not over the tokens of a text", field=field)
    places = [
        (axis, name)
        for axis, name in enumerate(selected.axes)
        if name in KEYS or (name in QUERIES and selected.spec.kind == "token_matrix")
    ]
    if any(selected.values.shape[axis] != len(text.tokens) for axis, _ in places):
        raise UnknownOption(f"{field}: ask for all rows of map {selected.spec.name}", field=field)
    values, special_mass = selected.values, None
    if refinement.special == "hide":
        values, special_mass = _hidden(values, places, np.array(text.special))
        text = words.without_special(text)
        if not text.tokens:
            raise UnknownOption("special: the text has no tokens but special ones", field="special")
    if refinement.words:
        firsts = words.starts(text)
        for axis, name in places:
            values = _merged(values, firsts, axis=axis, mean=name in QUERIES)
        text = words.merged(text, firsts)
    return Refined(selected=replace(selected, values=values), text=text, special_mass=special_mass)


def _hidden(values: Array, places: list[tuple[int, str]], special: Array) -> tuple[Array, float]:
    """Without special tokens along these axes, and the share of what is left of queries that they held."""
    shown = np.flatnonzero(~special)
    for axis, name in places:
        if name in QUERIES:
            values = values.take(shown, axis=axis)
    total = float(np.abs(values).sum(dtype=np.float64))
    for axis, name in places:
        if name in KEYS:
            values = values.take(shown, axis=axis)
    left = float(np.abs(values).sum(dtype=np.float64))
    return values, max(0.0, 1 - left / total) if total else 0.0


def _merged(values: Array, firsts: list[int], *, axis: int, mean: bool) -> Array:
    """Tokens along an axis as words."""
    sums = np.add.reduceat(values, firsts, axis=axis, dtype=np.float64)
    if mean:
        counts = np.diff([*firsts, values.shape[axis]])
        sums /= counts.reshape([-1 if place == axis else 1 for place in range(sums.ndim)])
    return sums.astype(values.dtype)
