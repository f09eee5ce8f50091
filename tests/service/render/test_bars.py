from __future__ import annotations

import numpy as np
import pytest

from service.render.bars import bar_chart
from service.render.scale import Scaled, scaled
from service.render.theme import DARK


def drawn(scale: Scaled, *, width: int | None = None) -> np.ndarray:
    count = len(scale.values)
    picture = bar_chart(
        scale,
        labels=tuple(str(i) for i in range(count)),
        caption="channel",
        colormap="viridis",
        width=width,
        theme=DARK,
    )
    return np.asarray(picture)


def heights(pixels: np.ndarray) -> list[int]:
    """How many saturated pixels stand in each column that holds any: bars, not gray rules and letters."""
    spread = pixels.max(-1).astype(int) - pixels.min(-1)
    columns = (spread > 40).sum(0)
    return [int(height) for height in columns if height]


def test_bars_are_as_high_as_their_values() -> None:
    found = heights(drawn(scaled(np.array([0.1, 0.2, 0.4, 0.3]), None, default="peak")))
    quarter = len(found) // 4
    tall = np.array([found[quarter // 2 + i * quarter] for i in range(4)])
    np.testing.assert_allclose(tall / tall.max(), [0.25, 0.5, 1, 0.75], atol=0.03)


def test_gates_are_drawn_against_their_whole_range() -> None:
    half = scaled(np.full(8, 0.5), None, default="peak", fixed_range=(0, 1))
    full = scaled(np.full(8, 1.0), None, default="peak", fixed_range=(0, 1))
    assert max(heights(drawn(half))) == pytest.approx(max(heights(drawn(full))) / 2, abs=2)


@pytest.mark.parametrize("count", [1, 3, 64, 640, 1280])
def test_every_bar_has_its_own_pixels(count: int) -> None:
    found = heights(drawn(scaled(np.ones(count), None, default="peak")))
    assert len(found) >= count
    assert len(set(found)) == 1


def test_a_size_is_kept() -> None:
    pixels = drawn(scaled(np.ones(2000), None, default="peak"), width=300)
    assert len(heights(pixels)) == 300
