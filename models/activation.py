"""Activation functions by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

Activation = Literal["gelu", "gelu_tanh", "quick_gelu", "relu", "tanh"]


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x), as CLIP has it."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu_tanh": partial(nn.GELU, approximate="tanh"),
    "quick_gelu": QuickGELU,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
}
