"""Inputs that come as the model's own tensors, decoded elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from service.bundle import ImageInput, PictureInput, TextInput, VideoInput
from service.decode.image import ImageDecoder
from service.decode.item import NOTHING, Array, ImageItem, Item, TextItem, VideoItem
from service.decode.text import TextDecoder
from service.decode.video import VideoDecoder
from service.decode.view import View
from service.errors import InvalidInput

FORMAT = "tensor"  # where others say which file it was


@dataclass(frozen=True, kw_only=True)
class TensorRow:
    """Row `index` of a request's tensors, of the shapes that the model takes.

    tensors: input_ids [T] (and lengths [], token_types [T]), or pixels [3, h, w], or frames [T, 3, h, w].
    """

    tensors: Mapping[str, Array]
    index: int

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors.values())


def read_tensors(
    row: TensorRow,
    spec: TextInput | ImageInput | VideoInput,
    decoder: TextDecoder | ImageDecoder | VideoDecoder,
) -> Item:
    """The item of a row; raises InvalidInput for values that the graph has no meaning for.

    Of a text, `tokens` are as the vocabulary names them, since there is no text to cut them out of.
    """
    if isinstance(spec, TextInput):
        assert isinstance(decoder, TextDecoder)
        return _text(row, spec, decoder)
    if isinstance(spec, ImageInput):
        pixels = _finite(row, "pixels")
        return ImageItem(tensors={"pixels": pixels}, original=NOTHING, view=_view(spec), format=FORMAT)
    frames = tuple(range(spec.frames))
    return VideoItem(
        tensors={"frames": _finite(row, "frames")},
        original=NOTHING,
        view=_view(spec),
        format=FORMAT,
        indices=frames,
        timestamps=tuple(map(float, frames)),
        total=spec.frames,
        duration=float(spec.frames),
    )


def _text(row: TensorRow, spec: TextInput, decoder: TextDecoder) -> TextItem:
    ids = row.tensors["input_ids"]
    length = _length(row, len(ids), spec.max_tokens)
    tensors = {"input_ids": _within(row, "input_ids", length, decoder.vocabulary)}
    if spec.token_types:
        given = "token_types" in row.tensors
        types = _within(row, "token_types", length, 2) if given else np.zeros(length, np.int64)
        tensors["token_types"] = types
    return TextItem(
        tensors=tensors,
        texts=("",),
        tokens=decoder.tokens(tensors["input_ids"].tolist()),
        offsets=((0, 0),) * length,
        segments=(0,) * length,
        special=(False,) * length,
        dropped=(0,),
    )


def _length(row: TensorRow, tokens: int, max_tokens: int) -> int:
    """How many of a row's tokens are no padding."""
    if tokens > max_tokens:
        raise InvalidInput(
            f"inputs.input_ids: {tokens} tokens, the model takes {max_tokens}",
            field="inputs.input_ids",
            limit=max_tokens,
        )
    length = int(row.tensors.get("lengths", np.int64(tokens)))
    if not 1 <= length <= tokens:
        raise InvalidInput(
            f"inputs.lengths: row {row.index} has {tokens} tokens, so 1 to {tokens}; got {length}",
            field="inputs.lengths",
            limit=tokens,
        )
    return length


def _within(row: TensorRow, name: str, length: int, count: int) -> Array:
    """The first values of a row, each an index below `count`: on a GPU, any other reads elsewhere."""
    values = row.tensors[name][:length]
    if values.min() < 0 or values.max() >= count:
        raise InvalidInput(
            f"inputs.{name}: row {row.index} has values other than 0 to {count - 1}",
            field=f"inputs.{name}",
            limit=count - 1,
        )
    return values


def _finite(row: TensorRow, name: str) -> Array:
    values = row.tensors[name]
    if not np.isfinite(values).all():
        raise InvalidInput(
            f"inputs.{name}: row {row.index} has values that are not finite", field=f"inputs.{name}"
        )
    return values


def _view(spec: PictureInput) -> View:
    """Of a picture that is as the model sees it."""
    return View(
        width=spec.width,
        height=spec.height,
        model_width=spec.width,
        model_height=spec.height,
        scale_x=1.0,
        scale_y=1.0,
        left=0.0,
        top=0.0,
    )
