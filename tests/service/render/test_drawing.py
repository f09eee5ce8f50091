from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from service.bundle import Kind
from service.decode.item import ImageItem, Item, TextItem, VideoItem
from service.errors import InvalidInput, UnknownOption
from service.render import FORMATS, RenderOptions, render
from service.render.colors import table

random = np.random.default_rng(5)


@pytest.fixture
def subjects(landscape: ImageItem, clip: VideoItem, source: TextItem) -> dict[str, tuple[np.ndarray, Item]]:
    count = len(source.tokens)
    return {
        "tokens": (random.dirichlet(np.ones(count)), source),
        "token_matrix": (random.dirichlet(np.ones(count), count), source),
        "grid": (random.random((4, 4)), landscape),
        "grid_matrix": (random.random((17, 4, 4)), landscape),
        "channels": (random.random(64), landscape),
        "frames": (random.dirichlet(np.ones(4)), clip),
        "frame_matrix": (random.dirichlet(np.ones(4), 4), clip),
        "frame_grid": (random.random((4, 4, 4)), clip),
    }


DRAWN = [(kind, form) for kind in FORMATS for form in FORMATS[kind] if form not in ("json", "npy")]


def test_every_kind_of_map_has_formats() -> None:
    assert set(FORMATS) == set(get_args(Kind))
    assert all({"json", "npy"} <= set(formats) for formats in FORMATS.values())


@pytest.mark.parametrize(("kind", "form"), DRAWN)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_map_can_be_drawn_in_all_its_formats(
    subjects: dict[str, tuple[np.ndarray, Item]], kind: Kind, form: str, dtype: type
) -> None:
    values, item = subjects[kind]
    drawing = render(kind, values.astype(dtype), item, form, RenderOptions(), title="a map")
    if form in ("html", "svg"):
        assert drawing.media_type == {"html": "text/html; charset=utf-8", "svg": "image/svg+xml"}[form]
        assert "a map" in drawing.body.decode()
        return
    assert drawing.media_type == f"image/{form}"
    with Image.open(BytesIO(drawing.body)) as opened:
        opened.load()
        assert opened.format == form.upper()
        assert getattr(opened, "n_frames", 1) == (4 if (kind, form) == ("frame_grid", "webp") else 1)


@pytest.mark.parametrize(("kind", "form"), DRAWN)
def test_drawing_twice_gives_the_same_bytes(
    subjects: dict[str, tuple[np.ndarray, Item]], kind: Kind, form: str
) -> None:
    values, item = subjects[kind]
    options = RenderOptions(smooth=True, colormap="turbo")
    one, other = (render(kind, values, item, form, options) for _ in range(2))
    assert one == other


@pytest.mark.parametrize("kind", FORMATS)
def test_an_unknown_format_names_those_of_the_map(
    subjects: dict[str, tuple[np.ndarray, Item]], kind: Kind
) -> None:
    values, item = subjects[kind]
    with pytest.raises(UnknownOption) as caught:
        render(kind, values, item, "pdf", RenderOptions())
    assert caught.value.field == "format"
    assert all(form in caught.value.detail for form in FORMATS[kind])


def test_a_grid_keeps_the_originals_pixels_and_its_legend_lies_below(landscape: ImageItem) -> None:
    options = RenderOptions(alpha=1.0, colormap="viridis")
    values = np.zeros((4, 4))
    values[1, 2] = 1
    short = decoded(render("grid", values, landscape, "png", options, title="x").body)
    assert short.shape[1] == 400
    assert short.shape[0] > 200
    hot = (short[:200] == table("viridis")[255]).all(-1)
    assert hot[60:100, 200:240].all()
    assert hot.sum() == 40 * 40
    long = decoded(render("grid", values, landscape, "png", options, title="a long title " * 9).body)
    assert (short[:200] == long[:200]).all()


def test_small_webp_pictures_are_exact(landscape: ImageItem) -> None:
    values = random.random((4, 4))
    options = RenderOptions(size=200)
    png, webp = (decoded(render("grid", values, landscape, form, options).body) for form in ("png", "webp"))
    assert (png == webp).all()


def test_a_grid_of_a_clip_is_drawn_on_the_mean_of_its_frames(clip: VideoItem) -> None:
    picture = decoded(render("grid", np.ones((4, 4)), clip, "png", RenderOptions(alpha=0.0)).body)
    mean = np.rint(clip.original.mean(0)).astype(np.uint8)
    gray = np.asarray(Image.fromarray(mean).convert("L").convert("RGB"))
    expected = 0.5 * gray + 0.5 * mean
    np.testing.assert_allclose(picture[20:180, 120:280], expected[20:180, 120:280], atol=2)


def test_one_frame_is_drawn_where_one_is_asked_for(clip: VideoItem) -> None:
    options = RenderOptions(frame=3)
    for form in ("png", "webp"):
        body = render("frame_grid", random.random((4, 4, 4)), clip, form, options).body
        with Image.open(BytesIO(body)) as opened:
            assert (opened.width, getattr(opened, "n_frames", 1)) == (400, 1)


def test_a_grid_of_one_frame_is_drawn_on_that_frame(clip: VideoItem) -> None:
    bodies = {
        frame: render("grid", np.ones((4, 4)), clip, "png", RenderOptions(frame=frame, alpha=0.0)).body
        for frame in (None, 0, 3)
    }
    gray = np.asarray(Image.fromarray(clip.original[3]).convert("L").convert("RGB"))
    expected = 0.5 * gray + 0.5 * clip.original[3]
    np.testing.assert_allclose(decoded(bodies[3])[20:180, 120:280], expected[20:180, 120:280], atol=1)
    assert len(set(bodies.values())) == 3


