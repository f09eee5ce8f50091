"""Scenes: one scanned digit at a random size and place among fragments of others, with its true box."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.demo.digits import (
    Floats,
    Integers,
    Pixels,
    Placement,
    Scans,
    boxes,
    draw,
    fragments,
    grain,
    paste,
)

SIDE = 96
CELL = (3.2, 5.6)  # pixels per cell: a digit is 26 to 45 pixels high
TILT = 0.25  # radians
STRETCH = 0.12
CONTRAST = 0.4  # least distance of ink and ground in one channel at least
FRAGMENTS_PER_PIXEL = 14 / SIDE**2


@dataclass(frozen=True)
class Scenes:
    """pixels [N, H, W, 3]; labels [N]; boxes [N, 4] of the digits' ink; scans [N], ids of the scans shown."""

    pixels: Pixels
    labels: Integers
    boxes: Integers
    scans: Integers


def scenes(
    half: Scans, count: int, rng: np.random.Generator, *, side: int = SIDE, variety: float = 1.0
) -> Scenes:
    """`count` new scenes of `side` pixels from one half of the scans; digit and clutter are of the same half.

    `variety` is the share of scenes with any colour on any ground; the others are white on black. A network
    that starts with the former takes very long to see shapes at all.
    """
    chosen = rng.integers(len(half.labels), size=count)
    cell = rng.uniform(*CELL, count).astype(np.float32)
    stretch = np.exp(rng.uniform(-STRETCH, STRETCH, (count, 2))).astype(np.float32)
    border = half.reach[chosen] * cell * stretch.max(1) + 1
    centre = border[:, None] + rng.random((count, 2)) * (side - 2 * border[:, None])
    place = Placement(
        centre=centre.astype(np.float32),
        cell=cell[:, None] * stretch,
        angle=rng.uniform(-TILT, TILT, count).astype(np.float32),
        middle=np.zeros((count, 2), np.float32),
    )
    digit = draw(half.ink[torch.from_numpy(chosen)], place, side)
    plain = rng.random(count) >= variety
    ground = rng.random((count, 3)).astype(np.float32)
    ground[plain] = 0
    canvas = clutter(half, cell, ground, side, rng)
    colour = contrasting(ground, rng)
    colour[plain] = 1
    ink = torch.from_numpy(colour)
    canvas += (ink[:, :, None, None] - canvas) * digit[:, None]
    pixels = photograph(canvas, rng)
    return Scenes(pixels, half.labels[chosen], boxes(digit), half.ids[chosen])


def clutter(half: Scans, cell: Floats, ground: Floats, side: int, rng: np.random.Generator) -> Tensor:
    """Grounds strewn with fragments of any colour: cell [N], ground [N, 3] -> [N, 3, side, side]."""
    most = max(2, round(FRAGMENTS_PER_PIXEL * side**2))
    canvas = torch.from_numpy(ground)[:, :, None, None].repeat(1, 1, side, side)
    coverage, corners = fragments(half, cell * rng.uniform(0.8, 1.1), most, side, rng)
    counts = rng.integers(most // 2, most + 1, len(cell))
    for scene, number in enumerate(counts):
        colours = torch.from_numpy(contrasting(np.repeat(ground[scene : scene + 1], number, 0), rng))
        for index in range(number):
            paste(canvas[scene], coverage[scene, index], corners[scene, index], colours[index])
    return canvas


def contrasting(ground: Floats, rng: np.random.Generator) -> Floats:
    """A random colour for each ground colour [N, 3] that stands out from it."""
    colour = rng.random(ground.shape).astype(np.float32)
    while (close := np.abs(colour - ground).max(1) < CONTRAST).any():
        colour[close] = rng.random((int(close.sum()), 3))
    return colour


def photograph(canvas: Tensor, rng: np.random.Generator) -> Pixels:
    """Uneven light and colour noise: canvas [N, 3, H, W] in [0, 1] -> pixels [N, H, W, 3]."""
    count, _, height, width = canvas.shape
    light = torch.from_numpy(rng.uniform(-0.08, 0.08, (count, 3, 3, 3)).astype(np.float32))
    light = torch.nn.functional.interpolate(light, (height, width), mode="bilinear", align_corners=True)
    noise = torch.from_numpy(rng.uniform(0, 0.06, (count, 1, 1, 1)).astype(np.float32))
    shot = grain(canvas.shape, rng).mul_(noise).add_(light).add_(canvas).mul_(255).round_().clamp_(0, 255)
    pixels: Pixels = shot.byte().permute(0, 2, 3, 1).contiguous().numpy()
    return pixels
