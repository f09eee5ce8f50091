from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from service.decode.view import View
from service.render.colors import table
from service.render.overlay import FRAME, UNSEEN, fit, overlay


def view_of(size: tuple[int, int], model: int, scale: tuple[float, float], crop: tuple[float, float]) -> View:
    return View(
        width=size[0],
        height=size[1],
        model_width=model,
        model_height=model,
        scale_x=scale[0],
        scale_y=scale[1],
        left=crop[0],
        top=crop[1],
    )


# One cell of a grid on views whose pixels can be reckoned by hand: (view, rows, columns, row, column), then
# left, top, right, bottom in pixels of the original.
HOT = {
    # 400x200 to 200x100, the middle 80x80: cells of 20 model pixels, 40 of the original, from (120, 20).
    "landscape": (
        view_of((400, 200), 80, (0.5, 0.5), (60, 10)),
        (4, 4),
        (1, 2),
        (200, 60, 240, 100),
    ),
    "portrait": (
        view_of((200, 400), 80, (0.5, 0.5), (10, 60)),
        (4, 4),
        (3, 0),
        (20, 240, 60, 280),
    ),
    # 300x150 to 60x60: cells of 12x20 model pixels, 60x50 of the original.
    "squashed": (
        view_of((300, 150), 60, (0.2, 0.4), (0, 0)),
        (3, 5),
        (2, 1),
        (60, 100, 120, 150),
    ),
    # 32x32 enlarged to 64x64 before it enters the model: cells of 16 model pixels, 8 of the original.
    "enlarged": (
        view_of((32, 32), 64, (2.0, 2.0), (0, 0)),
        (4, 4),
        (0, 3),
        (24, 0, 32, 8),
    ),
}


def drawn(
    view: View,
    values: np.ndarray,
    *,
    original: np.ndarray | None = None,
    alpha: float = 1.0,
    smooth: bool = False,
    size: tuple[int, int] | None = None,
    colormap: str = "viridis",
    query: int | None = None,
) -> np.ndarray:
    if original is None:
        original = np.full((view.height, view.width, 3), 128, np.uint8)
    picture = overlay(
        original,
        view,
        values.astype(np.float32),
        colormap=colormap,
        alpha=alpha,
        smooth=smooth,
        drawn=size or (view.width, view.height),
        query=query,
    )
    return np.asarray(picture)


def one_hot(grid: tuple[int, int], cell: tuple[int, int]) -> np.ndarray:
    values = np.zeros(grid)
    values[cell] = 1
    return values


