"""The held-out inputs are files that are read as they were written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.demo import held_out
from models.demo.code_language.corpus import Corpus, Source
from models.demo.digit_in_clutter.scenes import scenes
from models.demo.digit_motion.clips import clips
from models.demo.digits import scans
from service.decode.budget import Budget
from service.decode.clip import open_clip, tame
from service.decode.limits import Limits

MP4 = "video/mp4"


def test_pictures_are_stored_without_loss(tmp_path: Path) -> None:
    held_out.write_scenes(tmp_path / "new", "held-out", 3)
    expected = scenes(scans("held-out"), 3, np.random.default_rng(held_out.SEED)).pixels
    for path, pixels in zip(sorted((tmp_path / "new").iterdir()), expected, strict=True):
        with Image.open(path) as picture:
            np.testing.assert_array_equal(np.asarray(picture), pixels)


def test_clips_are_stored_without_loss(tmp_path: Path) -> None:
    held_out.write_clips(tmp_path / "new", 2)
    expected = clips(scans("held-out"), 2, np.random.default_rng(held_out.SEED)).pixels
    for path, frames in zip(sorted((tmp_path / "new").iterdir()), expected, strict=True):
        limits = Limits()
        tamed = tame(path.read_bytes(), MP4, limits)
        coded = tamed.coded_pixels(limits)
        with (
            Budget(limits).reserve(2**24, field="video") as reservation,
            open_clip(tamed, media=MP4, limits=limits, coded=coded, reservation=reservation) as clip,
        ):
            found = clip.pictures(range(len(clip)))
        np.testing.assert_array_equal(found, frames)


def test_snippets_are_of_held_out_projects_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def file(language: str, half: str) -> Source:
        lines = (f"{half}_{language}_{line} = call_{line}(argument)" for line in range(60))
        return Source(f"{half}-{language}", language, half, "file", "\n".join(lines))  # type: ignore[arg-type]

    sources = [file(language, half) for language in ("go", "rust") for half in ("train", "held-out")]
    monkeypatch.setattr(held_out, "collect", lambda *_: Corpus(sources, []))
    held_out.write_snippets(tmp_path / "new", 6, tmp_path)
    texts = [path.read_text() for path in sorted((tmp_path / "new").iterdir())]
    assert [text.lstrip().split("_")[:2] for text in texts] == 3 * [["held-out", "go"], ["held-out", "rust"]]
