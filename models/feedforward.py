"""The feed-forward part of a transformer block."""

from __future__ import annotations

from torch import Tensor, nn

from models import adjoints


class FeedForward(nn.Sequential):
    """Two linear maps with an activation between them; hands out what goes into the activation."""

    def __init__(self, *, width: int, hidden: int, activation: nn.Module) -> None:
        super().__init__(nn.Linear(width, hidden), activation, nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [..., D] -> output [..., D] and hidden [..., F]."""
        inner, activation, outer = self
        hidden: Tensor = inner(x)
        return outer(activation(hidden)), hidden

    def adjoint(self, gradient: Tensor, hidden: Tensor) -> Tensor:
        """From the gradient by the output [..., D] to that by the input [..., D]."""
        inner, activation, outer = self
        assert isinstance(inner, nn.Linear)
        assert isinstance(outer, nn.Linear)
        gradient = adjoints.activation(activation, hidden, adjoints.linear(outer, gradient))
        return adjoints.linear(inner, gradient)
