"""Train the default image model: `python -m models.demo.digit_in_clutter.recipe`.

A CBAM ResNet-18 of width 16 on scenes drawn afresh for every batch: first small ones, which cost a third and
change from white on black to any colours, then full ones. For training the scans are bent and drawn with
finer and broader pens. Then its card, on scenes of scans that it has never seen.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from models.cbam import CBAMConfig, CBAMResNet
from models.checkpoints import native
from models.demo.card import Card, MapScore, score, wilson
from models.demo.digit_in_clutter.scenes import SIDE, Scenes, scenes
from models.demo.digits import (
    LABELS,
    MEAN,
    STD,
    Floats,
    Scans,
    coverage_of_boxes,
    distorted,
    scans,
    to_input,
)
from models.demo.fitting import fit

NAME = "digit-in-clutter"
WEIGHTS = Path(__file__).parent / "weights"
CONFIG = CBAMConfig(labels=len(LABELS), depth=18, width=16, stem="small")
PREPROCESSING = {
    "kind": "image",
    "height": SIDE,
    "width": SIDE,
    "resize_to": SIDE,
    "interpolation": "bilinear",
    "mean": MEAN,
    "std": STD,
}
SEED = 1
BATCH = 32
SMALL_SIDE, SMALL_STEPS, SMALL_RATE = 56, 1600, 3e-3
STEPS, RATE = 800, 2e-3
COPIES = 8
EXAMPLES = 3000


def main() -> None:
    """Train, measure, save."""
    torch.manual_seed(SEED)
    model = CBAMResNet(CONFIG)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    rng = np.random.default_rng(SEED)
    half = distorted(scans("train"), COPIES, rng)
    ramp = itertools.chain(np.linspace(0, 1, SMALL_STEPS // 2), itertools.repeat(1.0))
    train(model, half, rng, side=SMALL_SIDE, variety=ramp, steps=SMALL_STEPS, rate=SMALL_RATE)
    train(model, half, rng, side=SIDE, variety=itertools.repeat(1.0), steps=STEPS, rate=RATE)
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    save(model, measure(model, scenes(scans("held-out"), EXAMPLES, np.random.default_rng(SEED + 1))))


def train(
    model: CBAMResNet,
    half: Scans,
    rng: np.random.Generator,
    *,
    side: int,
    variety: Iterator[float],
    steps: int,
    rate: float,
) -> None:
    """One phase, on scenes of one size; `variety` gives that of each batch."""

    def loss() -> Tensor:
        batch = scenes(half, BATCH, rng, side=side, variety=next(variety))
        pixels = to_input(batch.pixels).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            outputs, _ = model(pixels)
        return torch.nn.functional.cross_entropy(
            outputs["logits"].float(), torch.from_numpy(batch.labels), label_smoothing=0.05
        )

    fit(model, loss, title=f"{NAME}, {side} pixels", steps=steps, rate=rate)


@torch.no_grad()
def measure(model: CBAMResNet, data: Scenes) -> Card:
    """Accuracy, and how well each map finds the digit's box, beside random numbers."""
    programs = {name: model.programs()[name] for name in ("cam", "spatial")}
    predictions = np.empty(len(data.labels), np.int64)
    found: dict[tuple[str, str | None], list[Floats]] = {}
    for start in track(range(0, len(data.labels), BATCH), f"{NAME}, card"):
        some = slice(start, start + BATCH)
        inputs = {"pixels": to_input(data.pixels[some])}
        outputs, taps = model(inputs["pixels"])
        guess = outputs["logits"].argmax(1)
        predictions[some] = guess.numpy()
        for name, program in programs.items():
            maps = program(*((inputs | taps)[tap] for tap in program.inputs))
            for layer, values in zip(program.layers or (None,), maps, strict=True):
                if name == "cam":
                    values = values[torch.arange(len(guess)), guess]
                found.setdefault((name, layer), []).extend(values.numpy())
    hits = predictions == data.labels
    return Card(
        data=f"{len(hits)} new scenes of {len(np.unique(data.scans))} held-out scans; "
        "settings were changed once or more after this half had been looked at",
        examples=len(hits),
        accuracy=wilson(int(hits.sum()), len(hits)),
        per_label={label: float(hits[data.labels == k].mean()) for k, label in enumerate(LABELS)},
        truth="box of the digit's ink; cam is that of the predicted label; random beside, per resolution",
        maps=tuple(score_maps(found, data)),
    )


def score_maps(found: dict[tuple[str, str | None], list[Floats]], data: Scenes) -> list[MapScore]:
    """Every map against the boxes, and uniform random numbers at each resolution met (as layer, "HxW")."""
    rng = np.random.default_rng(SEED)
    scores: list[MapScore] = []
    grids: set[tuple[int, int]] = set()
    for (name, layer), maps in found.items():
        grid = (maps[0].shape[0], maps[0].shape[1])
        grids.add(grid)
        scores.append(score(name, layer, maps, list(coverage_of_boxes(data.boxes, SIDE, grid))))
    for grid in sorted(grids):
        noise = rng.random((len(data.labels), *grid))
        inside = coverage_of_boxes(data.boxes, SIDE, grid)
        scores.append(score("random", f"{grid[0]}x{grid[1]}", list(noise), list(inside)))
    return scores


def save(model: CBAMResNet, card: Card) -> None:
    """Write the checkpoint beside this file."""
    native.save(
        WEIGHTS,
        model,
        name=NAME,
        version="1",
        description="Which handwritten digit stands among the clutter of a small picture.",
        labels=LABELS,
        preprocessing=PREPROCESSING,
        card=card.as_dict(),
    )


if __name__ == "__main__":
    main()
