"""A model that is known through and through, and data with truth for the tiny ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from service.batch import BatchLimits
from service.dataset import Raw
from service.decode.item import NOTHING, ImageItem
from service.decode.view import View
from service.maps import AttentionMap
from service.predictor import Predictor
from service.truth import Truth

SIDE, CELLS = 32, 4
CELL = SIDE // CELLS


class Marked:
    """A picture model that sees nothing but its brightest cell of 8x8 pixels, whose place each input says.

    Its maps: `perfect` is high at that cell, `reversed` low, `flat` the same everywhere. `batches` are the
    sizes of what was run.
    """

    def __init__(self, real: Predictor, limits: BatchLimits) -> None:
        cam = next(spec for spec in real.manifest.maps if spec.name == "cam")
        self.specs = [cam.model_copy(update={"name": name}) for name in ("perfect", "reversed", "flat")]
        self.manifest = real.manifest.model_copy(update={"maps": tuple(self.specs)})
        self.limits = limits
        self.scores = real.scores
        self.target = real.target
        self.batches: list[int] = []

    def decode(self, payload: Any) -> ImageItem:
        place = json.loads(payload.data)
        rng = np.random.default_rng(place)
        pixels = rng.normal(0, 0.2, (3, SIDE, SIDE)).astype(np.float32)
        row, column = place
        pixels[:, CELL * row : CELL * (row + 1), CELL * column : CELL * (column + 1)] += 2
        view = View(
            width=SIDE, height=SIDE, model_width=SIDE, model_height=SIDE, scale_x=1, scale_y=1, left=0, top=0
        )
        return ImageItem(tensors={"pixels": pixels}, original=NOTHING, view=view, format="tensor")

    def job(self, item: Any, wanted: Any = None) -> Any:
        return SimpleNamespace(item=item, cost=item.cost, taps={}, asked=bool(wanted))

    def run(self, jobs: Sequence[Any]) -> list[Any]:
        self.batches.append(len(jobs))
        return [self._outcome(job) for job in jobs]

    def _outcome(self, job: Any) -> Any:
        pixels = job.item.tensors["pixels"]
        means = pixels.reshape(3, CELLS, CELL, CELLS, CELL).mean((0, 2, 4))
        logits = np.array([-9.0, 4 * means.max() - 4, 0.0, -9.0])
        maps = {}
        if job.asked:
            for spec, values in zip(self.specs, (means, -means, np.ones_like(means)), strict=True):
                rows = np.stack([np.zeros_like(values), values, values, values])
                maps[spec.name] = AttentionMap(spec=spec, layers=(rows,))
        return SimpleNamespace(logits=logits, maps=maps)


@pytest.fixture
def marked(predictors: dict[str, Predictor]) -> Callable[..., Any]:
    """Makes the marked model with these limits on a batch."""

    def make(*, pixels: int = 10 * SIDE * SIDE, jobs: int | None = None) -> Any:
        return cast(Any, Marked(predictors["image"], BatchLimits(cost=pixels, tap_bytes=2**30, jobs=jobs)))

    return make


@pytest.fixture
def marked_inputs() -> list[tuple[Raw, Truth]]:
    """Forty inputs of the marked model, each with the box of its cell."""
    rng = np.random.default_rng(0)
    inputs = []
    for index in range(40):
        row, column = rng.integers(CELLS, size=2).tolist()
        box = (CELL * column, CELL * row, CELL * (column + 1), CELL * (row + 1))
        truth = Truth(place=f"line {index}", label=1, box=box)
        inputs.append((Raw(f"{index}.png", json.dumps([row, column]).encode()), truth))
    return inputs


@pytest.fixture
def data(tmp_path: Path, picture: bytes, clip: bytes) -> dict[str, Path]:
    """Three inputs for each tiny model, with all that can be known of them."""
    texts = [{"text": text, "label": 0, "span": [2, 6]} for text in ("fn main() {}", "x = [1, 2]", "a" * 20)]
    (tmp_path / "text.jsonl").write_text("\n".join(map(json.dumps, texts)))
    known: dict[str, dict[str, Any]] = {
        "image": {"label": "up", "box": [10, 10, 30, 30]},
        "video": {"boxes": [[10, 10, 30, 30], None] * 3, "frames": [2]},
    }
    for family, content in (("image", picture), ("video", clip)):
        folder = tmp_path / family
        folder.mkdir()
        for index in range(3):
            (folder / str(index)).write_bytes(content)
        (folder / "truth.jsonl").write_text(json.dumps({"file": "1", **known[family]}))
    return {"text": tmp_path / "text.jsonl", "image": tmp_path / "image", "video": tmp_path / "video"}
