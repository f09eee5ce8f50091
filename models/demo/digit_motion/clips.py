"""Clips: one scanned digit moving over clutter, with its true box in every frame.

No single frame tells the class. Whatever a class moves (place, size, angle, or for `blink` whether the ink
is lighter or darker than the ground) has in every other class a constant value, drawn as if at a random
moment of that motion. A frame taken at random from a clip therefore looks the same in all classes.
"""

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

LABELS = ("left", "right", "up", "down", "grow", "shrink", "rotate", "blink")
SIDE, FRAMES = 64, 8
CELL = (1.9, 2.6)  # pixels per cell in the middle of the clip: a digit is 15 to 21 pixels high
SPEED = (1.3, 2.2)  # pixels per frame
GROWTH = (0.06, 0.1)  # logarithm of the size, per frame
TURN = (0.25, 0.45)  # radians per frame, clockwise
CONTRAST = (0.25, 0.5)
FRAGMENTS = (4, 10)
MIDDLE = (FRAMES - 1) / 2


@dataclass(frozen=True)
class Clips:
    """pixels [N, T, H, W, 3]; labels [N]; boxes [N, T, 4] of the digits' ink; scans [N], ids of those shown.

    blinks [N] is the frame in which the ink is inverted, -1 in clips of other classes.
    """

    pixels: Pixels
    labels: Integers
    boxes: Integers
    scans: Integers
    blinks: Integers


def clips(half: Scans, count: int, rng: np.random.Generator, *, variety: float = 1.0) -> Clips:
    """`count` new clips from one half of the scans; digit and clutter are of the same half.

    `variety` is the share of clips with all colours, clutter and noise. The others, which teach a network
    motion first, show light digits (only `blink` darkens them) on an empty ground.
    """
    labels = rng.integers(len(LABELS), size=count)
    chosen = rng.integers(len(half.labels), size=count)
    place, size = path(labels, half.reach[chosen], rng)
    repeated = half.ink[torch.from_numpy(np.repeat(chosen, FRAMES))]
    digit = draw(repeated, place, SIDE).unflatten(0, (count, FRAMES))
    blinks = np.where(labels == LABELS.index("blink"), rng.integers(FRAMES, size=count), -1)
    varied = (rng.random(count) < variety).astype(np.float32)
    canvas = compose(half, digit, size, blinks, varied, rng)
    return Clips(film(canvas, varied, rng), labels, boxes(digit), half.ids[chosen], blinks)


def path(labels: Integers, reach: Floats, rng: np.random.Generator) -> tuple[Placement, Floats]:
    """Where the digits of N clips are in all N*T frames, and their middle size, pixels per cell, [N].

    Every clip draws every motion, whatever its class: a motion that is not its class's stands still at one
    random moment. The digit stays inside the picture.
    """
    count = len(labels)
    steps = np.arange(FRAMES) - MIDDLE

    def motion(classes: tuple[str, ...], signs: tuple[int, ...], speed: tuple[float, float]) -> Floats:
        """Distance from the middle of the motion: [N, T]."""
        pace = rng.uniform(*speed, count) * rng.choice(signs, count)
        for name, sign in zip(classes, signs, strict=True):
            pace = np.where(labels == LABELS.index(name), sign * np.abs(pace), pace)
        moving = np.isin(labels, [LABELS.index(name) for name in classes])
        frozen = rng.integers(FRAMES, size=count) - MIDDLE
        distance: Floats = pace[:, None] * np.where(moving[:, None], steps, frozen[:, None])
        return distance

    x = motion(("left", "right"), (-1, 1), SPEED)
    y = motion(("up", "down"), (-1, 1), SPEED)
    growth = motion(("shrink", "grow"), (-1, 1), GROWTH)
    angle = motion(("rotate",), (1,), TURN) + rng.uniform(-np.pi, np.pi, (count, 1))
    size = rng.uniform(*CELL, count)
    # The same room for all classes: enough for the fastest and largest of this clip's draws.
    border = reach * size * np.exp(GROWTH[1] * MIDDLE) + SPEED[1] * MIDDLE
    middle = border[:, None] + rng.random((count, 2)) * (SIDE - 2 * border[:, None])
    centre = np.stack([middle[:, :1] + x, middle[:, 1:] + y], -1)  # [N, T, 2]
    cell = size[:, None] * np.exp(growth)
    place = Placement(
        centre=centre.reshape(-1, 2).astype(np.float32),
        cell=np.repeat(cell.reshape(-1, 1), 2, 1).astype(np.float32),
        angle=angle.reshape(-1).astype(np.float32),
        middle=np.zeros((count * FRAMES, 2), np.float32),
    )
    return place, size.astype(np.float32)


def compose(
    half: Scans, digit: Tensor, size: Floats, blinks: Integers, varied: Floats, rng: np.random.Generator
) -> Tensor:
    """Ground, clutter where `varied` is 1, and digit: coverage [N, T, H, W] -> [N, T, 3, H, W] in [0, 1]."""
    count = len(size)
    ground = torch.from_numpy(rng.uniform(0.35, 0.65, (count, 3, 1, 1)).astype(np.float32))
    canvas = ground.repeat(1, 1, SIDE, SIDE)
    coverage, corners = fragments(half, size, FRAGMENTS[1], SIDE, rng)
    colours = ground[:, None, :, 0, 0] + away((count, FRAGMENTS[1]), rng)
    for clip, number in enumerate(rng.integers(*FRAGMENTS, count, endpoint=True)):
        number = number if varied[clip] else 0
        for index in range(number):
            paste(canvas[clip], coverage[clip, index], corners[clip, index], colours[clip, index])
    inverted = torch.from_numpy(np.arange(FRAMES) == blinks[:, None])
    sign = 1 - 2 * inverted.float()[:, :, None]
    colour = away((count, 1), rng)
    colour = torch.where(torch.from_numpy(varied)[:, None, None] > 0, colour, colour.abs())
    ink = ground[:, None] + (colour * sign)[..., None, None]  # [N, T, 3, 1, 1]
    return canvas[:, None] + (ink - canvas[:, None]) * digit[:, :, None]


def away(shape: tuple[int, ...], rng: np.random.Generator) -> Tensor:
    """Random colours as differences from a ground, all lighter or all darker: [*shape, 3]."""
    sign = rng.choice((-1.0, 1.0), (*shape, 1))
    return torch.from_numpy((sign * rng.uniform(*CONTRAST, (*shape, 3))).astype(np.float32))


def film(canvas: Tensor, varied: Floats, rng: np.random.Generator) -> Pixels:
    """Uneven light, and new noise in each frame: [N, T, 3, H, W] in [0, 1] -> pixels [N, T, H, W, 3]."""
    count = len(canvas)
    light = torch.from_numpy(rng.uniform(-0.1, 0.1, (count, 3, 3, 3)).astype(np.float32))
    light = torch.nn.functional.interpolate(light, (SIDE, SIDE), mode="bilinear", align_corners=True)
    flicker = torch.from_numpy(rng.uniform(-0.02, 0.02, (count, FRAMES, 1, 1, 1)).astype(np.float32))
    noise = torch.from_numpy(rng.uniform(0, 0.05, (count, 1, 1, 1, 1)).astype(np.float32))
    shot = grain(canvas.shape, rng).mul_(noise).add_(light[:, None] + flicker)
    shot.mul_(torch.from_numpy(varied)[:, None, None, None, None]).add_(canvas)
    pixels: Pixels = shot.mul_(255).round_().clamp_(0, 255).byte().permute(0, 1, 3, 4, 2).contiguous().numpy()
    return pixels
