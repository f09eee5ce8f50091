from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from service.render.encode import png, webp


@pytest.mark.parametrize("size", [(1, 1), (64, 3), (97, 61), (333, 517), (1280, 959)])
def test_a_png_holds_every_pixel_and_nothing_else(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    with Image.open(BytesIO(png(Image.fromarray(pixels)))) as opened:
        opened.load()
        assert (opened.format, opened.mode, opened.size) == ("PNG", "RGB", size)
        np.testing.assert_array_equal(np.asarray(opened), pixels)


def test_a_png_of_flat_colours_is_small() -> None:
    assert len(png(Image.new("RGB", (1280, 960), "navy"))) < 30_000


@pytest.mark.parametrize(("size", "exact"), [((256, 256), True), ((257, 256), False)])
def test_small_webp_pictures_are_lossless(size: tuple[int, int], exact: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    with Image.open(BytesIO(webp(Image.fromarray(pixels)))) as opened:
        assert (np.asarray(opened.convert("RGB")) == pixels).all() == exact