def rectangle(mask: np.ndarray) -> tuple[int, int, int, int]:
    """The bounding box of a mask, which must fill it."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    assert mask.sum() == (box[2] - box[0]) * (box[3] - box[1])
    return tuple(int(edge) for edge in box)  # type: ignore[return-value]


@pytest.mark.parametrize("case", HOT)
def test_a_hot_cell_lies_exactly_where_the_model_saw_it(case: str) -> None:
    view, grid, cell, expected = HOT[case]
    picture = drawn(view, one_hot(grid, cell))
    assert rectangle((picture == table("viridis")[255]).all(-1)) == expected


@pytest.mark.parametrize("seed", range(20))
def test_a_hot_cell_is_within_one_pixel_of_its_patch_for_any_view(seed: int) -> None:
    random = np.random.default_rng(seed)
    width, height = (int(side) for side in random.integers(100, 400, 2))
    model = int(random.integers(48, 240))
    scale = (model + int(random.integers(0, 40))) / min(width, height)
    view = View(
        width=width,
        height=height,
        model_width=model,
        model_height=model,
        scale_x=scale,
        scale_y=scale,
        left=(width * scale - model) / 2,
        top=(height * scale - model) / 2,
    )
    rows, columns = (int(count) for count in random.integers(3, 15, 2))
    row, column = int(random.integers(rows)), int(random.integers(columns))
    picture = drawn(view, one_hot((rows, columns), (row, column)))
    found = rectangle((picture == table("viridis")[255]).all(-1))
    np.testing.assert_allclose(found, view.patch(row, column, rows=rows, columns=columns), atol=1)


def test_a_pixel_is_a_share_of_the_original_and_a_share_of_the_colour() -> None:
    view, *_ = HOT["squashed"]
    picture = drawn(view, np.ones((3, 5)), original=np.full((150, 300, 3), 100, np.uint8), alpha=0.3)
    expected = 0.7 * 100 + 0.3 * table("viridis")[255].astype(float)
    np.testing.assert_allclose(picture, np.broadcast_to(expected, picture.shape), atol=1)


def test_light_and_dark_of_the_original_stay_apart_under_the_map() -> None:
    view, *_ = HOT["squashed"]
    original = np.zeros((150, 300, 3), np.uint8)
    original[:, ::2] = 255
    picture = drawn(view, np.full((3, 5), 0.5), original=original, alpha=0.5).astype(int)
    assert (picture[:, ::2] - picture[:, 1::2] > 100).all()


def test_what_the_model_never_saw_is_gray_dark_and_framed() -> None:
    view, *_ = HOT["landscape"]  # seen: x 120 to 280, y 20 to 180
    original = np.full((200, 400, 3), (200, 100, 50), np.uint8)
    picture = drawn(view, np.ones((4, 4)), original=original, alpha=0.5)
    luma = 0.299 * 200 + 0.587 * 100 + 0.114 * 50
    unseen = np.ones((200, 400), bool)
    unseen[19:181, 119:281] = False
    np.testing.assert_allclose(picture[unseen], luma * UNSEEN, atol=1)
    frame = np.zeros((200, 400), bool)
    frame[19:181, 119:281] = True
    frame[20:180, 120:280] = False
    assert (picture[frame] == FRAME).all()
    seen = picture[20:180, 120:280]
    assert (seen == seen[0, 0]).all()


def test_where_everything_was_seen_there_is_no_frame() -> None:
    view, *_ = HOT["squashed"]
    picture = drawn(view, np.ones((3, 5)))
    assert (picture == table("viridis")[255]).all()


def test_smooth_is_bilinear_between_the_centres_of_cells() -> None:
    view, *_ = HOT["squashed"]
    values = np.random.default_rng(3).random((3, 5))
    picture = drawn(view, values, smooth=True, colormap="gray")[..., 0] / 255
    across = (np.arange(300) + 0.5) / 60 - 0.5
    down = (np.arange(150) + 0.5) / 50 - 0.5
    rows = np.stack([np.interp(across, np.arange(5), row) for row in values])
    expected = np.stack([np.interp(down, np.arange(3), column) for column in rows.T], axis=1)
    np.testing.assert_allclose(picture, expected, atol=1 / 255)


def test_nearest_shows_nothing_but_what_the_model_has() -> None:
    view, *_ = HOT["squashed"]
    values = np.random.default_rng(3).random((3, 5))
    picture = drawn(view, values, colormap="gray")[..., 0]
    assert set(np.unique(picture)) == set(np.rint(values.astype(np.float32) * 255).astype(int).ravel())


def test_drawn_smaller_the_hot_cell_moves_with_the_picture() -> None:
    view, grid, cell, expected = HOT["landscape"]
    picture = drawn(view, one_hot(grid, cell), size=(200, 100))
    assert picture.shape == (100, 200, 3)
    assert rectangle((picture == table("viridis")[255]).all(-1)) == tuple(edge // 2 for edge in expected)


def test_drawn_larger_every_pixel_of_the_original_becomes_a_square() -> None:
    view, grid, cell, expected = HOT["enlarged"]
    original = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    picture = drawn(view, np.zeros(grid), original=original, size=(96, 96), alpha=0.5)
    squares = picture.reshape(32, 3, 32, 3, 3)
    assert (squares == squares[:, :1, :, :1]).all()
    hot = drawn(view, one_hot(grid, cell), size=(96, 96))
    assert rectangle((hot == table("viridis")[255]).all(-1)) == tuple(3 * edge for edge in expected)


@pytest.mark.parametrize(
    ("original", "size", "expected"),
    [
        ((400, 200), None, (400, 200)),
        ((1280, 720), None, (1280, 720)),
        ((2560, 1440), None, (1280, 720)),
        ((2560, 1440), "original", (2560, 1440)),
        ((16384, 8192), "original", (8192, 4096)),
        ((400, 200), 100, (100, 50)),
        ((200, 400), 100, (50, 100)),
        ((64, 48), 512, (512, 384)),
        ((60, 50), 512, (480, 400)),  # whole factors only
        ((400, 200), 500, (400, 200)),
        ((3000, 1), 64, (64, 1)),
    ],
)
def test_size(original: tuple[int, int], size: int | str | None, expected: tuple[int, int]) -> None:
    assert fit(*original, size) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("name", HOT)
def test_the_query_is_outlined_and_not_covered(name: str) -> None:
    view, grid, (row, column), (left, top, right, bottom) = HOT[name]
    values = np.zeros(grid)
    plain, outlined = drawn(view, values), drawn(view, values, query=row * grid[1] + column)
    changed = (plain != outlined).any(-1)
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    assert (columns[0], rows[0]) == (max(left - 1, 0), max(top - 1, 0))
    assert (columns[-1], rows[-1]) == (min(right, view.width - 1), min(bottom, view.height - 1))
    assert not changed[top + 2 : bottom - 2, left + 2 : right - 2].any()


def test_a_picture_decoded_smaller_is_drawn_like_the_whole() -> None:
    view = view_of((400, 200), 80, (0.5, 0.5), (60, 10))
    smooth = Image.fromarray(np.random.default_rng(3).integers(0, 256, (5, 10, 3), np.uint8))
    whole = np.asarray(smooth.resize((400, 200), Image.Resampling.BICUBIC))
    half = np.asarray(Image.fromarray(whole).reduce(2))
    values = np.random.default_rng(4).random((4, 4))
    pictures = (drawn(view, values, original=each, alpha=0.5, size=(150, 75)) for each in (whole, half))
    one, other = (picture.astype(int) for picture in pictures)
    assert np.abs(one - other).mean() < 2
    opaque = (drawn(view, values, original=each, size=(150, 75))[8:66, 46:104] for each in (whole, half))
    np.testing.assert_array_equal(*opaque)
