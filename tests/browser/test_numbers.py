"""What the page computes and draws is what the service computes and draws."""

from __future__ import annotations

import base64
import json
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from service.render.colors import COLORMAPS, table
from service.render.scale import SCALES, scaled
from service.render.text import pair
from service.render.theme import DARK, LIGHT
from tests.browser.chromium import settle, show

EXAMPLES = Path(__file__).parents[2] / "examples"
TRUTH = {one["file"]: one for one in json.loads((EXAMPLES / "truth.json").read_text())}


@pytest.mark.parametrize("shape", [(5,), (2, 3), (4, 1, 2, 3), (0,)])
def test_numbers_are_read_as_numpy_wrote_them(modules: Page, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    read = modules.evaluate(
        """async (data) => {
            const {parseNpy} = await import("/ui/npy.js");
            const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
            const {shape, data: numbers} = parseNpy(bytes.buffer);
            return {shape, data: [...numbers]};
        }""",
        npy(values),
    )
    assert (read["shape"], read["data"]) == (list(shape), values.ravel().tolist())


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros(3, np.float64),
        np.asfortranarray(np.zeros((2, 3), np.float32)),
        np.zeros(3, ">f4"),
    ],
)
def test_numbers_of_another_kind_are_refused(modules: Page, bad: np.ndarray) -> None:
    read = """async (data) => {
        const {parseNpy} = await import("/ui/npy.js");
        const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
        try { parseNpy(bytes.buffer); } catch (error) { return error.message; }
    }"""
    assert "another kind" in modules.evaluate(read, npy(bad))
    cut = base64.b64encode(base64.b64decode(npy(np.zeros(3, np.float32)))[:-2]).decode()
    assert "cut off" in modules.evaluate(read, cut)
    assert "no numbers" in modules.evaluate(read, base64.b64encode(b"nothing of the kind").decode())


def npy(values: np.ndarray) -> str:
    buffer = BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.parametrize("name", ["", *SCALES])
@pytest.mark.parametrize("fixed", [None, (0.0, 1.0)])
@pytest.mark.parametrize("usual", ["peak", "minmax", "above"])
def test_scales_are_those_of_the_drawings(
    modules: Page, name: str, fixed: tuple[float, float] | None, usual: str
) -> None:
    generator = np.random.default_rng(1)
    cases = [
        generator.random(40),
        generator.random(40) ** 8,
        generator.normal(size=40),
        np.full(5, 0.25),
        np.zeros(5),
        -generator.random(9),
    ]
    for values in cases:
        relative = name in ("uniform", "above") or (not name and fixed is None and usual == "above")
        if relative and values.min() < 0:
            continue  # the drawing refuses; the page falls back to peak
        expected = scaled(values, name or None, default=usual, fixed_range=fixed)
        found = modules.evaluate(
            """async ([values, name, usual, fixed]) => {
                const {scaled} = await import("/ui/scale.js");
                const scale = scaled([values], name, usual, fixed);
                return {...scale, levels: values.map(scale.level)};
            }""",
            [values.tolist(), name, usual, fixed],
        )
        assert (found["name"], found["neutral"]) == (expected.name, expected.neutral)
        assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high), abs=1e-12)
        assert found["levels"] == pytest.approx((expected.values * 255).tolist(), abs=0.51)