def test_maps_with_two_sides_are_blue_and_red_and_others_grow_lighter(landscape: ImageItem) -> None:
    options = RenderOptions(alpha=1.0)
    for values, scale, colors in (
        ([[-1.0, 1.0]], None, "vik"),
        ([[0.5, 1.0]], "uniform", "vik"),
        ([[0.5, 1.0]], None, "inferno"),
    ):
        used = replace(options, scale=scale)
        chosen, named = (
            render("grid", np.array(values), landscape, "png", one).body
            for one in (used, replace(used, colormap=colors))
        )
        assert chosen == named
    signed = decoded(render("grid", np.array([[-1.0, 1.0]]), landscape, "png", options).body)
    blue, red = signed[100, 130].astype(int), signed[100, 270].astype(int)
    assert blue[2] > 2 * blue[0]
    assert red[0] > 2 * red[2]


def test_gates_are_not_stretched(landscape: ImageItem) -> None:
    options = RenderOptions(alpha=1.0, colormap="gray")
    values = np.array([[0.4, 0.6]])
    picture = decoded(render("grid", values, landscape, "png", options, fixed_range=(0, 1)).body)
    assert picture[100, 130].tolist() == [102] * 3
    assert picture[100, 270].tolist() == [153] * 3


@pytest.mark.parametrize(
    ("kind", "shape", "default"),
    [("frame_grid", (4, 4, 4), "minmax"), ("frame_matrix", (4, 4), "peak"), ("frames", (4,), "peak")],
)
def test_maps_on_pictures_are_stretched_and_others_begin_at_zero(
    clip: VideoItem, kind: Kind, shape: tuple[int, ...], default: str
) -> None:
    values = 0.2 + random.random(shape)
    bodies = {
        scale: render(kind, values, clip, "png", RenderOptions(scale=scale)).body
        for scale in (None, "minmax", "peak")
    }
    assert bodies["minmax"] != bodies["peak"]
    assert bodies[None] == bodies[default]


def test_importance_shows_in_a_clip(clip: VideoItem) -> None:
    values = random.random((4, 4, 4))
    importance = np.array([0.1, 0.2, 0.3, 0.4])
    without, weighed = (
        render("frame_grid", values, clip, "webp", RenderOptions(), importance=each).body
        for each in (None, importance)
    )
    assert without != weighed


def test_a_frame_the_clip_does_not_have_names_the_limit(clip: VideoItem) -> None:
    with pytest.raises(UnknownOption) as caught:
        render("frame_grid", np.zeros((4, 4, 4)), clip, "png", RenderOptions(frame=4))
    assert (caught.value.field, caught.value.limit) == ("frame", "0 to 3")


def test_a_frame_of_a_map_without_frames_is_refused(landscape: ImageItem) -> None:
    with pytest.raises(UnknownOption) as caught:
        render("grid", np.zeros((4, 4)), landscape, "png", RenderOptions(frame=0))
    assert caught.value.field == "frame"


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("grid", (4,)),
        ("frame_grid", (4, 4)),
        ("frame_grid", (3, 4, 4)),
        ("frame_matrix", (4, 3)),
        ("grid", (0, 4)),
    ],
)
def test_numbers_that_do_not_fit_are_an_error(clip: VideoItem, kind: Kind, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"shape|cannot be drawn"):
        render(kind, np.zeros(shape), clip, "png", RenderOptions())


def test_a_map_cannot_be_drawn_on_another_kind_of_input(landscape: ImageItem, source: TextItem) -> None:
    with pytest.raises(ValueError, match="ImageItem"):
        render("tokens", np.ones(3), landscape, "html", RenderOptions())
    with pytest.raises(ValueError, match="TextItem"):
        render("grid", np.ones((2, 2)), source, "png", RenderOptions())


def test_lone_surrogates_do_not_stop_a_page(source: TextItem) -> None:
    values = np.ones(len(source.tokens))
    body = render("tokens", values, source, "html", RenderOptions(), title="\ud800").body
    assert "<title>?</title>" in body.decode()


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("alpha", -0.1),
        ("alpha", 1.5),
        ("alpha", float("nan")),
        ("colormap", "rainbow"),
        ("scale", "log"),
        ("size", 63),
        ("size", 4097),
        ("size", "huge"),
        ("frame", -1),
        ("theme", "blue"),
    ],
)
def test_a_wrong_option_names_its_field(field: str, wrong: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        RenderOptions(**{field: wrong})  # type: ignore[arg-type]
    assert caught.value.field == field


@pytest.mark.parametrize("size", [64, 4096, "original", None])
def test_sizes_within_the_limits_are_taken(size: int | str | None) -> None:
    assert RenderOptions(size=size).size == size  # type: ignore[arg-type]


def test_threads_draw_what_one_thread_draws(subjects: dict[str, tuple[np.ndarray, Item]]) -> None:
    jobs = [(kind, *subjects[kind], form) for kind, form in DRAWN] * 2

    def draw(job: tuple[Kind, np.ndarray, Item, str]) -> bytes:
        kind, values, item, form = job
        return render(kind, values, item, form, RenderOptions(), title="a map").body

    alone = [draw(job) for job in jobs]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(draw, jobs)) == alone


def decoded(body: bytes) -> np.ndarray:
    with Image.open(BytesIO(body)) as opened:
        return np.asarray(opened.convert("RGB"))
