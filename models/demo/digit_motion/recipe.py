"""Train the default video model: `python -m models.demo.digit_motion.recipe`.

A small X-CLIP, its text tower included, on clips drawn afresh for every batch, which change from light
digits on an empty ground to all colours and clutter. A linear head, thrown away afterwards, reads the digit's
box from each frame's embedding: without it the network takes very long to find out that places matter. Then
its card, on clips of scans that it has never seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional

from models.checkpoints import native
from models.demo.card import Card, MapScore, score, wilson
from models.demo.digit_motion.clips import FRAMES, LABELS, SIDE, Clips, clips
from models.demo.digits import MEAN, STD, Floats, Scans, coverage_of_boxes, scans, to_input
from models.demo.fitting import fit
from models.video import XCLIP, TowerConfig, VideoClassifier, XCLIPConfig

NAME = "digit-motion"
WEIGHTS = Path(__file__).parent / "weights"
START, END, PADDING, CONTEXT = 256, 257, 0, 16
CONFIG = XCLIPConfig(
    image=SIDE,
    patch=8,
    frames=FRAMES,
    embed=64,
    vision=TowerConfig(width=64, layers=4, heads=4),
    temporal=TowerConfig(width=64, layers=1, heads=4),
    prompt=TowerConfig(width=64, layers=2, heads=4),
    text=TowerConfig(width=48, layers=2, heads=4),
    vocabulary=258,
    context=CONTEXT,
)
PREPROCESSING = {
    "kind": "video",
    "frames": FRAMES,
    "height": SIDE,
    "width": SIDE,
    "resize_to": SIDE,
    "interpolation": "bilinear",
    "mean": MEAN,
    "std": STD,
}
SEED = 1
BATCH, STEPS, RATE, DECAY = 32, 3200, 1.5e-3, 0.2
EMPTY, FULL = 0.1, 0.4  # shares of the steps until which all clips are plain, and from which none is
BOX_WEIGHT = 5.0
HIGHEST_SCALE = float(np.log(100))
EXAMPLES = 3000
MAPS = ("rollout", "cls", "importance", "message", "temporal", "label_patches")


def main() -> None:
    """Train, measure, save."""
    torch.manual_seed(SEED)
    model = XCLIP(CONFIG)
    train(model, scans("train"), np.random.default_rng(SEED))
    save(model, measure(model, clips(scans("held-out"), EXAMPLES, np.random.default_rng(SEED + 1))))


def label_ids(text: str) -> list[int]:
    """The bytes of a label between start and end, padded to the context."""
    ids = [START, *text.encode(), END]
    return ids + [PADDING] * (CONTEXT - len(ids))


def train(model: XCLIP, half: Scans, rng: np.random.Generator) -> None:
    """The whole network at once, text tower included, and a head that reads boxes from frame embeddings."""
    ids = torch.tensor([label_ids(label) for label in LABELS])
    box_head = nn.Linear(CONFIG.embed, 4)
    embeddings: list[Tensor] = []
    hook = model.vision.register_forward_hook(lambda _, __, output: embeddings.append(output[0]))
    variety = iter(np.interp(np.linspace(0, 1, STEPS), (EMPTY, FULL), (0, 1)))

    def loss() -> Tensor:
        batch = clips(half, BATCH, rng, variety=next(variety))
        with torch.no_grad():
            model.logit_scale.clamp_(max=HIGHEST_SCALE)
        with torch.autocast("cpu", torch.bfloat16):
            outputs, _ = model(to_input(batch.pixels), model.text(ids))
            guess = box_head(embeddings.pop())
        boxes = torch.from_numpy(batch.boxes).float() / (SIDE / 2) - 1
        return functional.cross_entropy(
            outputs["logits"].float(), torch.from_numpy(batch.labels)
        ) + BOX_WEIGHT * functional.smooth_l1_loss(guess.float(), boxes, beta=0.1)

    fit(nn.ModuleList([model, box_head]), loss, title=NAME, steps=STEPS, rate=RATE, decay=DECAY)
    hook.remove()


@torch.no_grad()
def measure(model: XCLIP, data: Clips) -> Card:
    """Accuracy and maps beside random numbers; and the accuracy where motion is taken from the clips."""
    ids = torch.tensor([label_ids(label) for label in LABELS])
    served = VideoClassifier(model, model.text(ids)).eval()
    programs = {name: served.programs()[name] for name in MAPS}
    predictions = np.empty(len(data.labels), np.int64)
    found: dict[tuple[str, str | None], list[Floats]] = {}
    for start in track(range(0, len(data.labels), BATCH), f"{NAME}, card"):
        some = slice(start, start + BATCH)
        frames = to_input(data.pixels[some])
        outputs, taps = served(frames)
        guess = outputs["logits"].argmax(1)
        predictions[some] = guess.numpy()
        for name, program in programs.items():
            maps = program(*(({"frames": frames} | taps)[tap] for tap in program.inputs))
            for layer, values in zip(program.layers or (None,), maps, strict=True):
                found.setdefault((name, layer), []).extend(readable(name, values, guess).numpy())
    hits = predictions == data.labels
    card = Card(
        data=f"{len(hits)} new clips of {len(np.unique(data.scans))} held-out scans; "
        "settings were changed once or more after this half had been looked at",
        examples=len(hits),
        accuracy=wilson(int(hits.sum()), len(hits)),
        per_label={label: float(hits[data.labels == k].mean()) for k, label in enumerate(LABELS)},
        truth="rollout, cls: the digit's box, each frame an example; label_patches (predicted label): mean "
        "box over frames; importance, message, temporal (column means): the inverted frame of blink clips; "
        "heads averaged; random beside, per shape (its layer); a head that is thrown away learned the "
        "digit's box in every frame during training",
        maps=tuple(score_maps(found, data)),
    )
    controls = [f"{name} {accuracy(served, data, order):.1%}" for name, order in orders(len(hits)).items()]
    return replace(card, data=f"{card.data}; accuracy with {', with '.join(controls)}")


def readable(name: str, values: Tensor, guess: Tensor) -> Tensor:
    """One map per clip: heads averaged, the predicted label's, a matrix averaged over its rows."""
    if name in ("cls", "message", "temporal", "label_patches"):
        values = values.mean(1)
    if name in ("message", "temporal"):
        return values.mean(1)
    if name == "label_patches":
        return values[torch.arange(len(guess)), guess]
    return values


