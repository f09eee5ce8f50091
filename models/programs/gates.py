"""Maps of convolutional networks with gates."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from models.maps import class_activation
from models.programs.program import MapProgram


class SpatialGates(MapProgram):
    kind = "grid"
    axes = ("row", "column")
    description = "The spatial gate of each block, from 0 (closed) to 1 (open)."
    fixed_range = (0.0, 1.0)

    def __init__(self, blocks: Sequence[str]) -> None:
        super().__init__(inputs=[f"{block}.spatial" for block in blocks], layers=blocks)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(gate[:, 0] for gate in inputs)


class ChannelGates(MapProgram):
    kind = "channels"
    axes = ("channel",)
    description = "The channel gate of each block, from 0 (closed) to 1 (open)."
    fixed_range = (0.0, 1.0)

    def __init__(self, blocks: Sequence[str]) -> None:
        super().__init__(inputs=[f"{block}.channel" for block in blocks], layers=blocks)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        # Input and output of a graph need names of their own: the sum leaves one node between them.
        return tuple(gate + 0 for gate in inputs)


class ClassActivation(MapProgram):
    kind = "grid"
    axes = ("label", "row", "column")
    description = "Where the evidence for each label lies: class activation, Grad-CAM in closed form."

    def __init__(self, classifier: nn.Linear) -> None:
        super().__init__(inputs=["features"])
        self.classifier = classifier

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return (class_activation(inputs[0], self.classifier.weight),)
