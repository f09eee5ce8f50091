"""Held-out inputs of the three default models as files: `python -m models.demo.held_out --out DIR`.

One folder per model, for `regard evaluate`: snippets of projects, scenes of scans and clips of scans that no
model was trained on. Pictures and clips are stored without loss. `calibration` beside them holds scenes of
training scans, on which int8 of the image model finds its ranges.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import av
import numpy as np
from PIL import Image
from rich.progress import Progress

from models.demo.code_language import recipe as code_language
from models.demo.code_language.corpus import collect
from models.demo.code_language.projects import PROJECTS
from models.demo.code_language.snippets import Sampler
from models.demo.digit_in_clutter import recipe as digit_in_clutter
from models.demo.digit_in_clutter.scenes import scenes
from models.demo.digit_motion import recipe as digit_motion
from models.demo.digit_motion.clips import clips
from models.demo.digits import Half, Pixels, scans

COUNT = 500
CALIBRATION, CALIBRATED = "calibration", 100
SEED = 11  # not that of the cards, so that these are new inputs
FRAMES_PER_SECOND = 8


def write_snippets(folder: Path, count: int, cache: Path) -> None:
    """`count` snippets of held-out projects as text files, the languages in turn."""
    folder.mkdir(parents=True)
    with Progress() as progress:
        task = progress.add_task(f"{code_language.NAME}, corpus", total=2 * len(PROJECTS))
        corpus = collect(cache, PROJECTS, lambda steps: progress.advance(task, steps))
    sampler = Sampler(corpus.half("held-out").sources)
    rng = np.random.default_rng(SEED)
    for index in range(count):
        snippet = sampler.draw(sampler.languages[index % len(sampler.languages)], rng)
        (folder / f"{index:04}.txt").write_text(snippet.text, encoding="utf-8", newline="")


def write_scenes(folder: Path, half: Half, count: int) -> None:
    """`count` scenes of one half of the scans as PNG."""
    folder.mkdir(parents=True)
    for index, pixels in enumerate(scenes(scans(half), count, np.random.default_rng(SEED)).pixels):
        Image.fromarray(pixels).save(folder / f"{index:04}.png")


def write_clips(folder: Path, count: int) -> None:
    """`count` clips of held-out scans as MP4."""
    folder.mkdir(parents=True)
    for index, frames in enumerate(clips(scans("held-out"), count, np.random.default_rng(SEED)).pixels):
        save_clip(folder / f"{index:04}.mp4", frames)


def save_clip(path: Path, frames: Pixels) -> None:
    """Frames [T, H, W, 3] as H.264 in RGB and without quantisation: what is read is what was written."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=FRAMES_PER_SECOND, options={"qp": "0"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "rgb24"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--count", type=int, default=COUNT, help="inputs of each model")
    parser.add_argument("--cache", type=Path, default=code_language.CACHE, help="where the corpus is kept")
    arguments = parser.parse_args()
    out, count = arguments.out, arguments.count
    write_snippets(out / code_language.NAME, count, arguments.cache)
    write_scenes(out / digit_in_clutter.NAME, "held-out", count)
    write_scenes(out / CALIBRATION, "train", CALIBRATED)
    write_clips(out / digit_motion.NAME, count)


if __name__ == "__main__":
    main()
