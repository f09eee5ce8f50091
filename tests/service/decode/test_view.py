from __future__ import annotations

import pytest
from PIL import Image

from service.bundle import ImageInput
from service.decode.limits import Limits
from service.decode.preprocess import Preprocessor
from service.decode.view import View


def view(width: int, height: int, *, resize_to: int | tuple[int, int] = 256, crop: int = 224) -> View:
    spec = ImageInput.model_validate(
        {
            "height": crop,
            "width": crop,
            "resize_to": resize_to,
            "mean": (0.0, 0.0, 0.0),
            "std": (1.0, 1.0, 1.0),
        }
    )
    return Preprocessor(spec=spec, limits=Limits(), field="image").view(width, height)


def test_a_landscape_picture_loses_its_sides() -> None:
    # 640x480 becomes 341x256 (341.33 cut), of which columns 58..282 and rows 16..240 are seen.
    seen = view(640, 480)
    assert (seen.scale_x, seen.scale_y) == (341 / 640, 256 / 480)
    assert (seen.left, seen.top) == (58, 16)
    assert seen.seen == pytest.approx((58 * 640 / 341, 30.0, 282 * 640 / 341, 450.0))


def test_a_portrait_picture_loses_its_ends() -> None:
    # 300x500 becomes 256x426.
    seen = view(300, 500)
    assert (seen.scale_x, seen.scale_y) == (256 / 300, 426 / 500)
    assert (seen.left, seen.top) == (16, 101)
    assert seen.seen == pytest.approx((18.75, 101 * 500 / 426, 281.25, 325 * 500 / 426))


def test_a_square_picture_without_crop_is_seen_whole() -> None:
    assert view(448, 448, resize_to=224).seen == (0, 0, 448, 448)


def test_a_squashed_picture_is_seen_whole() -> None:
    seen = view(1000, 250, resize_to=(224, 224))
    assert (seen.scale_x, seen.scale_y, seen.left, seen.top) == (0.224, 0.896, 0, 0)
    assert seen.seen == pytest.approx((0, 0, 1000, 250))


def test_padding_lies_outside_the_original() -> None:
    # 100x80 becomes 125x100 in a field of 224: 50 and 62 pixels of black to the left and above.
    seen = view(100, 80, resize_to=100)
    assert (seen.left, seen.top) == (-50, -62)
    assert seen.original(50, 62) == (0, 0)


def test_patches_tile_what_is_seen() -> None:
    seen = view(448, 448, resize_to=224)
    assert seen.patch(0, 0, rows=14, columns=14) == (0, 0, 32, 32)
    assert seen.patch(13, 2, rows=14, columns=14) == (64, 416, 96, 448)


def test_the_affine_takes_a_patch_to_its_cell() -> None:
    seen = view(640, 480)
    (xx, xy, x0), (yx, yy, y0) = seen.affine(rows=7, columns=7)
    left, top, right, bottom = seen.patch(2, 5, rows=7, columns=7)
    assert (xx * left + xy * top + x0, yx * left + yy * top + y0) == pytest.approx((5, 2))
    assert (xx * right + xy * bottom + x0, yx * right + yy * bottom + y0) == pytest.approx((6, 3))


def test_the_view_says_where_a_pixel_of_the_picture_goes() -> None:
    # A white block on black, found again where the view says it is.
    seen = view(640, 480)
    image = Image.new("RGB", (640, 480))
    image.paste((255, 255, 255), (300, 120, 400, 240))
    spec = ImageInput(height=224, width=224, resize_to=256, mean=(0.0,) * 3, std=(1.0,) * 3)
    pixels = Preprocessor(spec=spec, limits=Limits(), field="image").pixels(image, seen)[0]
    inside = pixels > 0.5
    columns, rows = inside.any(axis=0).nonzero()[0], inside.any(axis=1).nonzero()[0]
    assert seen.original(columns[0], rows[0]) == pytest.approx((300, 120), abs=1.5)
    assert seen.original(columns[-1] + 1, rows[-1] + 1) == pytest.approx((400, 240), abs=1.5)
