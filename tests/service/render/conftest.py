"""Items as decoding makes them, small enough to reckon with by hand."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

from service.decode.item import ImageItem, TextItem, VideoItem
from service.decode.view import View

# 400x200, its shorter side to 100 (scale 1/2), then the middle 80x80: a quarter of a 4x4 grid's side is 20
# model pixels, 40 of the original. The model saw x from 120 to 280 and y from 20 to 180.
LANDSCAPE = View(
    width=400,
    height=200,
    model_width=80,
    model_height=80,
    scale_x=0.5,
    scale_y=0.5,
    left=60,
    top=10,
)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def landscape() -> ImageItem:
    return ImageItem(tensors={}, original=noise(200, 400, 3), view=LANDSCAPE, format="PNG")


@pytest.fixture
def clip() -> VideoItem:
    return VideoItem(
        tensors={},
        original=noise(4, 200, 400, 3),
        view=LANDSCAPE,
        format="WEBP",
        indices=(1, 4, 6, 9),
        timestamps=(0.1, 0.4, 0.6, 0.9),
        total=10,
        duration=1.0,
    )


def tokenised(*texts: str, keep: int | None = None) -> TextItem:
    """A token for each word or sign, none for spaces, after [CLS] and before each text's [SEP].

    Of each text the first `keep` tokens stay.
    """
    tokens, offsets, segments, special, dropped = ["[CLS]"], [(0, 0)], [0], [True], []
    for segment, text in enumerate(texts):
        found = list(re.finditer(r"\w+|[^\w\s]|\n", text))
        kept = found[:keep]
        end = len(text) if len(kept) == len(found) else kept[-1].end()
        tokens += [*(match.group() for match in kept), "[SEP]"]
        offsets += [*(match.span() for match in kept), (end, end)]
        segments += [segment] * (len(kept) + 1)
        special += [*(False for _ in kept), True]
        dropped.append(len(found) - len(kept))
    return TextItem(
        tensors={},
        texts=texts,
        tokens=tuple(tokens),
        offsets=tuple(offsets),
        segments=tuple(segments),
        special=tuple(special),
        dropped=tuple(dropped),
    )


@pytest.fixture
def words() -> Callable[..., TextItem]:
    return tokenised


@pytest.fixture
def source() -> TextItem:
    return tokenised('\nfn main() {\n\tlet x = "<script>alert(1)</script> & más";\n}\n')
