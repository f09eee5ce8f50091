"""One marked place in a picture, one marked frame in a clip: maps are hot there, on the original.

The models here have weights set by hand. Their class token looks for red, and a patch that is green looks for
blue, so the test knows which cell must be hot, and by arithmetic of its own where that lies on the original.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from export.pack import pack
from models.attention import MultiHeadAttention
from models.checkpoints.checkpoint import Checkpoint
from models.feedforward import FeedForward
from models.video import XCLIP, TowerConfig, VideoClassifier, XCLIPConfig
from models.vit import VisionTransformer, ViTConfig

PATCH, SHORT_SIDE = 8, 80
ROWS, COLUMNS = 8, 6  # of the vision transformer, which sees the middle of a picture
BEFORE = 2  # its class token and its distillation token
GRID = 6  # rows and columns of the clips' model
FRAMES, TOTAL = 4, 12
SAMPLED = (1, 4, 7, 10)  # floor((i + 1/2) 12/4)
SHARP = 60.0
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
CLASS, PLACE, REDNESS, GREENNESS, BLUENESS, SEEN, TEACHER = range(1, 8)

# Seven directions in eight numbers: orthogonal, and without a mean, so that layer norms keep them apart.
DIRECTIONS = torch.tensor([[1.0]])
for _ in range(3):
    DIRECTIONS = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]]), DIRECTIONS)
WIDTH = len(DIRECTIONS)

Box = tuple[float, float, float, float]


def sees(colours: nn.Conv2d) -> None:
    """Red as far as it is no green, green as far as it is no blue, blue as far as it is no red."""
    red, green, blue = DIRECTIONS[[REDNESS, GREENNESS, BLUENESS]]
    channels = torch.stack([red - blue, green - red, blue - green], 1) * 2 / PATCH**2  # [D, 3]
    colours.weight.data = channels[:, :, None, None].expand(-1, -1, PATCH, PATCH).contiguous()


def looks(attention: MultiHeadAttention, *looking: tuple[int, int], keeps: int = REDNESS) -> None:
    """What has the first of two directions attends to what has the second, and all else evenly.

    What is kept of what was seen is its share of `keeps`, as SEEN.
    """
    for linear in (attention.query, attention.key, attention.value, attention.out):
        nn.init.zeros_(linear.weight)
        if linear.bias is not None:
            nn.init.zeros_(linear.bias)
    for channel, (query, key) in enumerate(looking):
        attention.query.weight.data[channel] = SHARP * DIRECTIONS[query] / WIDTH
        attention.key.weight.data[channel] = DIRECTIONS[key] / WIDTH
    attention.value.weight.data[0] = DIRECTIONS[keeps] / WIDTH
    attention.value.weight.data[1] = DIRECTIONS[CLASS] / WIDTH
    attention.out.weight.data[:, 0] = DIRECTIONS[SEEN]


def is_silent(feedforward: FeedForward) -> None:
    for parameter in feedforward.parameters():
        nn.init.zeros_(parameter)


@torch.no_grad()
def picture_model() -> nn.Module:
    """Its class token looks for red, its distillation token for green, green patches for blue."""
    model = VisionTransformer(
        ViTConfig(
            image=(ROWS * PATCH, COLUMNS * PATCH),
            patch=(PATCH, PATCH),
            labels=2,
            width=WIDTH,
            layers=2,
            heads=1,
            feedforward=4,
            distillation=True,
        )
    )
    embeddings = model.embeddings
    sees(embeddings.patches)
    assert embeddings.patches.bias is not None
    embeddings.patches.bias.copy_(DIRECTIONS[PLACE])
    embeddings.class_token.copy_(DIRECTIONS[CLASS].expand(1, 1, -1))
    assert embeddings.distillation_token is not None
    embeddings.distillation_token.copy_(DIRECTIONS[TEACHER].expand(1, 1, -1))
    nn.init.zeros_(embeddings.positions)
    for block in model.blocks:
        looks(block.attention, (CLASS, REDNESS), (TEACHER, GREENNESS), (GREENNESS, BLUENESS))
        is_silent(block.feedforward)
    model.classifier.weight.copy_(torch.stack([DIRECTIONS[SEEN], -DIRECTIONS[SEEN]]))
    nn.init.zeros_(model.classifier.bias)
    return model.eval()


@torch.no_grad()
def clip_model() -> nn.Module:
    """The class token of each frame looks for red; frames look for the one that has seen some."""
    model = XCLIP(
        XCLIPConfig(
            image=GRID * PATCH,
            patch=PATCH,
            frames=FRAMES,
            embed=WIDTH,
            vision=TowerConfig(width=WIDTH, layers=2, heads=1),
            temporal=TowerConfig(width=WIDTH, layers=1, heads=1),
            prompt=TowerConfig(width=WIDTH, layers=1, heads=1),
            text=TowerConfig(width=WIDTH, layers=1, heads=1),
            vocabulary=4,
            context=4,
        )
    )
    vision = model.vision
    sees(vision.patches)
    vision.class_token.copy_(DIRECTIONS[CLASS])
    nn.init.zeros_(vision.positions)
    vision.positions[1:] = DIRECTIONS[PLACE]
    for block in vision.blocks:
        nn.init.eye_(block.message_fc.weight)
        nn.init.zeros_(block.message_fc.bias)
        looks(block.message_attention, (CLASS, SEEN), keeps=SEEN)
        looks(block.frame.attention, (CLASS, REDNESS))
        is_silent(block.frame.mlp)
    nn.init.eye_(vision.projection.weight)
    nn.init.zeros_(model.temporal.positions)
    for block in model.temporal.blocks:
        looks(block.attention, (CLASS, SEEN), keeps=SEEN)
        is_silent(block.mlp)
    nn.init.eye_(model.prompts.visual_projection.weight)
    for block in model.prompts.blocks:
        looks(block.attention, (SEEN, REDNESS))
        is_silent(block.mlp)
    labels = torch.stack([DIRECTIONS[SEEN], DIRECTIONS[CLASS]])
    return VideoClassifier(model, labels).eval()


def packed(model: Any, root: Path, weights: Path, **spec: Any) -> None:
    """The model's bundle."""
    family = spec["kind"]
    checkpoint = Checkpoint(
        model=model,
        family=family,
        architecture="by hand",
        source=family,
        name=family,
        version="1",
        description="Looks for red.",
        labels=("red", "none"),
        activation="softmax",
        preprocessing={"mean": [0] * 3, "std": [1] * 3, **spec},
        card=None,
        weights=(weights,),
        tokenizer=None,
    )
    pack(checkpoint, root)


