"""Slices of maps that are made of one layer and some query tokens: what an input has of them."""

from __future__ import annotations

import math
from collections.abc import Iterable

from service.bundle import MapSpec, Tap
from service.decode.item import Item
from service.errors import UnknownOption
from service.maps import Made, SelectedMap, Selection, check_index

MOST = 2**24  # numbers of the slices of one request


def check_part(spec: MapSpec, selection: Selection, item: Item, taps: Iterable[Tap]) -> int:
    """How many numbers a slice of a map will have, 0 of a map that is made whole.

    Raises UnknownOption where an input has no such part of a map, before anything is made of it.
    """
    if spec.sliced:
        return check_slice(spec, selection, item, taps)
    if spec.kind == "frame_grid" and selection.frame is not None:
        check_index("frame", selection.frame, len(item.tensors["frames"]), spec.name)
    return 0


def check_slices(numbers: Iterable[int]) -> None:
    """Raise UnknownOption where the slices of all inputs of a request are too large together."""
    if (total := sum(numbers)) > MOST:
        raise UnknownOption(
            f"rows: the slices of all inputs have {total} numbers, at most {MOST} in one request",
            field="rows",
            limit=MOST,
        )


def check_slice(spec: MapSpec, selection: Selection, item: Item, taps: Iterable[Tap]) -> int:
    """How many numbers a slice will have; raises UnknownOption where an input has no such query tokens or
    frame, or the slice is too large.
    """
    made = Made.of(spec, selection)
    query = spec.taps(made.layer)["query"]
    axes = next(tap.axes for tap in taps if tap.name == query)  # batch, the frame of a clip, token, width
    tokens = item.cost if isinstance(axes[-2], str) else axes[-2]
    start, stop = made.rows or (0, tokens)
    field = "rows" if selection.token is None else "token"
    if not 0 <= start < stop <= tokens:
        raise UnknownOption(
            f"{field}: the input has {tokens} tokens, from 0 to {tokens - 1}", field=field, limit=tokens - 1
        )
    most = max(1, MOST // (tokens * (spec.heads or 1)))
    if stop - start > most:
        raise UnknownOption(
            f"rows: {stop - start} rows of map {spec.name} are too many, ask for {most} at a time",
            field="rows",
            limit=most,
        )
    if made.frame is not None:
        last = int(axes[1]) - 1
        if not 0 <= made.frame <= last:
            raise UnknownOption(
                f"frame must be from 0 to {last}, not {made.frame}", field="frame", limit=last
            )
    return (stop - start) * tokens * (spec.heads or 1)


def query_place(selected: SelectedMap) -> int | None:
    """Which position of a map is the query token whose row it is; None where that is not among them.

    Of a picture other tokens come before its patches; of a clip's frame its message token comes behind them.
    """
    token, before = selected.token, selected.spec.tokens_before
    if token is None or before is None:
        return token
    patches = math.prod(selected.values.shape[-2:])
    return token - before if 0 <= token - before < patches else None
