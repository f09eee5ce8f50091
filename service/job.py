"""What a request asks of a model, from raw input to what a run found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from service.decode.item import Item
from service.maps import DEFAULT, AttentionMap, Selection

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
class Wanted:
    """What is wanted of an input beside its logits: maps by name, as the selection has them made, and a proof
    of the attention behind the answer.
    """

    maps: frozenset[str] = frozenset()
    selection: Selection = DEFAULT
    proof: bool = False

    def __bool__(self) -> bool:
        return bool(self.maps) or self.proof


NOTHING = Wanted()


@dataclass(frozen=True, kw_only=True)
class Job:
    """A decoded input and what is wanted of it.

    `taps` are the bytes that each tap which that is made of takes for this input, `slices` how many numbers
    its slices of maps have.
    """

    item: Item
    wanted: Wanted = NOTHING
    taps: Mapping[str, int] = field(default_factory=dict)
    slices: int = 0

    @property
    def cost(self) -> int:
        return self.item.cost


@dataclass(frozen=True, kw_only=True)
class Proof:
    """How far the fused attention of one layer is from the explicit one: the largest distance of a row's sum
    from 1, and the largest difference of an output, as a share of the largest output.
    """

    layer: str
    row_sum_error: float
    output_error: float


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run found for one input: logits [K], maps by name, and the seconds its batch's maps took."""

    logits: Array
    maps: dict[str, AttentionMap]
    maps_seconds: float
    proof: Proof | None = None