def score_maps(found: Mapping[tuple[str, str | None], list[Floats]], data: Clips) -> list[MapScore]:
    """Every map against its truth, and uniform random numbers of each shape met.

    Maps over frames are scored on blink clips alone. In a map of patches per frame each frame is one example.
    """
    rng = np.random.default_rng(SEED)
    boxes = coverage_of_boxes(data.boxes, SIDE, CONFIG.grid)  # [N, T, rows, columns]
    blinking = data.blinks >= 0
    blink = (np.arange(FRAMES) == data.blinks[blinking, None]).astype(np.float32)
    scores: list[MapScore] = []
    noises: dict[str, MapScore] = {}
    for (name, layer), maps in found.items():
        values: NDArray[Any] = np.stack(maps)
        if values.ndim == 4:
            shape, values, truth = (
                "frame_grid",
                values.reshape(-1, *CONFIG.grid),
                boxes.reshape(-1, *CONFIG.grid),
            )
        elif values.ndim == 3:
            shape, truth = "grid", boxes.mean(1)
        else:
            shape, values, truth = "frames", values[blinking], blink
        scores.append(score(name, layer, list(values), list(truth)))
        if shape not in noises:
            noises[shape] = score("random", shape, list(rng.random(values.shape)), list(truth))
    return scores + list(noises.values())


def orders(count: int) -> dict[str, NDArray[np.int64]]:
    """Orders of frames [N, T] that take the motion away: all frames unordered, and a single one."""
    rng = np.random.default_rng(SEED)
    shuffled = rng.permuted(np.tile(np.arange(FRAMES), (count, 1)), axis=1)
    one = np.repeat(rng.integers(FRAMES, size=(count, 1)), FRAMES, 1)
    return {"frames shuffled": shuffled, "one random frame repeated": one}


@torch.no_grad()
def accuracy(served: VideoClassifier, data: Clips, order: NDArray[np.int64]) -> float:
    """The share of right answers for clips whose frames are put in this order [N, T]."""
    hits = 0
    for start in range(0, len(data.labels), BATCH):
        some = slice(start, start + BATCH)
        pixels = np.take_along_axis(data.pixels[some], order[some, :, None, None, None], 1)
        outputs, _ = served(to_input(pixels))
        hits += int((outputs["logits"].argmax(1).numpy() == data.labels[some]).sum())
    return hits / len(data.labels)


def save(model: XCLIP, card: Card) -> None:
    """Write the checkpoint beside this file."""
    native.save(
        WEIGHTS,
        model,
        name=NAME,
        version="1",
        description="How a handwritten digit moves over clutter in a clip of eight frames.",
        labels=LABELS,
        preprocessing=PREPROCESSING,
        card=card.as_dict(),
        label_ids=[label_ids(label) for label in LABELS],
    )


if __name__ == "__main__":
    main()
