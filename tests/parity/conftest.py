"""From a checkpoint that its own library wrote to a predictor, as a user would go: export, load, predict.

Every test here runs at small sizes with the other tests and at real ones in `make test-slow`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

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


@pytest.fixture(scope="session")
def relevance() -> Callable[[Tensor, Sequence[Tensor]], tuple[NDArray[Any], NDArray[Any]]]:
    """`relevance(logit, attentions)` goes back from one logit of another library's model to its attentions
    [1, H, N, N], first layer first: the class token's row of Chefer's R, less the identity, and Grad-SAM.
    """

    def found(logit: Tensor, attentions: Sequence[Tensor]) -> tuple[NDArray[Any], NDArray[Any]]:
        gradients = torch.autograd.grad(logit, list(attentions))
        size = attentions[0].shape[-1]
        product, summed = np.eye(size), np.zeros(size)
        for attention, gradient in zip(attentions, gradients, strict=True):
            one = (attention * gradient)[0].clamp(min=0).mean(0).detach().double().numpy()
            product = product + one @ product
            summed += one.mean(0) / len(attentions)
        return (product - np.eye(size))[0], summed

    return found
