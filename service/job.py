"""What a request asks of a model, from raw input to what a run found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from service.decode.item import Item
from service.maps import AttentionMap

Array = NDArray[Any]
SHORT = 500  # characters


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

    @property
    def is_short(self) -> bool:
        """Whether decoding it takes no longer than handing it to another thread would."""
        return isinstance(self.data, str) and len(self.data) + len(self.pair or "") <= SHORT


@dataclass(frozen=True, kw_only=True)
class Job:
    """A decoded input and the maps that are wanted of it.

    `taps` are the bytes that each tap which those maps are made of takes for this input.
    """

    item: Item
    maps: frozenset[str] = frozenset()
    taps: Mapping[str, int] = field(default_factory=dict)

    @property
    def cost(self) -> int:
        return self.item.cost


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run found for one input: logits [K], maps by name, and the seconds its batch's maps took."""

    logits: Array
    maps: dict[str, AttentionMap]
    maps_seconds: float
