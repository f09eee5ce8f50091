"""The held-out inputs are files that are read as they were written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer

from models.demo import held_out
from models.demo.code_language import recipe as code_language
from models.demo.code_language.corpus import Corpus, Prose, Source
from models.demo.digit_in_clutter.scenes import scenes
from models.demo.digit_motion.clips import LABELS, clips
from models.demo.digits import scans
from service.decode.budget import Budget
from service.decode.clip import open_clip, tame
from service.decode.limits import Limits
from service.truth import known_inputs

MP4 = "video/mp4"


def test_pictures_are_stored_without_loss(tmp_path: Path) -> None:
    held_out.write_scenes(tmp_path / "new", "held-out", 3)
    expected = scenes(scans("held-out"), 3, np.random.default_rng(held_out.SEED)).pixels
    for path, pixels in zip(sorted((tmp_path / "new").glob("*.png")), expected, strict=True):
        with Image.open(path) as picture:
            np.testing.assert_array_equal(np.asarray(picture), pixels)


def test_clips_are_stored_without_loss(tmp_path: Path) -> None:
    held_out.write_clips(tmp_path / "new", 2)
    expected = clips(scans("held-out"), 2, np.random.default_rng(held_out.SEED)).pixels
    for path, frames in zip(sorted((tmp_path / "new").glob("*.mp4")), expected, strict=True):
        limits = Limits()
        tamed = tame(path.read_bytes(), MP4, limits)
        coded = tamed.coded_pixels(limits)
        with (
            Budget(limits).reserve(2**24, field="video") as reservation,
            open_clip(tamed, media=MP4, limits=limits, coded=coded, reservation=reservation) as clip,
        ):
            found = clip.pictures(range(len(clip)))
        np.testing.assert_array_equal(found, frames)


@pytest.fixture
def corpus() -> Corpus:
    """Sources of two languages in both halves, and prose."""

    def file(language: str, half: str) -> Source:
        lines = (f"{half}_{language}_{line} = call_{line}(argument)" for line in range(60))
        return Source(f"{half}-{language}", language, half, "file", "\n".join(lines))  # type: ignore[arg-type]

    sources = [file(language, half) for language in ("go", "rust") for half in ("train", "held-out")]
    return Corpus(sources, [Prose("p", half, ["A line of prose."] * 20) for half in ("train", "held-out")])


def test_snippets_are_of_held_out_projects_in_turn(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_out, "collect", lambda *_: corpus)
    held_out.write_snippets(tmp_path / "new", held_out.read_corpus(tmp_path), 6)
    texts = [path.read_text() for path in sorted((tmp_path / "new").glob("*.txt"))]
    assert [text.lstrip().split("_")[:2] for text in texts] == 3 * [["held-out", "go"], ["held-out", "rust"]]
    labels = [truth and truth.label for _, truth in known_inputs(tmp_path / "new")]
    assert labels == 3 * ["go", "rust"]


def test_planted_code_lies_where_its_span_says(tmp_path: Path, corpus: Corpus) -> None:
    tokenizer: Tokenizer = Tokenizer.from_file(str(code_language.WEIGHTS / "tokenizer.json"))
    held_out.write_planted(tmp_path / "texts.jsonl", corpus.half("held-out"), tokenizer, 8)
    found = list(known_inputs(tmp_path / "texts.jsonl"))
    assert len(found) == 8
    for raw, truth in found:
        assert isinstance(raw.data, str)
        assert truth is not None
        assert truth.span is not None
        start, end = truth.span
        code, prose = raw.data[start:end], raw.data[:start] + raw.data[end:]
        assert all(line.lstrip().startswith(f"held-out_{truth.label}_") for line in code.split("\n"))
        assert "held-out_" not in prose
        assert "prose" in prose


def test_what_is_known_of_scenes_is_true_of_them(tmp_path: Path) -> None:
    held_out.write_scenes(tmp_path / "new", "held-out", 3)
    expected = scenes(scans("held-out"), 3, np.random.default_rng(held_out.SEED))
    for index, (_, truth) in enumerate(known_inputs(tmp_path / "new")):
        assert truth is not None
        assert truth.box == tuple(expected.boxes[index])
        assert truth.label == str(expected.labels[index])


def test_what_is_known_of_clips_is_true_of_them(tmp_path: Path) -> None:
    held_out.write_clips(tmp_path / "new", 12)
    expected = clips(scans("held-out"), 12, np.random.default_rng(held_out.SEED))
    found = [truth for _, truth in known_inputs(tmp_path / "new")]
    assert {LABELS[label] == "blink" for label in expected.labels} == {True, False}
    for index, truth in enumerate(found):
        assert truth is not None
        assert truth.boxes == tuple(map(tuple, expected.boxes[index].tolist()))
        assert truth.label == LABELS[expected.labels[index]]
        assert (truth.frames is not None) == (truth.label == "blink")
        assert truth.frames in (None, (expected.blinks[index],))
