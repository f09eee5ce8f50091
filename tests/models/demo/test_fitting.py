"""Promises of the training loop."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from models.demo.fitting import fit


def test_fitting_finds_a_line() -> None:
    torch.manual_seed(0)
    model = nn.Linear(1, 1)

    def loss() -> Tensor:
        x = torch.randn(64, 1)
        return nn.functional.mse_loss(model(x), 2 * x - 1)

    fit(model, loss, title="line", steps=300, rate=0.1, decay=0)
    assert model.weight.item() == pytest.approx(2, abs=0.02)
    assert model.bias.item() == pytest.approx(-1, abs=0.02)
    assert not model.training


def test_the_rate_rises_from_nothing_and_falls_to_nothing() -> None:
    model = nn.Linear(1, 1, bias=False)
    places: list[float] = []

    def loss() -> Tensor:
        places.append(model.weight.item())
        return model.weight.sum()

    fit(model, loss, title="slope", steps=100, rate=0.1, decay=0, warmup=0.2)
    moves = [a - b for a, b in itertools.pairwise(places)]
    assert moves[0] == 0
    assert max(moves) == pytest.approx(0.1, rel=0.05)
    assert 18 <= moves.index(max(moves)) <= 30
    assert moves[-1] < 0.001
