from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from service.render.colors import table
from service.render.legend import beneath, legend
from service.render.lettering import drawable, ends, font, measure, number, shorten, wrap
from service.render.scale import scaled
from service.render.theme import DARK, LIGHT, Theme


def strip(
    width: int,
    *,
    title: str = "rollout",
    smooth: bool = False,
    theme: Theme = DARK,
    low: float = 0.0,
    high: float = 0.42,
) -> Image.Image:
    scale = scaled(np.array([low, high]), "minmax", default="peak")
    return legend(width, scale, title=title, colormap="viridis", smooth=smooth, theme=theme)


@pytest.mark.parametrize("width", [64, 65, 100, 159, 160, 300, 479, 640, 1280, 4096])
@pytest.mark.parametrize("title", ["", "rollout", "space-time rollout, layer 11, label 'sitting down'"])
def test_a_legend_is_as_wide_as_its_picture_and_stays_low(width: int, title: str) -> None:
    picture = strip(width, title=title, smooth=True, low=-123456.0, high=0.000123)
    assert picture.width == width
    assert picture.height <= max(240 if title and width < 160 else 120, width // 10)


def test_a_picture_too_narrow_for_numbers_gets_a_wider_legend() -> None:
    assert strip(5).width == 64


@pytest.mark.parametrize("width", [64, 320, 1280])
def test_the_bar_runs_through_the_colormap_from_left_to_right(width: int) -> None:
    pixels = np.asarray(strip(width))
    rows = [row for row in pixels if len(np.unique(row, axis=0)) > 30]
    middle = rows[len(rows) // 2]
    first = np.flatnonzero((np.abs(middle.astype(int) - table("viridis")[0]) <= 8).all(-1))
    last = np.flatnonzero((np.abs(middle.astype(int) - table("viridis")[255]) <= 8).all(-1))
    assert len(first)
    assert len(last)
    assert first[0] < last[-1]
    assert last[-1] - first[0] >= 40


Box = tuple[float, float, float, float]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> dict[str, Box]:
    """Every line that a legend writes, and the box it takes."""
    lines: dict[str, Box] = {}

    def record(picture: Image.Image, at: tuple[float, float], text: str, **style: object) -> None:
        anchor, size = str(style.get("anchor", "lm")), int(str(style["size"]))
        lines[text] = font(size).getbbox(text, anchor=anchor)
        left, top, right, bottom = lines[text]
        lines[text] = (left + at[0], top + at[1], right + at[0], bottom + at[1])

    monkeypatch.setattr("service.render.legend.write", record)
    return lines


@pytest.mark.parametrize("width", [64, 80, 100, 130, 160, 200, 300, 400, 479, 480, 640, 1280, 4096])
@pytest.mark.parametrize("title", ["", "cls", "space-time rollout, layer 11, label 'sitting down'"])
@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize(("low", "high"), [(0.0, 0.42), (-1234.5, 0.000123), (0.51000012, 0.51000013)])
def test_at_every_width_the_numbers_stand_apart_and_smooth_is_marked(
    written: dict[str, Box], width: int, title: str, smooth: bool, low: float, high: float
) -> None:
    picture = strip(width, title=title, smooth=smooth, low=low, high=high)
    assert set(ends(low, high)) <= set(written)
    assert any("smooth" in text for text in written) == smooth
    assert set(title.split()) <= set(" ".join(written).split())  # nothing is cut
    boxes = [box for text, box in written.items() if text]
    for i, (left, top, right, bottom) in enumerate(boxes):
        assert 0 <= left <= right <= picture.width
        assert 0 <= top <= bottom <= picture.height
        for box in boxes[:i]:
            assert right <= box[0] or box[2] <= left or bottom <= box[1] or box[3] <= top


def test_nothing_is_drawn_over_the_edge() -> None:
    pixels = np.asarray(strip(64, title="a long title that does not fit", low=0.000123456, high=123456.0))
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert (edge == DARK.page).all()


def test_the_theme_colours_the_strip() -> None:
    assert strip(300, theme=LIGHT).getpixel((0, 0)) == LIGHT.page


def test_a_legend_leaves_every_pixel_of_the_picture_where_it_was() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    whole = beneath(Image.fromarray(pixels), strip(30), theme=DARK)
    assert whole.size == (64, 20 + strip(30).height)
    assert (np.asarray(whole)[:20, :30] == pixels).all()


def test_text_is_cut_to_its_width_with_an_ellipsis() -> None:
    cut = shorten("a very long title", 12, 60)
    assert cut.endswith("…")
    assert measure(cut, 12) <= 60
    assert shorten("short", 12, 200) == "short"
    assert shorten("wide", 12, 2) == ""


def test_text_is_wrapped_between_words_and_in_those_that_are_too_wide() -> None:
    text = "space-time rollout, incomprehensibilities of layer 11"
    lines = wrap(text, 12, 90, most=9)
    assert all(measure(line, 12) <= 90 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert "space-time" in lines
    assert [wrap("", 12, 90, most=3), wrap("a b", 12, 90, most=3)] == [[], ["a b"]]
    assert wrap(text, 12, 90, most=2) == [lines[0], shorten(" ".join(lines[1:]), 12, 90)]


def test_letters_the_font_does_not_have_become_dots() -> None:
    assert drawable("más: 你\n→") == "mas: ···"


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.0123456, "0.0123"), (1e-5, "1e-5"), (12345678, "1.23e7"), (0.5, "0.5")]
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (0, 1, ("0", "1")),
        (0.0000244, 0.02196, ("0", "0.022")),
        (0.51000, 0.51001, ("0.51", "0.51001")),  # told apart
        (-0.00001, 1, ("0", "1")),
        (0.25, 0.25, ("0.25", "0.25")),
        (0, 2e-7, ("0", "2e-7")),
        (0, 1234, ("0", "1234")),
    ],
)
def test_both_ends_of_a_range_can_be_told_apart(low: float, high: float, texts: tuple[str, str]) -> None:
    assert ends(low, high) == texts
