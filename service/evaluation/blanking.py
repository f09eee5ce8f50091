"""Parts of an input taken away: pixels by a grid or whole frames, and tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from tokenizers import Tokenizer

from service.bundle import TOKENIZER, Manifest, PictureInput, TextInput
from service.decode.item import ImageItem, Item, TextItem, VideoItem

Array = NDArray[Any]
Mask = NDArray[np.bool_]

BLUR = 0.1  # standard deviation, in shorter sides of what the model sees: shapes go, colours stay
STAND_INS = ("[MASK]", "<mask>", "[UNK]", "<unk>")


class Blanking(Protocol):
    """One input, and ways to take parts of it away; `ways` are their names, each with what it does."""

    @property
    def ways(self) -> Mapping[str, str]: ...

    def without(self, gone: Mask, way: str) -> Item:
        """The input without the parts that a mask marks."""

    def is_left(self, gone: Mask, way: str) -> bool:
        """Whether anything is left that a model can be run on."""


class PictureBlanking:
    """Pictures and clips. A mask is [row, column], [frame] or [frame, row, column]; its cells, of any number,
    cover what the model sees evenly. One without frames holds for all frames of a clip.

    A clip is blurred in time too, all the way: else what moves is still seen to move.
    """

    def __init__(self, item: ImageItem | VideoItem, spec: PictureInput) -> None:
        self._item = item.without_original()
        ((self._name, self._pixels),) = item.tensors.items()
        sigma = BLUR * min(spec.height, spec.width)
        clip = isinstance(item, VideoItem)
        still = self._pixels.mean(0, keepdims=True) if clip else self._pixels
        self.ways = {
            "zero": "pixels become the colour that is 0 once normalised",
            "blur": f"pixels become those of the {'mean of all frames' if clip else 'picture'}, "
            f"blurred by a Gaussian of {sigma:.1f} pixels",
        }
        self._blanks = {"zero": np.zeros_like(still), "blur": blurred(still, spec, sigma)}

    def without(self, gone: Mask, way: str) -> Item:
        *_, height, width = self._pixels.shape
        if gone.ndim == 1:
            over = gone[:, None, None, None]
        else:
            over = gone[..., _cells(gone.shape[-2], height)[:, None], _cells(gone.shape[-1], width)]
            over = over[:, None] if gone.ndim == 3 else over
        pixels = np.where(over, self._blanks[way], self._pixels)
        return replace(self._item, tensors={self._name: pixels})

    def is_left(self, gone: Mask, way: str) -> bool:
        return True


class TextBlanking:
    """Texts. A mask is [token] without the special ones, which always stay."""

    def __init__(self, item: TextItem, *, stand_in: tuple[str, int]) -> None:
        self._item = item
        self._places = np.flatnonzero(~np.array(item.special))
        token, self._stand_in = stand_in
        self.ways = {
            "mask": f"tokens become {token}",
            "delete": "tokens are cut out; those behind them move up",
        }

    def without(self, gone: Mask, way: str) -> Item:
        item, places = self._item, self._places[gone]
        if way == "mask":
            ids = item.tensors["input_ids"].copy()
            ids[places] = self._stand_in
            return replace(item, tensors=item.tensors | {"input_ids": ids})
        kept = np.delete(np.arange(item.cost), places)
        return replace(
            item,
            tensors={name: tensor[kept] for name, tensor in item.tensors.items()},
            tokens=tuple(item.tokens[i] for i in kept),
            offsets=tuple(item.offsets[i] for i in kept),
            segments=tuple(item.segments[i] for i in kept),
            special=tuple(item.special[i] for i in kept),
        )

    def is_left(self, gone: Mask, way: str) -> bool:
        return way == "mask" or int(gone.sum()) < self._item.cost


class Blanker:
    """Makes the blanking of each input of one model."""

    def __init__(self, manifest: Manifest, folder: Path) -> None:
        self._spec = manifest.preprocessing
        self._stand_in = stand_in(folder, self._spec) if isinstance(self._spec, TextInput) else ("", 0)

    def __call__(self, item: Item) -> Blanking:
        if isinstance(item, TextItem):
            return TextBlanking(item, stand_in=self._stand_in)
        assert isinstance(self._spec, PictureInput)
        return PictureBlanking(item, self._spec)


def stand_in(folder: Path, spec: TextInput) -> tuple[str, int]:
    """The token that stands for one taken away: the mask, else the unknown, else the padding token."""
    tokenizer: Tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    for token in STAND_INS:
        index = tokenizer.token_to_id(token)
        if index is not None:
            return token, index
    return tokenizer.id_to_token(spec.pad_id) or f"token {spec.pad_id}", spec.pad_id


def blurred(pixels: Array, spec: PictureInput, sigma: float) -> Array:
    """Normalised pixels [..., 3, h, w], blurred as the 8-bit picture that they were made of."""
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (spec.mean, spec.std))
    bytes_ = np.rint((pixels * std + mean) * 255).clip(0, 255).astype(np.uint8)
    frames = np.moveaxis(bytes_.reshape(-1, *pixels.shape[-3:]), 1, -1)  # [N, h, w, 3]
    soft = [Image.fromarray(frame).filter(ImageFilter.GaussianBlur(sigma)) for frame in frames]
    values = np.moveaxis(np.stack([np.asarray(frame) for frame in soft]), -1, 1).astype(np.float32)
    out: Array = ((values / 255 - mean) / std).astype(pixels.dtype).reshape(pixels.shape)
    return out


def _cells(count: int, size: int) -> NDArray[np.int64]:
    """Of each pixel along an axis, the cell among `count` that its middle lies in."""
    return (2 * np.arange(size) + 1) * count // (2 * size)
