"""What is taken away is exactly what a mask marks, and nothing else changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage
from tokenizers import Tokenizer, models

from service.bundle import ImageInput, TextInput
from service.decode.item import NOTHING, ImageItem, TextItem, VideoItem
from service.decode.view import View
from service.evaluation.blanking import PictureBlanking, TextBlanking, blurred, stand_in

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)


def spec(height: int, width: int) -> ImageInput:
    return ImageInput(height=height, width=width, resize_to=min(height, width), mean=MEAN, std=STD)


def view(height: int, width: int) -> View:
    return View(
        width=width,
        height=height,
        model_width=width,
        model_height=height,
        scale_x=1,
        scale_y=1,
        left=0,
        top=0,
    )


def normalised(*shape: int) -> Any:
    """Random bytes [..., 3, h, w] as a decoder makes them."""
    values = np.random.default_rng(0).integers(0, 256, shape).astype(np.float32) / 255
    return (values - np.array(MEAN, np.float32)[:, None, None]) / np.array(STD, np.float32)[:, None, None]


def picture(height: int, width: int) -> PictureBlanking:
    tensors = {"pixels": normalised(3, height, width)}
    item = ImageItem(tensors=tensors, original=NOTHING, view=view(height, width), format="tensor")
    return PictureBlanking(item, spec(height, width))


def clip(frames: int, side: int) -> PictureBlanking:
    item = VideoItem(
        tensors={"frames": normalised(frames, 3, side, side)},
        original=NOTHING,
        view=view(side, side),
        format="tensor",
        indices=tuple(range(frames)),
        timestamps=tuple(map(float, range(frames))),
        total=frames,
        duration=frames,
    )
    return PictureBlanking(item, spec(side, side))


def random_mask(*shape: int) -> Any:
    return np.random.default_rng(1).random(shape) < 0.5


@pytest.mark.parametrize(("rows", "columns"), [(2, 3), (4, 6), (8, 12)])
def test_the_cells_of_a_picture_are_those_of_its_grid(rows: int, columns: int) -> None:
    gone = random_mask(rows, columns)
    blanking = picture(8, 12)
    pixels = blanking.without(np.zeros_like(gone), "zero").tensors["pixels"]
    over = np.kron(gone, np.ones((8 // rows, 12 // columns), bool))
    np.testing.assert_array_equal(blanking.without(gone, "zero").tensors["pixels"], np.where(over, 0, pixels))


def test_cells_that_do_not_divide_the_picture_share_it_out_evenly() -> None:
    """Each pixel belongs to the cell that its middle lies in, worked out with fractions."""
    blanking = picture(7, 10)
    for row in range(3):
        for column in range(4):
            gone = np.zeros((3, 4), bool)
            gone[row, column] = True
            rows = [y for y in range(7) if int((y + 0.5) / (7 / 3)) == row]
            columns = [x for x in range(10) if int((x + 0.5) / (10 / 4)) == column]
            found = blanking.without(gone, "zero").tensors["pixels"] == 0
            expected = np.zeros((7, 10), bool)
            expected[np.ix_(rows, columns)] = True
            np.testing.assert_array_equal(found.all(0), expected)


def test_a_mask_of_a_clip_is_of_frames_of_places_or_of_both() -> None:
    blanking = clip(3, 4)
    pixels = blanking.without(np.zeros(3, bool), "zero").tensors["frames"]
    frames, places, both = random_mask(3), random_mask(2, 2), random_mask(3, 2, 2)
    block = np.ones((2, 2), bool)
    for gone, over in (
        (frames, np.broadcast_to(frames[:, None, None], (3, 4, 4))),
        (places, np.broadcast_to(np.kron(places, block), (3, 4, 4))),
        (both, np.stack([np.kron(one, block) for one in both])),
    ):
        found = blanking.without(gone, "zero").tensors["frames"]
        np.testing.assert_array_equal(found, np.where(over[:, None], 0, pixels))


@pytest.mark.parametrize("way", ["zero", "blur"])
def test_taking_nothing_away_changes_nothing_and_everything_leaves_nothing(way: str) -> None:
    blanking = picture(20, 30)
    gone = np.zeros((2, 3), bool)
    pixels = blanking.without(gone, "zero").tensors["pixels"]
    np.testing.assert_array_equal(blanking.without(gone, way).tensors["pixels"], pixels)
    assert not (blanking.without(~gone, way).tensors["pixels"] == pixels).any(axis=0).all()


def test_a_blurred_picture_is_a_gaussian_of_it() -> None:
    pixels = normalised(2, 3, 40, 60)
    found = blurred(pixels, spec(40, 60), 4.0)
    assert (found.shape, found.dtype) == (pixels.shape, np.float32)
    expected = ndimage.gaussian_filter(pixels, (0, 0, 4, 4), mode="nearest")
    scale = np.array(STD)[:, None, None]  # back to shares of the full range of a byte
    inner = (..., slice(8, -8), slice(8, -8))  # at the edges each library goes on in its own way
    assert np.abs((found - expected) * scale)[inner].max() < 0.01
    assert np.abs((pixels - expected) * scale)[inner].max() > 0.4


def test_a_blurred_clip_stands_still() -> None:
    blanking = clip(3, 40)
    frames = blanking.without(np.zeros(3, bool), "zero").tensors["frames"]
    found = blanking.without(np.ones(3, bool), "blur").tensors["frames"]
    expected = blurred(frames.mean(0), spec(40, 40), 4.0)
    np.testing.assert_array_equal(found, np.broadcast_to(expected, found.shape))


def text() -> TextItem:
    return TextItem(
        tensors={"input_ids": np.array([1, 10, 11, 12, 2]), "token_types": np.array([0, 0, 1, 1, 1])},
        texts=("abc",),
        tokens=("[CLS]", "a", "b", "c", "[SEP]"),
        offsets=((0, 0), (0, 1), (1, 2), (2, 3), (3, 3)),
        segments=(0, 0, 0, 0, 0),
        special=(True, False, False, False, True),
        dropped=(0,),
    )


def test_masked_tokens_are_replaced_and_the_text_keeps_its_length() -> None:
    found = TextBlanking(text(), stand_in=("[MASK]", 9)).without(np.array([True, False, True]), "mask")
    assert found.tensors["input_ids"].tolist() == [1, 9, 11, 9, 2]
    assert found.tensors["token_types"].tolist() == [0, 0, 1, 1, 1]
    assert found.cost == 5


def test_deleted_tokens_are_gone_from_everything_and_special_ones_stay() -> None:
    found = TextBlanking(text(), stand_in=("[MASK]", 9)).without(np.array([True, False, True]), "delete")
    assert isinstance(found, TextItem)
    assert {name: tensor.tolist() for name, tensor in found.tensors.items()} == {
        "input_ids": [1, 11, 2],
        "token_types": [0, 1, 1],
    }
    assert (found.tokens, found.offsets) == (("[CLS]", "b", "[SEP]"), ((0, 0), (1, 2), (3, 3)))
    assert (found.special, found.segments, found.cost) == ((True, False, True), (0, 0, 0), 3)


def test_a_text_without_special_tokens_cannot_be_deleted_whole() -> None:
    everything = np.ones(3, bool)
    assert TextBlanking(text(), stand_in=("", 0)).is_left(everything, "delete")
    plain = TextItem(
        tensors={"input_ids": np.array([1, 2, 3])},
        texts=("abc",),
        tokens=("a", "b", "c"),
        offsets=((0, 1), (1, 2), (2, 3)),
        segments=(0, 0, 0),
        special=(False, False, False),
        dropped=(0,),
    )
    blanking = TextBlanking(plain, stand_in=("", 0))
    assert not blanking.is_left(everything, "delete")
    assert blanking.is_left(everything, "mask")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["a", "[PAD]", "[UNK]", "[MASK]"], ("[MASK]", 3)),
        (["<s>", "<pad>", "<unk>", "<mask>"], ("<mask>", 3)),
        (["a", "[PAD]", "[UNK]"], ("[UNK]", 2)),
        (["a", "[PAD]"], ("[PAD]", 1)),
        (["a"], ("token 1", 1)),
    ],
)
def test_what_stands_for_a_token_is_the_mask_or_the_next_best(
    tmp_path: Any, words: list[str], expected: tuple[str, int]
) -> None:
    vocabulary = {word: index for index, word in enumerate(words)}
    Tokenizer(models.WordLevel(vocabulary, unk_token=words[0])).save(str(tmp_path / "tokenizer.json"))
    assert stand_in(tmp_path, TextInput(max_tokens=8, pad_id=1)) == expected
