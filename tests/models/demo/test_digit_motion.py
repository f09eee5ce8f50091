"""Promises of the clips, and that the committed video model does what its card says."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from models.checkpoints import native
from models.demo import samples
from models.demo.digit_motion import recipe
from models.demo.digit_motion.clips import FRAMES, LABELS, MIDDLE, SIDE, SPEED, Clips, clips, path
from models.demo.digits import Pixels, scans


@pytest.fixture(scope="module")
def data() -> Clips:
    return clips(scans("held-out"), 160, np.random.default_rng(0))


def of(data: Clips, label: str) -> np.ndarray:
    found = np.flatnonzero(data.labels == LABELS.index(label))
    assert len(found) > 5
    return found


def test_clips_are_of_their_half_and_of_all_labels(data: Clips) -> None:
    assert set(data.scans) <= set(scans("held-out").ids)
    assert set(data.labels) == set(range(len(LABELS)))
    assert data.pixels.shape == (160, FRAMES, SIDE, SIDE, 3)


def test_a_seed_gives_the_same_clips() -> None:
    first, again, other = (clips(scans("train"), 3, np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.pixels, again.pixels)
    assert (first.pixels != other.pixels).any()


def test_boxes_lie_inside_the_picture(data: Clips) -> None:
    assert data.boxes.min() >= 0
    assert data.boxes.max() <= SIDE
    assert (data.boxes[..., 2:] - data.boxes[..., :2]).min() >= 3


@pytest.mark.parametrize(
    ("label", "axis", "sign"), [("left", 0, -1), ("right", 0, 1), ("up", 1, -1), ("down", 1, 1)]
)
def test_a_digit_moves_as_its_label_says(data: Clips, label: str, axis: int, sign: int) -> None:
    centres = (data.boxes[..., :2] + data.boxes[..., 2:]) / 2
    travel = (centres[:, -1] - centres[:, 0])[of(data, label)]
    assert (sign * travel[:, axis] > (FRAMES - 1) * SPEED[0] - 2).all()
    assert (np.abs(travel[:, 1 - axis]) <= 1).all()


@pytest.mark.parametrize(("label", "sign"), [("grow", 1), ("shrink", -1)])
def test_a_digit_changes_its_size_as_its_label_says(data: Clips, label: str, sign: int) -> None:
    areas = (data.boxes[..., 2:] - data.boxes[..., :2]).prod(-1).astype(float)
    assert (sign * np.log(areas[:, -1] / areas[:, 0])[of(data, label)] > 0.4).all()


def test_a_rotating_digit_turns_clockwise_in_its_place() -> None:
    labels = np.full(50, LABELS.index("rotate"))
    place, _ = path(labels, np.full(50, 4.5, np.float32), np.random.default_rng(0))
    angle = place.angle.reshape(50, FRAMES)
    assert (np.diff(angle) > 0).all()
    assert np.ptp(place.centre.reshape(50, FRAMES, 2), axis=1).max() < 1e-4
    assert np.ptp(place.cell.reshape(50, FRAMES, 2), axis=1).max() < 1e-5


def test_a_blink_inverts_the_ink_in_exactly_the_true_frame(data: Clips) -> None:
    for clip in of(data, "blink"):
        left, top, right, bottom = data.boxes[clip, 0]
        ink = data.pixels[clip, :, top:bottom, left:right].astype(float).mean((1, 2, 3))
        change = np.abs(ink - np.median(ink))
        assert change.argmax() == data.blinks[clip]
        assert np.sort(change)[-2] < change.max() / 2


def test_nothing_blinks_in_other_classes(data: Clips) -> None:
    assert ((data.blinks >= 0) == (data.labels == LABELS.index("blink"))).all()


def test_a_random_frame_tells_no_class() -> None:
    """Place, size and angle of a random frame are spread alike in all classes (mean and spread)."""
    count, rng = 4000, np.random.default_rng(0)
    moments = []
    for label in range(len(LABELS)):
        place, _ = path(np.full(count, label), np.full(count, 4.5, np.float32), rng)
        frames = np.arange(count) * FRAMES + rng.integers(FRAMES, size=count)
        seen = np.column_stack(
            [place.centre[frames], np.log(place.cell[frames, 0]), np.cos(place.angle[frames])]
        )
        moments.append((seen.mean(0), seen.std(0)))
    means, spreads = (np.array(each) for each in zip(*moments, strict=True))
    pooled = spreads.mean(0)
    assert (np.ptp(means, axis=0) / pooled < 0.12).all()
    assert (np.ptp(spreads, axis=0) / pooled < 0.08).all()


def test_a_motion_has_its_middle_in_the_middle_of_the_clip() -> None:
    labels = np.full(5, LABELS.index("right"))
    place, _ = path(labels, np.full(5, 4.5, np.float32), np.random.default_rng(0))
    x = place.centre.reshape(5, FRAMES, 2)[..., 0]
    np.testing.assert_allclose(x[:, 0] + x[:, -1], x[:, 3] + x[:, 4], rtol=1e-5)
    assert MIDDLE == 3.5


def test_a_label_becomes_bytes_between_start_and_end() -> None:
    assert recipe.label_ids("up") == [256, 117, 112, 257, *[0] * 12]


def test_the_committed_model_does_what_its_card_says() -> None:
    checkpoint = native.load(recipe.WEIGHTS)
    assert checkpoint.labels == LABELS
    assert checkpoint.card is not None
    fresh = clips(scans("held-out"), 150, np.random.default_rng(1000))
    with torch.no_grad():
        outputs, _ = checkpoint.model(recipe.to_input(fresh.pixels))
    accuracy = float((outputs["logits"].argmax(1).numpy() == fresh.labels).mean())
    assert accuracy == pytest.approx(checkpoint.card["accuracy"]["value"], abs=0.05)


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif"])
def test_the_committed_model_survives_a_video_file(data: Clips, tmp_path: Path, suffix: str) -> None:
    decoded = []
    for clip in range(40):
        file = tmp_path / f"{clip}{suffix}"
        samples.save_clip(file, [samples.enlarged(frame) for frame in data.pixels[clip]])
        decoded.append(read(file))
    model = native.load(recipe.WEIGHTS).model
    with torch.no_grad():
        outputs, _ = model(recipe.to_input(np.stack(decoded)))
    assert (outputs["logits"].argmax(1).numpy() == data.labels[:40]).mean() > 0.85


def read(file: Path) -> Pixels:
    with av.open(str(file)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == FRAMES
    small = [Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.BILINEAR) for frame in frames]
    return np.stack([np.asarray(frame) for frame in small])
