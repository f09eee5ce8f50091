"""What a request asks of a model, from raw input to what a run found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from service.decode.item import Item
from service.maps import AttentionMap

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Payload:
    """One raw input of a request: a text, or the bytes of a picture or clip with their declared type.

    `pair` is the second text of a model that takes two.
    """

    data: str | bytes
    pair: str | None = None
    content_type: str | None = None
    field: str = "body"

    @property
    def nbytes(self) -> int:
        data = len(self.data) if isinstance(self.data, bytes) else 4 * len(self.data)
        return data + 4 * len(self.pair or "")


@dataclass(frozen=True, kw_only=True)
class Job:
    """A decoded input and the maps that are wanted of it."""

    item: Item
    maps: frozenset[str]

    @property
    def cost(self) -> int:
        return self.item.cost


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run found for one input: logits [K], maps by name, and the seconds its batch's maps took."""

    logits: Array
    maps: dict[str, AttentionMap]
    maps_seconds: float
