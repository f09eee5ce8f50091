from __future__ import annotations

import numpy as np
import pytest

from service.errors import UnknownOption
from service.render.colors import COLORMAPS, ORDERED, color, contrast, ink, luminance, ramp, table
from service.render.theme import DARK, LIGHT, Theme


def relative_luminance(rgb: np.ndarray) -> np.ndarray:
    """WCAG 2.2, definition of relative luminance, over the last axis."""
    share = np.asarray(rgb, np.float64) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize("name", COLORMAPS)
def test_every_colormap_has_256_colours_that_cannot_be_changed(name: str) -> None:
    assert table(name).shape == (256, 3)
    assert table(name).dtype == np.uint8
    with pytest.raises(ValueError, match="read-only"):
        table(name)[0] = 0


def test_viridis_is_viridis() -> None:
    # First, middle and last row of matplotlib's table, times 255.
    assert table("viridis")[[0, 128, 255]].tolist() == [[68, 1, 84], [33, 145, 140], [253, 231, 37]]


@pytest.mark.parametrize("name", ORDERED)
def test_ordered_colormaps_grow_lighter(name: str) -> None:
    # Rounding to 256 steps may cost a step of one channel.
    assert (np.diff(relative_luminance(table(name))) > -0.004).all()


def test_an_unknown_colormap_names_the_field_and_the_choices() -> None:
    with pytest.raises(UnknownOption, match="viridis") as caught:
        table("rainbow")
    assert caught.value.field == "colormap"


def test_luminance_and_contrast_are_those_of_wcag() -> None:
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast((119, 119, 119), (255, 255, 255)) == pytest.approx(4.48, abs=0.005)
    for rgb in [(12, 200, 34), (255, 0, 1), (3, 4, 5)]:
        assert luminance(rgb) == pytest.approx(float(relative_luminance(np.array(rgb))))


@pytest.mark.parametrize("theme", [LIGHT, DARK])
@pytest.mark.parametrize("name", COLORMAPS)
def test_text_can_be_read_on_every_level_of_every_colormap(name: str, theme: Theme) -> None:
    for row in ramp(name, theme.page):
        text = np.array(ink(color(row), prefer=theme.ink))
        low, high = sorted([relative_luminance(row), relative_luminance(text)])
        assert (high + 0.05) / (low + 0.05) >= 4.5


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_lesser_text_can_be_read_on_the_page(theme: Theme) -> None:
    assert contrast(theme.faint, theme.page) >= 4.5
    assert contrast(theme.ink, theme.page) >= 7


@pytest.mark.parametrize("theme", [LIGHT, DARK])
@pytest.mark.parametrize("name", ORDERED)
def test_a_ramp_starts_at_the_page_and_moves_away_from_it(name: str, theme: Theme) -> None:
    colors = ramp(name, theme.page)
    assert color(colors[0]) == theme.page
    away = np.abs(relative_luminance(colors) - luminance(theme.page))
    assert away[255] > 0.5
    assert (np.diff(away[::16]) > 0).all()