def test_colours_are_those_of_the_drawings(server: str) -> None:
    document = httpx.get(f"{server}/ui/colors.json").json()
    assert set(document["tables"]) == set(COLORMAPS)
    for name, encoded in document["tables"].items():
        assert base64.b64decode(encoded) == table(name).tobytes()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_tokens_have_the_colours_of_the_drawings(visit: Any, theme: str) -> None:
    page = visit(color_scheme=theme)
    show(page, "code-language", "A snippet of Rust")
    colors = {"light": LIGHT, "dark": DARK}[theme]
    for colormap in ("inferno", "viridis", "vik"):
        page.get_by_role("combobox", name="Colours").select_option(colormap)
        expect(page.locator(".text-view")).to_have_class(f"text-view ramp-{theme}-{colormap}")
        found = page.evaluate(
            """() => Array.from({length: 256}, (_, level) => {
                const token = document.querySelector(".text .t");
                const before = token.className;
                token.className = `t l${level}`;
                const {color, backgroundColor} = getComputedStyle(token);
                token.className = before;
                return [backgroundColor, color].map((one) => one.match(/\\d+/g).map(Number));
            })"""
        )
        assert found == [[*map(list, pair(colormap, colors, level))] for level in range(256)]


@pytest.mark.parametrize("file", ["digit-landscape.jpg", "digit-portrait.png", "digit-2.png"])
def test_every_pixel_over_a_picture_has_the_colour_of_its_cell(page: Page, server: str, file: str) -> None:
    page.select_option("#model", label="digit-in-clutter")
    page.set_input_files("#file", EXAMPLES / file)
    settle(page)
    page.get_by_role("combobox", name="Colours").select_option("viridis")
    page.get_by_role("combobox", name="Scale").select_option("minmax")
    for name in ("cam", "spatial"):
        page.get_by_role("combobox", name="Map", exact=True).select_option(name)
        settle(page)
        drawn = canvas(page, ".stage .map")
        info, values = numbers(server, EXAMPLES / file, name)
        with Image.open(EXAMPLES / file) as picture:
            factor = drawn.shape[1] / picture.width
            assert drawn.shape[:2] == (round(picture.height * factor), round(picture.width * factor))
        expected = through_affine(normalised(values), np.array(info["affine"]), drawn.shape[:2], factor)
        seen = expected >= 0
        assert (drawn[..., 3] > 0)[~seen].sum() == 0  # nothing lies where the model did not look
        levels = np.rint(expected[seen] * 255).astype(int)
        assert np.abs(drawn[seen][:, :3].astype(int) - table("viridis")[levels].astype(int)).max() <= 1


def test_a_digit_is_hot_where_it_stands(page: Page) -> None:
    for file in ("digit-landscape.jpg", "digit-portrait.png", "digit-2.png"):
        page.select_option("#model", label="digit-in-clutter")
        page.set_input_files("#file", EXAMPLES / file)
        settle(page)
        page.get_by_role("combobox", name="Colours").select_option("gray")
        drawn = canvas(page, ".stage .map")
        with Image.open(EXAMPLES / file) as picture:
            factor = drawn.shape[1] / picture.width
        rows, columns = np.nonzero((drawn[..., 0] == drawn[..., 0].max()) & (drawn[..., 3] > 0))
        x, y = columns.mean() / factor, rows.mean() / factor
        left, top, right, bottom = TRUTH[file]["box"]
        assert left <= x <= right, file
        assert top <= y <= bottom, file


def test_the_marked_cell_is_outlined_where_it_lies(page: Page, server: str) -> None:
    file = EXAMPLES / "digit-landscape.jpg"
    page.select_option("#model", label="digit-in-clutter")
    page.set_input_files("#file", file)
    settle(page)
    info, values = numbers(server, file, "cam")
    row, column = np.unravel_index(values.argmax(), values.shape)
    (scale, _, left), (_, _, top) = info["affine"]
    box = page.locator(".stage").bounding_box()
    assert box is not None
    shown = box["width"] / 160
    page.mouse.move(
        box["x"] + shown * (column + 0.5 - left) / scale, box["y"] + shown * (row + 0.5 - top) / scale
    )
    expect(page.locator(".readout")).to_contain_text(f"row {row + 1}, column {column + 1}: ")
    marks = canvas(page, ".stage .marks")
    factor = marks.shape[1] / 160
    rows, columns = np.nonzero(marks[..., 3])
    centre = ((columns.min() + columns.max() + 1) / 2 / factor, (rows.min() + rows.max() + 1) / 2 / factor)
    assert centre == pytest.approx(((column + 0.5 - left) / scale, (row + 0.5 - top) / scale), abs=0.5)


