"""Layers and heads on one sheet: which tile is where, one scale, and bounds."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from service.decode.item import ImageItem, Item, TextItem, VideoItem
from service.errors import InvalidInput, UnknownOption
from service.render import RenderOptions, render
from service.render.colors import table

OPAQUE = RenderOptions(alpha=1.0, colormap="viridis", scale="absolute")
LAYERS = ("layers.0", "layers.1", "layers.2")
HEADS = ("head 0", "head 1")


def drawn(
    kind: str,
    values: np.ndarray,
    item: Item,
    *,
    layers: tuple[str, ...] | None = LAYERS,
    heads: tuple[str, ...] | None = HEADS,
    options: RenderOptions = OPAQUE,
    form: str = "png",
) -> np.ndarray:
    body = render(kind, values, item, form, options, layers=layers, heads=heads).body  # type: ignore[arg-type]
    with Image.open(BytesIO(body)) as opened:
        return np.asarray(opened.convert("RGB"))


def middle(pixels: np.ndarray, level: int) -> tuple[float, float, int]:
    """The middle, row and column, of what has the colour of a level above the legend, and its pixels."""
    mask = (pixels[: pixels.shape[0] - 40] == table("viridis")[level]).all(-1)
    rows, columns = np.nonzero(mask)
    return float(rows.mean()), float(columns.mean()), len(rows)


def marked(shape: tuple[int, ...], *places: tuple[int, ...]) -> np.ndarray:
    """0 but at these places, where it is 1."""
    values = np.zeros(shape)
    for place in places:
        values[place] = 1
    return values


def test_rows_are_layers_and_columns_heads(landscape: ImageItem) -> None:
    found = {}
    for layer in range(3):
        for head in range(2):
            pixels = drawn("grid", marked((3, 2, 4, 4), (layer, head, 1, 2)), landscape)
            found[layer, head] = middle(pixels, 255)
    areas = {area for *_, area in found.values()}
    assert len(areas) == 1
    down = [found[layer, 0][0] for layer in range(3)]
    across = [found[0, head][1] for head in range(2)]
    assert down[1] - down[0] == down[2] - down[1] > 40
    assert across[1] - across[0] > 80
    assert all(found[layer, head][:2] == (down[layer], across[head]) for layer, head in found)


def test_all_tiles_are_on_one_scale(landscape: ImageItem) -> None:
    values = np.stack([np.full((4, 4), share) for share in (0.0, 1 / 3, 2 / 3, 1.0)]).reshape(2, 2, 4, 4)
    options = RenderOptions(alpha=1.0, colormap="viridis")  # minmax, over all of them
    pixels = drawn("grid", values, landscape, layers=LAYERS[:2], options=options)
    places = [middle(pixels, level) for level in (0, 85, 170, 255)]
    assert len({area for *_, area in places}) == 1
    assert places[0][0] == places[1][0] < places[2][0] == places[3][0]
    assert places[0][1] == places[2][1] < places[1][1] == places[3][1]


def test_a_tile_is_the_overlay_of_its_map_alone(landscape: ImageItem) -> None:
    values = np.random.default_rng(1).random((3, 2, 4, 4))
    options = RenderOptions(alpha=0.5, scale="absolute", size=100)
    sheet = drawn("grid", values, landscape, options=options)
    alone = render("grid", values[2, 1], landscape, "png", options).body
    with Image.open(BytesIO(alone)) as opened:
        tile = np.asarray(opened.convert("RGB"))[:50]
    right = sheet.shape[1] - 14 - 2  # the margin and half the gap
    strip = sheet[:, right - 100 : right].astype(int)
    distances = [np.abs(strip[y : y + 50] - tile).mean() for y in range(len(strip) - 50)]
    assert min(distances) < 3  # shrunk by another filter
    assert np.argmin(distances) > sheet.shape[0] / 2


def test_heads_alone_stand_side_by_side_and_layers_alone_below_each_other(landscape: ImageItem) -> None:
    wide = drawn("grid", np.zeros((2, 4, 4)), landscape, layers=None)
    high = drawn("grid", np.zeros((3, 4, 4)), landscape, heads=None)
    assert wide.shape[1] > wide.shape[0]
    assert high.shape[0] > high.shape[1]


def test_of_a_clip_each_head_is_a_row_of_frames(clip: VideoItem) -> None:
    found = {
        (layer, head, frame): middle(
            drawn("frame_grid", marked((3, 2, 4, 4, 4), (layer, head, frame, 1, 2)), clip), 255
        )
        for layer, head, frame in ((0, 0, 0), (0, 0, 3), (0, 1, 0), (2, 1, 3))
    }
    (y, x, area), (same, right, _), (below, left, _), last = found.values()
    assert (same, left) == (y, x)
    assert right > x
    assert last[0] - y == pytest.approx(5 * (below - y))
    assert last[1:] == (right, area)


def test_one_frame_of_a_clip_is_a_sheet_of_that_frame(clip: VideoItem) -> None:
    values = np.random.default_rng(1).random((3, 2, 4, 4, 4))
    options = RenderOptions(frame=2, scale="absolute")
    one = drawn("frame_grid", values, clip, options=options)
    assert (one == drawn("grid", values[:, :, 2], clip, options=options)).all()


def test_a_matrix_keeps_its_rows_and_columns_in_its_tile(clip: VideoItem) -> None:
    corners = drawn("frame_matrix", marked((3, 2, 4, 4), (1, 1, 0, 0), (1, 1, 3, 3)), clip)
    top, left, _ = middle(drawn("frame_matrix", marked((3, 2, 4, 4), (1, 1, 0, 3)), clip), 255)
    y, x, _ = middle(corners, 255)
    assert left > x  # the key of the upper right cell is the last
    assert top < y


def test_of_a_text_each_head_is_a_row_of_tokens(source: TextItem) -> None:
    count = len(source.tokens)
    places = [(0, 0, 1), (0, 0, count - 2), (0, 1, 1), (2, 1, 1)]
    found = [middle(drawn("tokens", marked((3, 2, count), place), source), 255) for place in places]
    (y, x, area), (same, right, _), (below, left, _), (last, _, _) = found
    assert (same, left, area) == (y, x, 16 * (right - x) / (count - 3))
    assert (below - y, last - y) == (16, pytest.approx(5 * 16, abs=1))  # a rule between layers


def test_a_text_without_layers_and_heads_is_one_row(source: TextItem) -> None:
    values = marked((len(source.tokens),), (5,))
    assert middle(drawn("tokens", values, source, layers=None, heads=None), 255)[2] >= 16 * 13


def test_special_tokens_do_not_pale_the_others(source: TextItem) -> None:
    values = np.full((2, len(source.tokens)), 0.001)
    values[:, 0] = 0.9
    values[1, 5] = 0.002
    options = RenderOptions(colormap="viridis", scale="minmax")
    assert middle(drawn("tokens", values, source, layers=None, options=options), 255)[2] == 3 * 16 * 24


def test_4096_tokens_are_averaged_to_a_strip_that_can_be_drawn(source: TextItem) -> None:
    many = TextItem(
        tensors={},
        texts=("x" * 4096,),
        tokens=("x",) * 4096,
        offsets=tuple((i, i + 1) for i in range(4096)),
        segments=(0,) * 4096,
        special=(False,) * 4096,
        dropped=(0,),
    )
    assert drawn("tokens", np.zeros((3, 2, 4096)), many).shape[1] < 2300


@pytest.mark.parametrize(("layers", "heads"), [(40, 20), (100, 1), (1, 50)])
def test_a_sheet_that_would_be_too_large_names_size_and_limit(
    landscape: ImageItem, layers: int, heads: int
) -> None:
    names = tuple(map(str, range(max(layers, heads))))
    values, options = np.zeros((layers, heads, 4, 4)), RenderOptions(size=400)
    with pytest.raises(InvalidInput, match="fewer layers") as caught:
        drawn("grid", values, landscape, layers=names[:layers], heads=names[:heads], options=options)
    assert (caught.value.field, caught.value.limit) == ("size", 16 * 1024**2)


def test_there_are_no_sheets_of_bars_or_as_pages(landscape: ImageItem, source: TextItem) -> None:
    with pytest.raises(UnknownOption, match="json, npy"):
        drawn("channels", np.zeros((3, 2, 8)), landscape)
    with pytest.raises(UnknownOption, match="png, webp"):
        drawn("tokens", np.zeros((3, 2, len(source.tokens))), source, form="svg")


@pytest.mark.parametrize(
    ("kind", "shape"), [("grid", (2, 3, 4, 4)), ("tokens", (3, 2, 5)), ("frame_grid", (3, 2, 9, 4, 4))]
)
def test_numbers_that_do_not_fit_are_an_error(clip: VideoItem, kind: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"shape|cannot be drawn|argument"):
        drawn(kind, np.zeros(shape), clip)
