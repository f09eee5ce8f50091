"""Sample inputs for the default image and video models: `python -m models.demo.samples --out DIR`.

Pictures and clips of held-out scans, in the formats people send, with `truth.json` beside them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from PIL import Image

from models.demo.digit_in_clutter.scenes import SIDE, Scenes, scenes
from models.demo.digit_motion import clips as motion
from models.demo.digits import LABELS, Integers, Pixels, scans

SEED = 7
PICTURES = 6
LONG_SIDE = 160
JPEG_QUALITY = 90
ENLARGED = 2  # video codecs halve the resolution of colour: the clips are stored at twice their size
FRAMES_PER_SECOND = 8
CODECS: dict[str, tuple[str, dict[str, str]]] = {
    ".mp4": ("libx264", {"crf": "12"}),
    ".webm": ("libvpx-vp9", {"crf": "12", "b:v": "0"}),
}


def write(folder: Path) -> None:
    """Write all samples and `truth.json`: per file its label and its boxes in the file's own pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(SEED)
    truth = write_pictures(folder, rng) + write_clips(folder, rng)
    (folder / "truth.json").write_text(json.dumps(truth, indent=2) + "\n")


def write_pictures(folder: Path, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Square scenes as PNG and JPEG by turns, then a landscape and a portrait one."""
    square = scenes(scans("held-out"), PICTURES, rng)
    named = [
        (f"digit-{index}{'.png' if index % 2 == 0 else '.jpg'}", square.pixels[index], square.boxes[index])
        for index in range(PICTURES)
    ]
    labels = square.labels.tolist()
    for name, across, down in (("landscape.jpg", LONG_SIDE, SIDE), ("portrait.png", SIDE, LONG_SIDE)):
        pixels, box, label = oblong(across, down, rng)
        named.append((f"digit-{name}", pixels, box))
        labels.append(label)
    truth: list[dict[str, Any]] = []
    for (name, pixels, box), label in zip(named, labels, strict=True):
        Image.fromarray(pixels).save(folder / name, quality=JPEG_QUALITY)  # PNG has no use for it
        truth.append({"file": name, "model": "digit-in-clutter", "label": LABELS[label], "box": box.tolist()})
    return truth


def oblong(across: int, down: int, rng: np.random.Generator) -> tuple[Pixels, Integers, int]:
    """A scene that is not square, its digit in the central part: pixels [down, across, 3], box [4], label."""
    side = max(across, down)
    low, high = (side - SIDE) // 2, (side + SIDE) // 2
    while True:
        scene: Scenes = scenes(scans("held-out"), 1, rng, side=side)
        box = scene.boxes[0]
        if box.min() >= low and box.max() <= high:
            break
    left, top = (side - across) // 2, (side - down) // 2
    cut = np.ascontiguousarray(scene.pixels[0, top : top + down, left : left + across])
    return cut, box - np.array([left, top, left, top]), int(scene.labels[0])


def write_clips(folder: Path, rng: np.random.Generator) -> list[dict[str, Any]]:
    """One clip of each label, in every format."""
    data = motion.clips(scans("held-out"), 200, rng)
    truth: list[dict[str, Any]] = []
    for label, name in enumerate(motion.LABELS):
        index = int(np.flatnonzero(data.labels == label)[0])
        frames = [enlarged(frame) for frame in data.pixels[index]]
        for suffix in (*CODECS, ".gif"):
            save_clip(folder / f"{name}{suffix}", frames)
            truth.append(
                {
                    "file": f"{name}{suffix}",
                    "model": "digit-motion",
                    "label": name,
                    "boxes": (data.boxes[index] * ENLARGED).tolist(),
                    "blink": int(data.blinks[index]) if data.blinks[index] >= 0 else None,
                }
            )
    return truth


def enlarged(pixels: Pixels) -> Pixels:
    """[H, W, 3] -> [ENLARGED * H, ENLARGED * W, 3]."""
    height, width = (ENLARGED * size for size in pixels.shape[:2])
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def save_clip(path: Path, frames: Sequence[Pixels]) -> None:
    """Write frames [H, W, 3] as a video file, or as a GIF that repeats for ever."""
    if path.suffix == ".gif":
        first, *rest = (Image.fromarray(frame) for frame in frames)
        first.save(path, save_all=True, append_images=rest, duration=1000 // FRAMES_PER_SECOND, loop=0)
        return
    codec, options = CODECS[path.suffix]
    with av.open(str(path), "w") as container:
        added = container.add_stream(codec, rate=Fraction(FRAMES_PER_SECOND), options=options)
        stream = cast(av.VideoStream, added)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    write(parser.parse_args().out)


if __name__ == "__main__":
    main()
