"""What a map orders, and in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.bundle import BundleError, Kind, MapSpec
from service.decode.item import Item, TextItem
from service.maps import AttentionMap, Selection

Array = NDArray[Any]

RANDOM, UNIFORM = "random", "uniform"
NOT_JUDGED = {  # by kind
    "channels": "orders channels, which lie nowhere in the input",
    "token_matrix": "has a row for every token, so no one order",
    "grid_matrix": "has a row for every token, so no one order",
}
FRAME_MATRIX: Kind = "frame_matrix"


class Row(NamedTuple):
    """One row of the tables: a map, which of its layers, and what it orders."""

    map: str
    layer: str | None
    ranks: str


class Ranking(NamedTuple):
    """Values of one input's parts: [token] without the special ones, [row, column], [frame], or [frame, row,
    column]; the higher, the sooner.
    """

    row: Row
    values: Array


def reason(spec: MapSpec) -> str | None:
    """Why a map is not judged; None where it is."""
    return NOT_JUDGED.get(spec.kind)


def rankings(maps: Mapping[str, AttentionMap], item: Item, *, predicted: int) -> list[Ranking]:
    """Those of an input's maps: the default layer, heads averaged, the predicted label.

    A matrix of frames orders them by what they are listened to, the mean of their columns. Raises BundleError
    where a value is not finite.
    """
    found = []
    for name, attention in maps.items():
        spec = attention.spec
        values = attention.select(Selection(), predicted=predicted).values
        if not np.isfinite(values).all():
            raise BundleError(f"not every value of map {name} is finite")
        if spec.kind == FRAME_MATRIX:
            values = values.mean(0)
        if isinstance(item, TextItem):
            values = values[~np.array(item.special)]
        layer = spec.layers[spec.default_layer or 0] if spec.layers else None
        found.append(Ranking(Row(name, layer, _ranks(values, item)), values.astype(np.float64)))
    return found


def random_beside(found: Sequence[Ranking], rng: np.random.Generator) -> list[Ranking]:
    """Random numbers for everything that these maps order."""
    return [
        Ranking(Row(RANDOM, None, ranks), rng.random(shape))
        for ranks, shape in {one.row.ranks: one.values.shape for one in found}.items()
    ]


def uniform_beside(found: Sequence[Ranking]) -> list[Ranking]:
    """The same value for everything that these maps order."""
    return [
        Ranking(Row(UNIFORM, None, ranks), np.ones(shape))
        for ranks, shape in {one.row.ranks: one.values.shape for one in found}.items()
    ]


def order(values: Array, rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices of the flattened values, the highest first; equal ones in random order."""
    flat = values.ravel()
    return np.lexsort((rng.random(flat.size), -flat))


def _ranks(values: Array, item: Item) -> str:
    """What such values are of, in words."""
    if isinstance(item, TextItem):
        return "tokens"
    if values.ndim == 1:
        return f"{len(values)} frames"
    *frames, rows, columns = values.shape
    return f"{rows} x {columns} places" + "".join(f" in {count} frames" for count in frames)
