"""Promises of the sample inputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from models.demo import samples
from models.demo.digit_in_clutter.scenes import SIDE
from models.demo.digit_motion import clips as motion


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("samples")
    samples.write(out)
    return out


def size(file: Path) -> tuple[int, int]:
    with Image.open(file) as picture:
        return picture.size


def truth(folder: Path, model: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((folder / "truth.json").read_text())
    return [row for row in rows if row["model"] == model]


def test_every_file_is_described_and_there(folder: Path) -> None:
    described = {
        row["file"] for model in ("digit-in-clutter", "digit-motion") for row in truth(folder, model)
    }
    assert described | {"truth.json"} == {path.name for path in folder.iterdir()}


def test_boxes_lie_inside_their_pictures(folder: Path) -> None:
    for row in truth(folder, "digit-in-clutter"):
        left, top, right, bottom = row["box"]
        width, height = size(folder / row["file"])
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height


@pytest.mark.parametrize("name", ["digit-landscape.jpg", "digit-portrait.png"])
def test_an_oblong_picture_has_its_digit_in_the_central_square(folder: Path, name: str) -> None:
    (row,) = [row for row in truth(folder, "digit-in-clutter") if row["file"] == name]
    across, down = size(folder / name)
    assert sorted((across, down)) == [SIDE, samples.LONG_SIDE]
    corner = (np.array([across, down]) - SIDE) // 2
    assert (np.array(row["box"][:2]) >= corner).all()
    assert (np.array(row["box"][2:]) <= corner + SIDE).all()


def test_each_motion_comes_in_each_format_with_all_its_frames(folder: Path) -> None:
    rows = truth(folder, "digit-motion")
    assert len(rows) == 3 * len(motion.LABELS)
    for row in rows:
        assert np.shape(row["boxes"]) == (motion.FRAMES, 4)
        assert (row["blink"] is None) == (row["label"] != "blink")
        with av.open(str(folder / row["file"])) as container:
            assert sum(1 for _ in container.decode(video=0)) == motion.FRAMES
