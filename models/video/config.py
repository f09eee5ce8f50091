"""Sizes of an X-CLIP."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TowerConfig:
    """Sizes of one transformer tower."""

    width: int
    layers: int
    heads: int


@dataclass(frozen=True, kw_only=True)
class XCLIPConfig:
    """Sizes of an X-CLIP. `image` and `patch` in pixels, `context` in text tokens, `embed` shared by both."""

    image: int
    patch: int
    frames: int
    embed: int
    vision: TowerConfig
    temporal: TowerConfig
    prompt: TowerConfig
    text: TowerConfig
    vocabulary: int
    context: int

    def __post_init__(self) -> None:
        if self.image % self.patch:
            raise ValueError(f"image size {self.image} is not divisible by patch size {self.patch}")
        for name, tower in (("temporal", self.temporal), ("prompt", self.prompt)):
            if tower.width != self.embed:
                raise ValueError(f"{name} width {tower.width} is not the embedding width {self.embed}")

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.image // self.patch, self.image // self.patch
