from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from service.decode.item import TextItem, VideoItem
from service.render.colors import table
from service.render.labels import labels
from service.render.matrix import heat_map
from service.render.theme import DARK


def drawn(values: np.ndarray, *, side: int | None = None, names: tuple[str, ...] | None = None) -> np.ndarray:
    counted = tuple(str(i) for i in range(values.shape[1]))
    picture: Image.Image = heat_map(
        values.astype(np.float32),
        raw=values.astype(np.float64),
        rows=names or counted[: len(values)],
        columns=names or counted,
        unit="frame",
        colormap="viridis",
        side=side,
        theme=DARK,
    )
    return np.asarray(picture)


def hottest(pixels: np.ndarray) -> tuple[int, int, int, int]:
    mask = (pixels == table("viridis")[255]).all(-1)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def test_rows_run_down_and_columns_across() -> None:
    values = np.zeros((16, 16))
    values[3, 12] = 1  # query 3 listens to key 12
    whole = np.zeros((16, 16))
    whole[0, 0] = whole[-1, -1] = 1
    left, top, right, bottom = hottest(drawn(whole))
    cell = (right - left + 1) / 16
    x0, y0, x1, y1 = hottest(drawn(values))
    assert (x0 + x1) / 2 == pytest.approx(left + 12.5 * cell, abs=2)
    assert (y0 + y1) / 2 == pytest.approx(top + 3.5 * cell, abs=2)
    assert right - left == bottom - top


@pytest.mark.parametrize(
    ("count", "side"), [(1, 56), (2, 112), (8, 448), (40, 520), (150, 1950), (300, 1800), (1280, 1280)]
)
def test_every_cell_has_its_own_pixels_and_up_to_157_their_names(count: int, side: int) -> None:
    pixels = drawn(np.ones((count, count)))
    left, top, right, bottom = hottest(pixels)
    assert abs(right - left - side) <= 1
    assert abs(bottom - top - side) <= 1


def test_some_rows_of_a_matrix_are_as_wide_as_all() -> None:
    left, top, right, bottom = hottest(drawn(np.ones((3, 16))))
    assert (right - left, bottom - top) == (16 * 32, 3 * 32)


def test_a_matrix_larger_than_its_size_is_averaged() -> None:
    random = np.random.default_rng(0).random((400, 400))
    pixels = drawn(random, side=100)
    assert pixels.shape[0] < 200
    blocks = random.reshape(100, 4, 100, 4).mean((1, 3))
    expected = table("viridis")[np.rint(blocks * 255).astype(int)]
    width = pixels.shape[1] - 14
    shown = pixels[-107:-7, width - 100 : width]
    np.testing.assert_allclose(shown.astype(int), expected.astype(int), atol=4)


def test_a_size_is_kept() -> None:
    left, _, right, _ = hottest(drawn(np.ones((10, 10)), side=1000))
    assert right - left in (999, 1000)


def test_tokens_are_labelled_by_their_text(source: TextItem) -> None:
    found = labels(source, len(source.tokens))
    assert found[:5] == ("[CLS]", "\\n", "fn", "main", "(")
    assert found[-1] == "[SEP]"
    assert "mas" in found  # the built-in font has no accents


def test_tokens_of_a_pair_are_labelled_by_their_own_text(words: Callable[..., TextItem]) -> None:
    item = words("red green", "blue")
    assert labels(item, 6) == ("[CLS]", "red", "green", "[SEP]", "blue", "[SEP]")


def test_frames_are_labelled_by_their_seconds(clip: VideoItem) -> None:
    assert labels(clip, 4) == ("0.10 s", "0.40 s", "0.60 s", "0.90 s")


def test_positions_that_are_no_frames_are_counted(clip: VideoItem) -> None:
    assert labels(clip, 2) == ("0", "1")


def test_long_labels_are_cut() -> None:
    assert drawn(np.ones((3, 3)), names=("x" * 500, "y", "z")).shape[1] < 400
