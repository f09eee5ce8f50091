"""Held-out inputs of the three default models as files: `python -m models.demo.held_out --out DIR`.

One folder per model: snippets of projects, scenes of scans and clips of scans that no model was trained on,
and in its `truth.jsonl` what is known of them. `code-language.jsonl` has texts with code planted in prose,
and says where it is. Pictures and clips are stored without loss. `calibration` beside them holds scenes of
training scans, on which int8 of the image model finds its ranges.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image
from rich.progress import Progress
from tokenizers import Tokenizer

from models.demo.code_language import recipe as code_language
from models.demo.code_language.corpus import Corpus, collect
from models.demo.code_language.evaluation import planted
from models.demo.code_language.projects import PROJECTS
from models.demo.code_language.snippets import Sampler
from models.demo.digit_in_clutter import recipe as digit_in_clutter
from models.demo.digit_in_clutter.scenes import scenes
from models.demo.digit_motion import recipe as digit_motion
from models.demo.digit_motion.clips import LABELS as MOTIONS
from models.demo.digit_motion.clips import clips
from models.demo.digits import LABELS as DIGITS
from models.demo.digits import Half, Pixels, scans

COUNT = 500
CALIBRATION, CALIBRATED = "calibration", 100
SEED = 11  # not that of the cards, so that these are new inputs
FRAMES_PER_SECOND = 8
TRUTH = "truth.jsonl"


def read_corpus(cache: Path) -> Corpus:
    """The held-out half of the corpus; fetched where it is not there yet."""
    with Progress() as progress:
        task = progress.add_task(f"{code_language.NAME}, corpus", total=2 * len(PROJECTS))
        return collect(cache, PROJECTS, lambda steps: progress.advance(task, steps)).half("held-out")


def write_snippets(folder: Path, corpus: Corpus, count: int) -> None:
    """`count` snippets as text files, the languages in turn."""
    folder.mkdir(parents=True)
    sampler = Sampler(corpus.sources)
    rng = np.random.default_rng(SEED)
    known = []
    for index in range(count):
        snippet = sampler.draw(sampler.languages[index % len(sampler.languages)], rng)
        name = f"{index:04}.txt"
        (folder / name).write_text(snippet.text, encoding="utf-8", newline="")
        known.append({"file": name, "label": snippet.language})
    write_lines(folder / TRUTH, known)


def write_planted(path: Path, corpus: Corpus, tokenizer: Tokenizer, count: int) -> None:
    """`count` snippets planted in prose as a list of texts, with the span of the code."""
    positions = code_language.CONFIG.positions
    places = planted(
        Sampler(corpus.sources), corpus.prose, tokenizer, count=count, positions=positions, seed=SEED
    )
    write_lines(
        path,
        [
            {"text": snippet.text, "label": snippet.language, "span": [snippet.start, snippet.end]}
            for snippet, _ in places
        ],
    )


def write_scenes(folder: Path, half: Half, count: int) -> None:
    """`count` scenes of one half of the scans as PNG, with the digits' boxes."""
    folder.mkdir(parents=True)
    data = scenes(scans(half), count, np.random.default_rng(SEED))
    known = []
    for index, pixels in enumerate(data.pixels):
        name = f"{index:04}.png"
        Image.fromarray(pixels).save(folder / name)
        known.append({"file": name, "label": DIGITS[data.labels[index]], "box": data.boxes[index].tolist()})
    write_lines(folder / TRUTH, known)


def write_clips(folder: Path, count: int) -> None:
    """`count` clips of held-out scans as MP4, with the digits' boxes and the frame in which one blinks."""
    folder.mkdir(parents=True)
    data = clips(scans("held-out"), count, np.random.default_rng(SEED))
    known = []
    for index, frames in enumerate(data.pixels):
        name = f"{index:04}.mp4"
        save_clip(folder / name, frames)
        blink = int(data.blinks[index])
        known.append(
            {
                "file": name,
                "label": MOTIONS[data.labels[index]],
                "boxes": data.boxes[index].tolist(),
                "frames": None if blink < 0 else [blink],
            }
        )
    write_lines(folder / TRUTH, known)


def write_lines(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Records as JSON, one a line."""
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")


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
    corpus = read_corpus(arguments.cache)
    write_snippets(out / code_language.NAME, corpus, count)
    tokenizer: Tokenizer = Tokenizer.from_file(str(code_language.WEIGHTS / "tokenizer.json"))
    write_planted(out / f"{code_language.NAME}.jsonl", corpus, tokenizer, count)
    write_scenes(out / digit_in_clutter.NAME, "held-out", count)
    write_scenes(out / CALIBRATION, "train", CALIBRATED)
    write_clips(out / digit_motion.NAME, count)


if __name__ == "__main__":
    main()
