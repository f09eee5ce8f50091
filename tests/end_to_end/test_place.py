"""A map that is hot in one patch is drawn hot on exactly that patch of the original picture.

The models here have one cell per patch that is as hot as its patch is bright, so the test knows which cell
must be hot and where it lies, by arithmetic of its own.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from export.pack import pack
from models.checkpoints.checkpoint import Checkpoint
from models.programs import ClassActivation, MapProgram

GRID = 8
MODEL_SIZE = 64
PREPROCESSING = {
    "whole": {"resize_to": (MODEL_SIZE, MODEL_SIZE)},
    "cropped": {"resize_to": 80},
    "short-side": {"resize_to": MODEL_SIZE},
}


class Brightness(nn.Module):
    """Its one feature is the mean brightness of each of 8 x 8 patches."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(1, 2, bias=False)
        self.classifier.weight.data = torch.tensor([[1.0], [-1.0]])

    def forward(self, pixels: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        patch = MODEL_SIZE // GRID
        features = nn.functional.avg_pool2d(pixels.mean(1, keepdim=True), patch)
        return {"logits": self.classifier(features.mean((2, 3)))}, {"features": features}

    def programs(self) -> dict[str, MapProgram]:
        return {"cam": ClassActivation(self.classifier)}


@dataclass(frozen=True)
class Case:
    preprocessing: str
    width: int
    height: int
    row: int
    column: int

    @property
    def expected(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of the patch on the original picture."""
        if self.preprocessing == "whole":
            return self.box(0.0, 0.0, self.width / GRID, self.height / GRID)
        short = 80 if self.preprocessing == "cropped" else MODEL_SIZE
        shorter = min(self.width, self.height)
        width, height = int(short * self.width / shorter), int(short * self.height / shorter)
        across, down = self.width / width, self.height / height  # original pixels per resized pixel
        left, top = (width - MODEL_SIZE) // 2 * across, (height - MODEL_SIZE) // 2 * down
        patch = MODEL_SIZE / GRID
        return self.box(left, top, patch * across, patch * down)

    def box(self, left: float, top: float, across: float, down: float) -> tuple[float, float, float, float]:
        return (
            left + self.column * across,
            top + self.row * down,
            left + (self.column + 1) * across,
            top + (self.row + 1) * down,
        )

    def picture(self) -> bytes:
        """Black, and white where the patch lies."""
        pixels = np.zeros((self.height, self.width, 3), np.uint8)
        left, top, right, bottom = (round(edge) for edge in self.expected)
        pixels[top:bottom, left:right] = 255
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        return file.getvalue()


@pytest.fixture(scope="module")
def address(serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("brightness")
    weights = folder / "weights"
    weights.write_bytes(b"made here")
    for name, spec in PREPROCESSING.items():
        size = {"kind": "image", "height": MODEL_SIZE, "width": MODEL_SIZE, "mean": [0] * 3, "std": [1] * 3}
        checkpoint = Checkpoint(
            model=Brightness().eval(),
            family="image",
            architecture="brightness",
            source=name,
            name=name,
            version="1",
            description="As hot as the picture is bright.",
            labels=("bright", "dark"),
            activation="softmax",
            preprocessing=spec | size,
            card=None,
            weights=(weights,),
            tokenizer=None,
        )
        pack(checkpoint, folder / "models")
    with serve(folder / "models", folder / "log") as address:
        yield address


@pytest.mark.parametrize("preprocessing", PREPROCESSING)
@pytest.mark.parametrize(("width", "height"), [(480, 320), (320, 480), (401, 277), (40, 64)])
@pytest.mark.parametrize(("row", "column"), [(0, 0), (2, 5), (7, 3)])
def test_the_hot_patch_is_drawn_where_it_is(
    address: str, preprocessing: str, width: int, height: int, row: int, column: int
) -> None:
    case = Case(preprocessing, width, height, row, column)
    headers = {"content-type": "image/png"}
    with httpx.Client(base_url=address, timeout=60) as client:
        reply = client.post(
            f"/v1/models/{preprocessing}/predict?maps=cam&target=bright",
            content=case.picture(),
            headers=headers,
        )
        assert reply.status_code == 200, reply.text
        (drawn,) = reply.json()["predictions"][0]["maps"]
        values = np.array(client.get(drawn["links"]["json"]).json()["values"])
        assert np.unravel_index(values.argmax(), values.shape) == (row, column)
        overlay = client.get(drawn["links"]["png"], params={"target": "bright", "alpha": "1"})
        plain = client.get(drawn["links"]["png"], params={"target": "bright", "alpha": "0"})
    found = hot_box(overlay.content, width, height)
    assert np.abs(np.array(found) - case.expected).max() <= 1, (found, case.expected)
    # Where the map's colour is left out, the picture itself is bright in the same place.
    picture = np.asarray(Image.open(io.BytesIO(plain.content)).convert("L"), float)[:height, :width]
    left, top, right, bottom = found
    assert picture[top + 1 : bottom - 1, left + 1 : right - 1].mean() > 200


def hot_box(png: bytes, width: int, height: int) -> tuple[int, int, int, int]:
    """Bounding box of the brightest colour in the picture part of an overlay; viridis and its kin are
    brightest where the map is highest."""
    picture = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), float)[:height, :width]
    hottest = np.unravel_index(picture.sum(2).argmax(), (height, width))
    rows, columns = np.nonzero((np.abs(picture - picture[hottest]) < 3).all(2))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
