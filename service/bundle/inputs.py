"""How raw input becomes a model's tensors."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class TextInput(Frozen):
    """Text to `input_ids` [B, N] and `lengths` [B] (and `token_types` [B, N])."""

    kind: Literal["text"] = "text"
    max_tokens: int = Field(gt=0, description="The model's positions, special tokens included.")
    pad_id: int = Field(0, ge=0)
    token_types: bool = False
    pairs: bool = Field(False, description="Whether a text may come with a second one, `text_pair`.")


class PictureInput(Frozen):
    """What pictures and frames go through: RGB, resize, centre crop, (x / 255 - mean) / std.

    `resize_to` is the shorter side after a resize that keeps the aspect, or height and width after one that
    does not. `height` and `width` are the crop's; where its margins are odd, `crop` says on which side the
    smaller one lies: "floor" left and above (transformers), "even" as the halves round to even (torchvision).
    """

    height: int = Field(gt=0)
    width: int = Field(gt=0)
    resize_to: PositiveInt | tuple[PositiveInt, PositiveInt]
    crop: Literal["floor", "even"] = "floor"
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    mean: tuple[float, float, float]
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat]


class ImageInput(PictureInput):
    """A picture to `pixels` [B, 3, H, W]."""

    kind: Literal["image"] = "image"


class VideoInput(PictureInput):
    """A clip to `frames` [B, T, 3, H, W]: frame floor((i + 0.5) N / T) of N for i in 0..T-1."""

    kind: Literal["video"] = "video"
    frames: int = Field(gt=0)