@pytest.fixture(scope="module")
def client(serve: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("marked")
    weights = folder / "weights"
    weights.write_bytes(b"made here")
    root = folder / "models"
    size = {"height": ROWS * PATCH, "width": COLUMNS * PATCH}
    packed(picture_model(), root, weights, kind="image", resize_to=SHORT_SIDE, **size)
    size = {"height": GRID * PATCH, "width": GRID * PATCH}
    packed(clip_model(), root, weights, kind="video", resize_to=60, frames=FRAMES, **size)
    with serve(root, folder / "log") as address, httpx.Client(base_url=address, timeout=60) as client:
        yield client


def place(width: int, height: int, row: int, column: int, *, short: int, rows: int, columns: int) -> Box:
    """Left, top, right, bottom of a patch on an original whose short side is resized before its crop."""
    shorter = min(width, height)
    wide, high = int(short * width / shorter), int(short * height / shorter)
    across, down = width / wide, height / high  # original pixels per resized pixel
    left, top = (wide - columns * PATCH) // 2, (high - rows * PATCH) // 2
    return (
        (left + column * PATCH) * across,
        (top + row * PATCH) * down,
        (left + (column + 1) * PATCH) * across,
        (top + (row + 1) * PATCH) * down,
    )


def patch_of_picture(width: int, height: int, row: int, column: int) -> Box:
    return place(width, height, row, column, short=SHORT_SIDE, rows=ROWS, columns=COLUMNS)


def patch_of_clip(width: int, height: int, row: int, column: int) -> Box:
    return place(width, height, row, column, short=60, rows=GRID, columns=GRID)


def photo(width: int, height: int, marks: dict[tuple[int, int, int], Box]) -> np.ndarray:
    """Grey noise, and a rectangle of each colour."""
    grey = np.random.default_rng(0).integers(30, 220, (height, width, 1), np.uint8)
    pixels = np.repeat(grey, 3, 2)
    for colour, box in marks.items():
        left, top, right, bottom = (round(edge) for edge in box)
        pixels[top:bottom, left:right] = colour
    return pixels


TURNS = {  # EXIF's orientations: how a camera held so stores what is upright
    1: None,
    3: Image.Transpose.ROTATE_180,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
}


def file(pixels: np.ndarray, kind: str, orientation: int = 1) -> bytes:
    """An upright picture as a camera stores it that was held in this orientation."""
    image, turn = Image.fromarray(pixels), TURNS[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    stored = image if turn is None else image.transpose(turn)
    stored.save(buffer, kind, exif=exif, quality=95)
    return buffer.getvalue()


def drawn(client: httpx.Client, link: str, **options: Any) -> np.ndarray:
    """A drawing's pixels, the map alone or with a part of the picture."""
    response = client.get(link, params=httpx.URL(link).params.merge({"size": "original", **options}))
    assert response.status_code == 200, response.text
    return np.asarray(Image.open(io.BytesIO(response.content)).convert("RGB"), float)


def hot_box(pixels: np.ndarray, width: int, height: int) -> Box:
    """Bounding box of the brightest colour in the picture part of an overlay: perceptual colour maps are
    brightest where the map is highest."""
    picture = pixels[:height, :width]
    hottest = np.unravel_index(picture.sum(2).argmax(), (height, width))
    rows, columns = np.nonzero((np.abs(picture - picture[hottest]) < 3).all(2))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def assert_on(found: Box, expected: Box) -> None:
    assert np.abs(np.array(found) - expected).max() <= 1, (found, expected)


def ask(client: httpx.Client, model: str, body: bytes, media: str, **options: Any) -> Any:
    response = client.post(
        f"/v1/models/{model}/predict", content=body, headers={"content-type": media}, params=options
    )
    assert response.status_code == 200, response.text
    return response.json()


def maps_of(answer: Any) -> dict[str, Any]:
    (one,) = answer["predictions"]
    return {found["name"]: found for found in one["maps"]}


MAPS = ("cls", "rollout", "received", "value_norm", "relevance", "grad_sam")


@pytest.mark.parametrize(("width", "height"), [(480, 320), (320, 480), (401, 277)])
@pytest.mark.parametrize(("row", "column"), [(0, 0), (2, 5), (7, 3)])
def test_every_map_of_a_photo_is_hot_on_the_marked_patch(
    client: httpx.Client, width: int, height: int, row: int, column: int
) -> None:
    box = patch_of_picture(width, height, row, column)
    body = file(photo(width, height, {RED: box}), "PNG")
    answer = ask(client, "image", body, "image/png", maps=",".join(MAPS), inline="true")
    assert answer["predictions"][0]["label"] == "red"
    for name, found in maps_of(answer).items():
        values = np.array(found["values"])
        assert np.unravel_index(values.argmax(), values.shape) == (row, column), name
        assert values.max() > 1.5 * np.partition(values.ravel(), -2)[-2], name
        overlay = drawn(client, found["links"]["png"], alpha="1")
        assert_on(hot_box(overlay, width, height), box)
    # Where the map's colour is left out, the picture itself is red in the same place.
    left, top, right, bottom = (round(edge) for edge in box)
    plain = drawn(client, found["links"]["png"], alpha="0")[:height, :width]
    inside = plain[top + 2 : bottom - 2, left + 2 : right - 2].mean((0, 1))
    assert inside[0] > 4 * inside[1:].max()  # how dark the overlay makes the picture is its own affair


@pytest.mark.parametrize("layer", [0, 1])
def test_every_layer_is_hot_on_the_marked_patch(client: httpx.Client, layer: int) -> None:
    body = file(photo(480, 320, {RED: patch_of_picture(480, 320, 6, 1)}), "PNG")
    asked = {"maps": "cls,received,value_norm", "layers": layer, "inline": "true"}
    for name, found in maps_of(ask(client, "image", body, "image/png", **asked)).items():
        values = np.array(found["values"])
        assert np.unravel_index(values.argmax(), values.shape) == (6, 1), name


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("orientation", list(TURNS))
def test_a_photo_is_upright_before_it_is_seen_and_drawn_upon(
    client: httpx.Client, kind: str, orientation: int
) -> None:
    width, height, row, column = 320, 480, 1, 4
    box = patch_of_picture(width, height, row, column)
    body = file(photo(width, height, {RED: box}), kind, orientation)
    answer = ask(client, "image", body, f"image/{kind.lower()}", maps="cls", inline="true")
    view = answer["predictions"][0]["input"]["view"]
    assert (view["width"], view["height"]) == (width, height)
    found = maps_of(answer)["cls"]
    values = np.array(found["values"])
    assert np.unravel_index(values.argmax(), values.shape) == (row, column)
    assert_on(hot_box(drawn(client, found["links"]["png"], alpha="1"), width, height), box)
    (xx, _, x0), (_, yy, y0) = found["affine"]
    left, top, right, bottom = box
    np.testing.assert_allclose([xx * left + x0, xx * right + x0], [column, column + 1], atol=1e-6)
    np.testing.assert_allclose([yy * top + y0, yy * bottom + y0], [row, row + 1], atol=1e-6)


def test_each_token_looks_where_it_should(client: httpx.Client) -> None:
    """The class token at red, the distillation token at green, the green patch at blue, others at all."""
    cells = {RED: (1, 4), GREEN: (5, 0), BLUE: (6, 5)}
    boxes = {colour: patch_of_picture(480, 320, *cell) for colour, cell in cells.items()}
    body = file(photo(480, 320, boxes), "PNG")
    answer = ask(client, "image", body, "image/png", maps="cls,distillation", inline="true")
    made = maps_of(answer)
    for name, colour in (("cls", RED), ("distillation", GREEN)):
        values = np.array(made[name]["values"])
        assert np.unravel_index(values.argmax(), values.shape) == cells[colour]
    link = f"/v1/predictions/{answer['id']}/0/maps/attention"
    green = BEFORE + cells[GREEN][0] * COLUMNS + cells[GREEN][1]
    for token, colour in ((0, RED), (1, GREEN), (green, BLUE)):
        for layer in (0, 1):
            query = {"token": token, "layer": layer}
            values = np.array(client.get(f"{link}.json", params=query).json()["values"])
            assert np.unravel_index(values.argmax(), values.shape) == cells[colour]
            overlay = drawn(client, f"{link}.png", alpha="1", **query)
            if token == green:  # whose own patch has an outline, brighter than any map
                assert_on(hot_box(overlay, 480, 320), boxes[GREEN])
                left, top, right, bottom = (round(edge) for edge in boxes[GREEN])
                overlay[top - 2 : bottom + 2, left - 2 : right + 2] = 0
            assert_on(hot_box(overlay, 480, 320), boxes[colour])
    for row, column in ((2, 2), (7, 3)):  # not beside a mark, into which its colour bleeds
        token = BEFORE + row * COLUMNS + column
        values = np.array(client.get(f"{link}.json", params={"token": token}).json()["values"])
        np.testing.assert_allclose(values, 1 / (BEFORE + ROWS * COLUMNS), atol=1e-3)
    every = np.array(client.get(f"{link}.json", params={"layer": 0, "head": 0}).json()["values"])
    assert every.shape == (BEFORE + ROWS * COLUMNS, ROWS, COLUMNS)
    hottest = every.reshape(len(every), -1).max(1)
    assert set(np.flatnonzero(hottest > 0.5)) >= {0, 1, green}


@pytest.mark.parametrize("name", ["relevance", "grad_sam"])
def test_what_speaks_for_one_label_does_not_speak_for_the_other(client: httpx.Client, name: str) -> None:
    body = file(photo(480, 320, {RED: patch_of_picture(480, 320, 3, 2)}), "PNG")
    found = {}
    for label in ("red", "none"):
        answer = ask(client, "image", body, "image/png", maps=name, target=label, inline="true")
        found[label] = np.array(maps_of(answer)[name]["values"])
    assert found["red"][3, 2] > 20 * found["none"][3, 2]


def clip(width: int, height: int, marked: int, box: Box) -> bytes:
    """Grey noise that stands still, but for one frame in which a place is red."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "4", "preset": "veryfast"}
        for index in range(TOTAL):
            pixels = photo(width, height, {RED: box} if index == marked else {})
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


@pytest.mark.parametrize(("width", "height"), [(160, 120), (96, 160)])
@pytest.mark.parametrize(("frame", "row", "column"), [(2, 0, 4), (0, 5, 1), (3, 2, 2)])
def test_every_map_of_a_clip_is_hot_in_the_marked_frame_on_the_marked_patch(
    client: httpx.Client, width: int, height: int, frame: int, row: int, column: int
) -> None:
    box = patch_of_clip(width, height, row, column)
    body = clip(width, height, SAMPLED[frame], box)
    asked = {"maps": ",".join((*MAPS, "importance", "message", "temporal", "label_patches")), "target": "red"}
    answer = ask(client, "video", body, "video/mp4", inline="true", **asked)
    (one,) = answer["predictions"]
    assert one["input"]["sampled"] == list(SAMPLED)
    made = maps_of(answer)
    for name in MAPS:
        values = np.array(made[name]["values"])
        assert np.unravel_index(values.argmax(), values.shape) == (frame, row, column), name
        still = drawn(client, made[name]["links"]["png"], alpha="1", frame=frame)
        assert_on(hot_box(still, width, height), box)
    assert np.argmax(made["importance"]["values"]) == frame
    for name in ("message", "temporal"):
        assert (np.argmax(made[name]["values"], axis=1) == frame).all(), name
    values = np.array(made["label_patches"]["values"])
    assert np.unravel_index(values.argmax(), values.shape) == (row, column)
    link = f"/v1/predictions/{answer['id']}/0/maps/attention"
    values = np.array(client.get(f"{link}.json", params={"token": 0, "frame": frame}).json()["values"])
    assert np.unravel_index(values.argmax(), values.shape) == (row, column)
    assert_on(hot_box(drawn(client, f"{link}.png", alpha="1", token=0, frame=frame), width, height), box)
    other = (frame + 1) % FRAMES
    values = np.array(client.get(f"{link}.json", params={"token": 0, "frame": other}).json()["values"])
    assert values.max() < 0.1


def test_the_animation_is_hot_in_the_marked_frame_alone(client: httpx.Client) -> None:
    box = patch_of_clip(160, 120, 3, 1)
    answer = ask(client, "video", clip(160, 120, SAMPLED[1], box), "video/mp4", maps="cls,rollout")
    left, top, right, bottom = (round(edge) for edge in box)
    for found in maps_of(answer).values():
        response = client.get(
            found["links"]["webp"], params=httpx.URL(found["links"]["webp"]).params.merge({"alpha": "1"})
        )
        with Image.open(io.BytesIO(response.content)) as animation:
            assert animation.n_frames == FRAMES
            marked = []
            for index in range(FRAMES):
                animation.seek(index)
                pixels = np.asarray(animation.convert("RGB"), float)
                scale = pixels.shape[1] // 160
                inside = pixels[scale * top : scale * bottom, scale * left : scale * right]
                marked.append(inside.sum(2).mean())
        assert np.argmax(marked) == 1
        assert marked[1] > 1.5 * np.partition(marked, -2)[-2]


def test_a_clip_whose_frames_are_all_alike_prefers_none(client: httpx.Client) -> None:
    """A frame that was marked but not sampled was not seen."""
    body = clip(160, 120, SAMPLED[2] + 1, patch_of_clip(160, 120, 3, 1))
    answer = ask(client, "video", body, "video/mp4", maps="importance", inline="true")
    np.testing.assert_allclose(maps_of(answer)["importance"]["values"], 1 / FRAMES, atol=1e-2)