def test_each_frame_has_its_own_map(page: Page, server: str) -> None:
    show(page, "digit-motion", "A digit that blinks")
    page.get_by_role("combobox", name="Colours").select_option("gray")
    info, values = numbers(server, EXAMPLES / "blink.mp4", "rollout")
    placed = normalised(values)
    for frame in (0, 3, 7):
        page.get_by_label("Frame", exact=True).fill(str(frame))
        drawn = canvas(page, ".stage .map")
        expected = through_affine(
            placed[frame], np.array(info["affine"]), drawn.shape[:2], drawn.shape[1] / 128
        )
        assert np.abs(drawn[..., 0].astype(int) - np.rint(expected * 255)).max() <= 1


def numbers(server: str, file: Path, map: str) -> tuple[dict[str, Any], np.ndarray]:
    """What the API says of a map, and its numbers."""
    kind = {".jpg": "image/jpeg", ".png": "image/png", ".mp4": "video/mp4"}[file.suffix]
    model = "digit-motion" if kind == "video/mp4" else "digit-in-clutter"
    answer = httpx.post(
        f"{server}/v1/models/{model}/predict",
        params={"maps": map},
        content=file.read_bytes(),
        headers={"content-type": kind},
    ).json()
    info = answer["predictions"][0]["maps"][0]
    return info, np.load(BytesIO(httpx.get(server + info["links"]["npy"]).content))


def normalised(values: np.ndarray) -> np.ndarray:
    """From 0 to 1."""
    return (values - values.min()) / (values.max() - values.min())


def through_affine(
    values: np.ndarray, affine: np.ndarray, shape: tuple[int, int], factor: float
) -> np.ndarray:
    """The number under each pixel's centre; -1 where the model did not look."""
    y, x = (np.indices(shape) + 0.5) / factor
    column = np.floor(affine[0, 0] * x + affine[0, 2]).astype(int)
    row = np.floor(affine[1, 1] * y + affine[1, 2]).astype(int)
    inside = (row >= 0) & (row < values.shape[0]) & (column >= 0) & (column < values.shape[1])
    return np.where(inside, values[row.clip(0, len(values) - 1), column.clip(0, values.shape[1] - 1)], -1)


def canvas(page: Page, selector: str) -> np.ndarray:
    """The pixels of a canvas, [height, width, 4]."""
    data = page.locator(selector).evaluate("(one) => one.toDataURL('image/png').split(',')[1]")
    return np.asarray(Image.open(BytesIO(base64.b64decode(data))).convert("RGBA"))


def test_a_patch_attends_to_what_the_numbers_say(page: Page, server: str) -> None:
    show(page, "digit-motion", "A digit that blinks")
    page.get_by_label("Frame", exact=True).fill("2")
    box = page.locator(".stage").bounding_box()
    assert box is not None
    row, column = 4, 5  # of 8 by 8; the class token stands before the patches
    side = box["width"] / 8
    page.mouse.move(box["x"] + side * (column + 0.5), box["y"] + side * (row + 0.5))
    query = f"layer=3&head=mean&frame=2&token={1 + row * 8 + column}"
    attended = fetched(page, server, f"attention.npy?{query}")
    best = np.unravel_index(attended.argmax(), attended.shape)
    place = f"row {best[0] + 1}, column {best[1] + 1} ({attended.max():.3g})"
    expect(page.locator(".readout")).to_contain_text(f"frame 3, row 5, column 6 attends to {place}")
    page.get_by_role("combobox", name="Colours").select_option("gray")
    page.get_by_role("combobox", name="Scale").select_option("minmax")
    page.mouse.move(box["x"] + side * (column + 0.5), box["y"] + side * (row + 0.5))
    expect(page.locator(".readout")).to_contain_text("attends to")
    drawn = canvas(page, ".stage .map")[..., 0]
    centres = (np.arange(8) + 0.5) * drawn.shape[0] / 8
    found = drawn[np.ix_(centres.astype(int), centres.astype(int))]
    assert np.abs(found - np.rint(normalised(attended) * 255)).max() <= 1


