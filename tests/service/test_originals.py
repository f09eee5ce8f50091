"""An input comes back as it was decoded: upright, whole, and of a clip the frames that were sampled."""

from __future__ import annotations

import io
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

ROTATED = 6  # EXIF: the first row is the right side


def predicted(client: TestClient, model: str, content: bytes, kind: str) -> dict[str, Any]:
    response = client.post(f"/v1/models/{model}/predict", content=content, headers={"content-type": kind})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def fetched(client: TestClient, key: str, **query: Any) -> Image.Image:
    response = client.get(f"/v1/predictions/{key}/0/input.webp", params=query)
    assert response.headers["content-type"] == "image/webp", response.text
    return Image.open(io.BytesIO(response.content)).convert("RGB")


def test_a_small_picture_comes_back_pixel_by_pixel(client: TestClient, picture: bytes) -> None:
    key = predicted(client, "tiny-image", picture, "image/png")["id"]
    original = Image.open(io.BytesIO(picture)).convert("RGB")
    assert np.array_equal(np.asarray(fetched(client, key)), np.asarray(original))


def test_a_photo_comes_back_upright(client: TestClient) -> None:
    colors = np.zeros((40, 60, 3), np.uint8)
    colors[:20] = (250, 20, 20)  # the upper half of what the camera stored
    exif = Image.Exif()
    exif[0x0112] = ROTATED
    buffer = io.BytesIO()
    Image.fromarray(colors).save(buffer, "PNG", exif=exif)
    answer = predicted(client, "tiny-image", buffer.getvalue(), "image/png")
    shown = np.asarray(fetched(client, answer["id"]))
    view = answer["predictions"][0]["input"]["view"]
    assert shown.shape[:2] == (view["height"], view["width"]) == (60, 40)
    assert shown[:, 30:, 0].min() > 200  # which is the right half of the photo
    assert shown[:, :10, 0].max() < 50


def test_a_clip_comes_back_as_its_sampled_frames_in_rows(client: TestClient, clip: bytes) -> None:
    answer = predicted(client, "tiny-video", clip, "video/mp4")
    assert len(answer["predictions"][0]["input"]["sampled"]) == 4
    sheet = fetched(client, answer["id"])
    assert sheet.size == (2 * 64, 2 * 48)
    frames = [
        np.asarray(sheet.crop((64 * column, 48 * row, 64 * column + 64, 48 * row + 48)))
        for row in range(2)
        for column in range(2)
    ]
    assert all(np.abs(one.astype(int) - other).mean() > 5 for one, other in pairwise(frames))


def test_a_picture_is_made_smaller_and_never_larger(client: TestClient, picture: bytes) -> None:
    key = predicted(client, "tiny-image", picture, "image/png")["id"]
    assert fetched(client, key, size=64).size == (48, 40)
    assert fetched(client, key, size="original").size == (48, 40)
    buffer = io.BytesIO()
    Image.new("RGB", (300, 200)).save(buffer, "PNG")
    key = predicted(client, "tiny-image", buffer.getvalue(), "image/png")["id"]
    assert fetched(client, key, size=150).size == (150, 100)


def test_an_input_is_kept_by_the_browser_under_its_tag(client: TestClient, picture: bytes) -> None:
    key = predicted(client, "tiny-image", picture, "image/png")["id"]
    response = client.get(f"/v1/predictions/{key}/0/input.webp")
    assert response.headers["cache-control"].startswith("private")
    again = client.get(
        f"/v1/predictions/{key}/0/input.webp", headers={"if-none-match": response.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    ("path", "status", "field"),
    [
        ("0/input.webp?size=5", 400, "size"),
        ("0/input.webp?colour=red", 400, "colour"),
        ("3/input.webp", 404, "item"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    client: TestClient, picture: bytes, path: str, status: int, field: str
) -> None:
    key = predicted(client, "tiny-image", picture, "image/png")["id"]
    response = client.get(f"/v1/predictions/{key}/{path}")
    assert (response.status_code, response.json()["field"]) == (status, field)


def test_a_text_has_no_picture(client: TestClient) -> None:
    answer = client.post("/v1/models/tiny-text/predict", json={"text": "a text"}).json()
    response = client.get(f"/v1/predictions/{answer['id']}/0/input.webp")
    assert response.status_code == 404
