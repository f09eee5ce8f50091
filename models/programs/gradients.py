"""Maps of the gradient of one label: one graph holds the model's forward, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from models.programs.program import MapProgram

DESCRIPTIONS = (
    "What the answer for one label rests on: attention times its gradient, through all layers.",
    "Attention times its positive gradient for one label, mean over layers, heads and queries.",
)
GRAPH = "gradients"


class GradientMap(MapProgram):
    """One of the two maps that a model's `relevance` gives: gradient relevance (0) and Grad-SAM (1).

    Both hold the model as a part, so that its weights become those of the graph they share.
    """

    graph = GRAPH

    def __init__(self, model: nn.Module, index: int, *, inputs: Sequence[str]) -> None:
        super().__init__(inputs=[*inputs, "target"])
        self.model, self.index = model, index
        self.description = DESCRIPTIONS[index]

    def both(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Both maps of one pass forward and back."""
        relevance: Callable[..., tuple[Tensor, Tensor]] = self.model.relevance  # type: ignore[assignment]
        found, received = relevance(**dict(zip(self.inputs, inputs, strict=True)))
        return self.placed(found), self.placed(received)

    def placed(self, values: Tensor) -> Tensor:
        """What the model gives, in the shape of the map."""
        return values

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return (self.both(*inputs)[self.index],)


class TokenGradientMap(GradientMap):
    kind = "tokens"
    axes = ("token",)
