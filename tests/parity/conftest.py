"""From a checkpoint that its own library wrote to a predictor, as a user would go: export, load, predict.

Every test here runs at small sizes with the other tests and at real ones in `make test-slow`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from export.pack import pack
from models.checkpoints.checkpoint import Choices
from models.checkpoints.read import read
from service.decode.limits import Limits
from service.predictor import Predictor
from service.sessions import SessionPool

Export = Callable[..., Predictor]


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """`export(source, **choices)` packs a checkpoint into a bundle and loads it on the CPU."""

    def exported(source: Path | str, **choices: object) -> Predictor:
        checkpoint = read(str(source), Choices(**choices))
        folder = pack(checkpoint, tmp_path_factory.mktemp("models"))
        return Predictor.load(
            folder,
            SessionPool(device="cpu"),
            Limits(),
            batch_tokens=2048,
            batch_pixels=2**24,
            batch_tap_bytes=2**28,
        )

    return exported


@pytest.fixture(scope="session", params=["small", pytest.param("real", marks=pytest.mark.slow)])
def size(request: pytest.FixtureRequest) -> str:
    """How large a model to write: "small" in seconds, "real" as people have them."""
    name: str = request.param
    return name
