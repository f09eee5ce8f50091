"""Scanned handwritten digits, split by scan, and how they and their fragments are drawn into pictures.

The scans are scikit-learn's `load_digits`: 1797 pictures of 8x8 pixels ("cells" here, to tell them from the
pixels of a drawn picture), from the UCI set "Optical Recognition of Handwritten Digits".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional

Half = Literal["train", "held-out"]
Floats = NDArray[np.float32]
Integers = NDArray[np.int64]
Pixels = NDArray[np.uint8]

LABELS = tuple("0123456789")
MEAN, STD = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]  # of pictures and frames, before a model sees them
HELD_OUT = 0.25
CELLS = 8
MARGIN = 1  # empty cells around a scan, so that ink fades out at its border
FINENESS = 4  # texture pixels per cell
INK = 0.25  # coverage from which a pixel counts as ink
BEND = 0.08  # standard deviation of a bend, in halves of a scan with its margin (5 cells)
FRAGMENT_RADIUS = (1.4, 1.9)  # cells; a scan is 8 cells high


@dataclass(frozen=True)
class Scans:
    """One half of the scans.

    ink [N, 1, S, S] in [0, 1], enlarged by bicubic interpolation; labels [N]; ids [N], the scans' places in
    `load_digits`; reach [N], how far ink lies from the middle of a scan, in cells.
    """

    ink: Tensor
    labels: Integers
    ids: Integers
    reach: Floats


@dataclass(frozen=True)
class Placement:
    """Where K drawings lie: centre [K, 2] as (x, y) in pixels, cell [K, 2] pixels per cell in x and y.

    angle [K] in radians; a positive one turns clockwise. `middle` [K, 2] is the point of the scan that comes
    to lie on the centre, in cells from the middle of the scan.
    """

    centre: Floats
    cell: Floats
    angle: Floats
    middle: Floats


@cache
def scans(half: Half) -> Scans:
    """The scans of one half; the split is the same every time, with the same share of each label."""
    data = load_digits()
    rng = np.random.default_rng(20)
    chosen: list[int] = []
    for label in range(len(LABELS)):
        ids = rng.permutation(np.flatnonzero(data.target == label))
        cut = round(HELD_OUT * len(ids))
        chosen += (ids[:cut] if half == "held-out" else ids[cut:]).tolist()
    ids = np.array(sorted(chosen))
    cells = torch.from_numpy(data.images[ids]).float()[:, None] / 16
    padded = functional.pad(cells, (MARGIN,) * 4)
    ink = functional.interpolate(padded, scale_factor=FINENESS, mode="bicubic")
    ink = (1.6 * ink - 0.2).clamp(0, 1)  # soft pencil to firm pen
    return Scans(ink, data.target[ids].astype(np.int64), ids, reach(ink))


def distorted(half: Scans, copies: int, rng: np.random.Generator) -> Scans:
    """New handwriting for training: each scan bent and its pen made finer or broader, `copies` times."""
    ink = half.ink.repeat(copies, 1, 1, 1)
    bends = torch.from_numpy(rng.normal(0, BEND, (len(ink), 2, 4, 4)).astype(np.float32))
    bends = functional.interpolate(bends, ink.shape[-2:], mode="bicubic", align_corners=True)
    straight = functional.affine_grid(torch.eye(2, 3)[None], [1, 1, *ink.shape[-2:]], align_corners=False)
    bent = functional.grid_sample(ink, straight + bends.permute(0, 2, 3, 1), align_corners=False)
    gain, level = rng.uniform(1.1, 1.6, len(ink)), rng.uniform(-0.15, 0.15, len(ink))
    pens = torch.from_numpy(np.stack([gain, level]).astype(np.float32))[:, :, None, None, None]
    bent = (pens[0] * bent + pens[1] * bent.sign()).clamp(0, 1)
    return Scans(bent, np.tile(half.labels, copies), np.tile(half.ids, copies), reach(bent))


def reach(ink: Tensor) -> Floats:
    """How far ink lies from the middle of its scan at most, in cells: ink [N, 1, S, S] -> [N]."""
    offset = (torch.arange(ink.shape[-1]) + 0.5) / FINENESS - (CELLS / 2 + MARGIN)
    distance = (offset[:, None] ** 2 + offset**2).sqrt()
    furthest: Floats = (distance * (ink > INK)).amax((1, 2, 3)).numpy()
    return furthest


def draw(ink: Tensor, place: Placement, side: int) -> Tensor:
    """Coverage of square pictures by scans: ink [K, 1, S, S] -> [K, side, side] in [0, 1]."""
    centre, cell, angle, middle = (
        torch.from_numpy(array) for array in (place.centre, place.cell, place.angle, place.middle)
    )
    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack([torch.stack([cos, sin], -1), torch.stack([-sin, cos], -1)], -2)  # [K, 2, 2], back
    matrix = turn / cell[:, :, None]  # pixels to cells
    matrix = matrix / (CELLS / 2 + MARGIN)  # grid_sample counts from -1 to 1 over the texture
    start = middle / (CELLS / 2 + MARGIN) - (matrix @ centre[:, :, None])[:, :, 0]
    along = torch.arange(side) + 0.5
    across = matrix[:, None, :, 0] * along[:, None] + start[:, None]  # [K, side, 2]
    down = matrix[:, None, :, 1] * along[:, None]
    grid = down[:, :, None] + across[:, None]
    return functional.grid_sample(ink, grid, align_corners=False)[:, 0]


def fragments(
    half: Scans, cell: Floats, count: int, side: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Clutter: round cuttings from scans, too small to be read.

    cell [N] (pixels per cell in each picture) -> the cuttings' coverage [N, count, p, p], and the left and
    top corner of each, [N, count, 2].
    """
    total = len(cell) * count
    ink = half.ink[torch.from_numpy(rng.integers(len(half.ink), size=total))]
    radius = rng.uniform(*FRAGMENT_RADIUS, total).astype(np.float32)
    middle = rng.uniform(-2.5, 2.5, (total, 2)).astype(np.float32)
    offset = (torch.arange(ink.shape[-1]) + 0.5) / FINENESS - (CELLS / 2 + MARGIN)
    x, y = torch.from_numpy(middle).unbind(1)
    distance = ((offset - x[:, None]) ** 2)[:, None] + ((offset - y[:, None]) ** 2)[:, :, None]
    window = ((torch.from_numpy(radius)[:, None, None] - distance.sqrt()) * 2).clamp(0, 1)
    cells = np.repeat(cell, count)
    patch = int(np.ceil(2 * FRAGMENT_RADIUS[1] * cells.max())) + 2
    place = Placement(
        centre=np.full((total, 2), patch / 2, np.float32),
        cell=np.repeat(cells[:, None], 2, 1),
        angle=rng.uniform(-np.pi, np.pi, total).astype(np.float32),
        middle=middle,
    )
    corners = rng.integers(-patch // 2, side - patch // 2, (len(cell), count, 2))
    return draw(ink * window[:, None], place, patch).unflatten(0, (-1, count)), torch.from_numpy(corners)


def paste(canvas: Tensor, coverage: Tensor, corner: Tensor, colour: Tensor) -> None:
    """Lay one drawing over a picture, in place.

    canvas [C, H, W], coverage [p, p], corner (left, top), colour [C]; what lies outside is cut off.
    """
    left, top = corner.tolist()
    x0, y0 = max(left, 0), max(top, 0)
    cut = coverage[y0 - top : canvas.shape[1] - top, x0 - left : canvas.shape[2] - left]
    view = canvas[:, y0 : y0 + cut.shape[0], x0 : x0 + cut.shape[1]]
    view.add_((colour[:, None, None] - view) * cut)


def grain(shape: Sequence[int], rng: np.random.Generator) -> Tensor:
    """Uniform noise of mean 0 and standard deviation 1."""
    noise = np.frombuffer(bytearray(rng.bytes(math.prod(shape))), np.uint8).reshape(shape)
    return (torch.from_numpy(noise) - 127.5) / 73.9


def boxes(coverage: Tensor) -> Integers:
    """Tight boxes of the ink: coverage [..., H, W] -> [..., 4], left, top, right, bottom.

    Right and bottom are the first column and row after the ink.
    """
    ink = coverage > INK
    columns, rows = ink.any(-2).byte(), ink.any(-1).byte()
    corners = [
        columns.argmax(-1),
        rows.argmax(-1),
        columns.shape[-1] - columns.flip(-1).argmax(-1),
        rows.shape[-1] - rows.flip(-1).argmax(-1),
    ]
    out: Integers = torch.stack(corners, -1).numpy()
    return out


def coverage_of_boxes(box: Integers, side: int, grid: tuple[int, int]) -> Floats:
    """The share of each patch in a box: box [..., 4] in pictures of `side` pixels -> [..., rows, columns]."""

    def along(low: Integers, high: Integers, count: int) -> Floats:
        edges = np.linspace(0, side, count + 1)
        overlap = np.minimum(high[..., None], edges[1:]) - np.maximum(low[..., None], edges[:-1])
        shares: Floats = (overlap.clip(0) * count / side).astype(np.float32)
        return shares

    across, down = along(box[..., 0], box[..., 2], grid[1]), along(box[..., 1], box[..., 3], grid[0])
    return down[..., :, None] * across[..., None, :]


def to_input(pixels: Pixels) -> Tensor:
    """pixels [..., H, W, 3] -> [..., 3, H, W], normalised."""
    x = torch.from_numpy(pixels).movedim(-1, -3).float() / 255
    return (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
