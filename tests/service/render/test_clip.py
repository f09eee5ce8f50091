from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from service.decode.item import VideoItem
from service.decode.view import View
from service.errors import InvalidInput
from service.render.clip import (
    MOST_PIXELS,
    Clip,
    contact_strip,
    durations,
    frames,
    mean_frame,
    still,
    timeline,
)
from service.render.colors import table
from service.render.encode import animation
from service.render.options import RenderOptions
from service.render.scale import scaled
from service.render.theme import DARK

OPAQUE = RenderOptions(alpha=1.0, colormap="viridis")


def of(
    item: VideoItem,
    values: np.ndarray,
    *,
    importance: np.ndarray | None = None,
    options: RenderOptions = OPAQUE,
) -> Clip:
    scale = scaled(values, None, default="minmax")
    return Clip(item=item, scaled=scale, importance=importance, title="rollout", options=options)


def levels(count: int = 4) -> np.ndarray:
    """Frame t is t / (count - 1) everywhere."""
    return np.broadcast_to(np.linspace(0, 1, count)[:, None, None], (count, 4, 4))


def test_frames_share_one_scale(clip: VideoItem) -> None:
    pictures, _ = frames(of(clip, levels()))
    seen = [picture.getpixel((200, 100)) for picture in pictures]
    assert seen == [tuple(table("viridis")[level]) for level in (0, 85, 170, 255)]


def test_an_animation_has_every_frame_and_its_time(clip: VideoItem) -> None:
    with Image.open(BytesIO(animation(*frames(of(clip, levels()))))) as opened:
        assert (opened.format, opened.n_frames, opened.info["loop"]) == ("WEBP", 4, 0)
        times = []
        for frame in range(4):
            opened.seek(frame)
            opened.load()
            times.append(opened.info["timestamp"] + opened.info["duration"])
    assert times == [300, 500, 800, 1100]


def test_an_animation_of_a_still_clip_keeps_all_its_frames(clip: VideoItem) -> None:
    frozen = replace(clip, original=np.zeros_like(clip.original))
    with Image.open(BytesIO(animation(*frames(of(frozen, np.zeros((4, 4, 4))))))) as opened:
        assert opened.n_frames == 4


@pytest.mark.parametrize(
    ("timestamps", "expected"),
    [
        ((0.0, 0.3, 0.5), [300, 200, 250]),
        ((0.0, 0.01, 0.02), [100, 100, 100]),
        ((0.0, 60.0, 120.0), [1000, 1000, 1000]),
        ((0.0, 0.0, 0.0), [400, 400, 400]),
        ((3.0,), [400]),
    ],
)
def test_frames_stay_as_long_as_in_the_clip_within_limits(
    timestamps: tuple[float, ...], expected: list[int]
) -> None:
    assert durations(timestamps) == expected


def bars(picture: Image.Image, colors: set[tuple[int, int, int]]) -> list[int]:
    """Heights of the bars of these colours in a timeline of four frames, above its line of text."""
    pixels = np.asarray(picture)[: picture.height - 18]
    mask = np.any([(pixels == color).all(-1) for color in colors], axis=0)
    width = picture.width // 4
    return [int(mask[:, i * width + width // 2].sum()) for i in range(4)]


def test_bars_are_as_high_as_frames_are_important(clip: VideoItem) -> None:
    picture = timeline(of(clip, levels(), importance=np.array([0.1, 0.2, 0.4, 0.3])), 400, 2)
    heights = bars(picture, {DARK.ink, DARK.line})
    np.testing.assert_allclose(np.array(heights) / heights[2], [0.25, 0.5, 1, 0.75], atol=0.03)


def test_only_the_bar_of_the_current_frame_is_bright(clip: VideoItem) -> None:
    picture = timeline(of(clip, levels(), importance=np.array([0.1, 0.2, 0.4, 0.3])), 400, 1)
    assert [height > 0 for height in bars(picture, {DARK.ink})] == [False, True, False, False]


def test_without_importance_all_bars_are_equal(clip: VideoItem) -> None:
    heights = bars(timeline(of(clip, levels()), 400, 0), {DARK.ink, DARK.line})
    assert len(set(heights)) == 1


@pytest.mark.parametrize("count", [1, 64, 500])
@pytest.mark.parametrize("width", [20, 64, 1280])
def test_any_number_of_frames_fits_under_any_width(clip: VideoItem, count: int, width: int) -> None:
    many = replace(
        clip,
        original=np.zeros((count, 2, 2, 3), np.uint8),
        indices=tuple(range(count)),
        timestamps=tuple(float(i) for i in range(count)),
    )
    made = of(many, np.zeros((count, 2, 2)), importance=np.ones(count))
    assert timeline(made, width, count - 1).width == max(width, 64)


def test_one_frame_is_the_overlay_of_that_frame(clip: VideoItem) -> None:
    plain = of(clip, levels(), options=RenderOptions(alpha=0.0))
    picture = np.asarray(still(plain, 2))
    assert picture.shape[1] == 400
    gray = np.asarray(Image.fromarray(clip.original[2]).convert("L").convert("RGB")).astype(float)
    expected = 0.5 * gray + 0.5 * clip.original[2]
    np.testing.assert_allclose(picture[20:180, 120:280], expected[20:180, 120:280], atol=1)


def test_a_contact_strip_shows_all_frames_on_one_scale(clip: VideoItem) -> None:
    pixels = np.asarray(contact_strip(of(clip, levels())))
    for level in (0, 85, 170, 255):
        assert (pixels == table("viridis")[level]).all(-1).sum() > 5000


def test_a_contact_strip_never_enlarges_small_frames() -> None:
    view = View(width=32, height=32, model_width=32, model_height=32, scale_x=1, scale_y=1, left=0, top=0)
    item = VideoItem(
        tensors={},
        original=np.zeros((4, 32, 32, 3), np.uint8),
        view=view,
        format="WEBP",
        indices=(0, 1, 2, 3),
        timestamps=(0.0, 0.1, 0.2, 0.3),
        total=4,
        duration=0.4,
    )
    pixels = np.asarray(contact_strip(of(item, levels())))
    assert (pixels == table("viridis")[85]).all(-1).sum() == 32 * 32


def test_many_frames_are_drawn_smaller_unless_a_size_is_asked_for(clip: VideoItem) -> None:
    count = 300
    many = replace(
        clip,
        original=np.zeros((count, 200, 400, 3), np.uint8),
        indices=tuple(range(count)),
        timestamps=tuple(i / 10 for i in range(count)),
    )
    made = of(many, np.zeros((count, 2, 2)))
    pictures = made.all_pictures(640)
    assert sum(picture.width * picture.height for picture in pictures) <= MOST_PIXELS
    assert pictures[0].width > 200
    with pytest.raises(InvalidInput) as caught:
        of(many, np.zeros((count, 2, 2)), options=RenderOptions(size=400)).all_pictures(640)
    assert (caught.value.field, caught.value.limit) == ("size", MOST_PIXELS)


def test_the_mean_of_frames_is_their_mean(clip: VideoItem) -> None:
    exact = clip.original.astype(np.float64).mean(0)
    np.testing.assert_allclose(mean_frame(clip.original), exact, atol=0.5)
