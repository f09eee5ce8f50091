"""What is known of the inputs of a data set: their labels, and where what the labels are about lies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeInt,
    ValidationError,
)

from service.bundle import first_fault
from service.dataset import TRUTH, DatasetError, Raw, files, lines, raws, read_record

Corners = tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat]


def _box(box: Corners) -> Corners:
    left, top, right, bottom = box
    if not (0 <= left < right and 0 <= top < bottom):
        raise ValueError("a box is [left, top, right, bottom], left < right and top < bottom")
    return box


def _span(span: tuple[int, int]) -> tuple[int, int]:
    if span[0] >= span[1]:
        raise ValueError("a span is [start, end], start < end")
    return span


Box = Annotated[Corners, AfterValidator(_box)]
Span = Annotated[tuple[NonNegativeInt, NonNegativeInt], AfterValidator(_span)]


class Truth(BaseModel):
    """What a record says of one input; `place` is where it says so.

    `label` is a name or an index; `box` lies in a picture, in its own pixels as it is shown; `boxes` are one
    for each frame of a clip, null where there is nothing; `frames` are the clip's frames, counted from 0, in
    which it happens; `span` are the first and the first no more of a text's characters.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    place: str
    label: str | int | None = None
    box: Box | None = None
    boxes: tuple[Box | None, ...] | None = Field(None, min_length=1)
    frames: tuple[NonNegativeInt, ...] | None = Field(None, min_length=1)
    span: Span | None = None

    @classmethod
    def read(cls, place: str, record: dict[str, Any]) -> Self:
        """The truth that a record holds; raises DatasetError."""
        try:
            return cls(**(record | {"place": place}))
        except ValidationError as error:
            raise DatasetError(f"{place}: {first_fault(error)}") from None


KNOWN = set(Truth.model_fields) - {"place"}


def known_inputs(data: Path) -> Iterator[tuple[Raw, Truth | None]]:
    """The inputs of a data set, each with what is known of it.

    Of a folder's files that is in its `truth.jsonl`, {"file": ..., "label": ..., "box": ...} on each line; of
    the texts of a .jsonl in their own records, whose other fields do not count. Raises DatasetError.
    """
    beside = _beside(data) if data.is_dir() else {}
    for raw in raws(data):
        if raw.record is not None:
            yield raw, Truth.read(raw.place, {name: raw.record[name] for name in KNOWN & raw.record.keys()})
        else:
            yield raw, beside.get(raw.place)


def _beside(folder: Path) -> dict[str, Truth]:
    """The truth of a folder's files by their names; every record is of a file, and no file has two."""
    found: dict[str, Truth] = {}
    if not (folder / TRUTH).is_file():
        return found
    names = {path.relative_to(folder).as_posix() for path in files(folder)}
    for place, line in lines(folder / TRUTH):
        record = read_record(place, line)
        name = record.pop("file", None)
        if not isinstance(name, str) or name not in names:
            raise DatasetError(f"{place}: file: {name!r} is no file of the data set")
        if name in found:
            raise DatasetError(f"{place}: file: {name!r} has a record already")
        found[name] = Truth.read(place, record)
    return found