def test_a_token_attends_to_what_the_numbers_say(page: Page, server: str) -> None:
    show(page, "code-language", "A snippet of Rust", map="cls")
    page.get_by_role("combobox", name="Layer").select_option("1")
    page.get_by_role("combobox", name="Heads").select_option("2")
    settle(page)
    token = page.locator(".text .t", has_text="fn").first
    at = 1 + int(token.get_attribute("data-at") or "")  # [CLS] stands before the text
    token.hover()
    attended = fetched(page, server, f"attention.npy?layer=1&head=2&token={at}")
    expect(page.locator(".readout")).to_contain_text(f"({attended.max():.3g})")
    expect(page.locator(".readout")).to_contain_text("layers.1, head 2")


ROW = """async ([side, before, cell]) => {
    const {row} = await import("/ui/attended.js");
    const asked = [];
    const map = {name: "attention", kind: "grid_matrix", layers: ["0"], tokens_before: before, options: []};
    const session = {
        model: {family: "image", maps: [map]},
        prediction: {input: {view: {width: side, height: side, seen: [0, 0, side, side]}}},
        has: () => true,
        async numbers(rest) {
            asked.push(rest);
            const rows = /rows=(\\d+)%3A(\\d+)/.exec(rest);
            if (!rows) return {shape: [side, side], data: new Float32Array(side * side)};
            const [start, stop] = rows.slice(1).map(Number);
            const shape = [stop - start, side, side];
            const data = new Float32Array(shape[0] * side * side);
            return {shape, data: data.map((_, at) => start + Math.floor(at / side ** 2))};
        },
    };
    const place = {x: cell[1] + 0.5, y: cell[0] + 0.5};
    const {numbers, tokens} = await row(session, {map: "attention"}, place, new AbortController().signal);
    return {asked, tokens, values: [...new Set(numbers.data)]};
}"""


@pytest.mark.parametrize("cell", [(0, 0), (31, 7), (63, 63)])
def test_attention_of_many_patches_is_fetched_in_blocks_of_rows(modules: Page, cell: tuple[int, int]) -> None:
    found = modules.evaluate(ROW, [64, 2, cell])
    token = 2 + 64 * cell[0] + cell[1]
    assert (found["tokens"], found["values"]) == ([token], [token])
    shape, block = found["asked"]
    assert "token=0" in shape
    (start, stop) = map(int, re.findall(r"rows=(\d+)%3A(\d+)", block)[0])
    assert start <= token < stop <= 2 + 64 * 64
    assert (stop - start) * 64 * 64 <= 2**18


GIVEN_UP = """async () => {
    const {Session} = await import("/ui/session.js");
    const asked = [];
    const api = {request: async (path) => asked.push(path)};
    const session = new Session({api, model: {}, input: {}, answer: {id: "1"}});
    const asking = session.numbers("maps/cls.npy", () => 0, AbortSignal.abort());
    return {error: await asking.catch((one) => one.name), asked};
}"""


def test_nothing_is_asked_for_what_was_given_up_before(modules: Page) -> None:
    assert modules.evaluate(GIVEN_UP) == {"asked": [], "error": "AbortError"}


def fetched(page: Page, server: str, name: str) -> np.ndarray:
    """Numbers of a map of the prediction that the page shows."""
    command = page.locator("#commands code").nth(1).inner_text()
    (path,) = re.findall(r"(/v1/predictions/\w+/0/maps/)", command)
    return np.load(BytesIO(httpx.get(f"{server}{path}{name}").raise_for_status().content))
