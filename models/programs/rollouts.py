"""Rollouts, whose layers may be mixed in other ways than by halves."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from models.maps import Mix, Tuned, halves
from models.programs.program import MapProgram


class RolloutMap(MapProgram):
    """Attention mixed through all layers: `mixed` by halves, or `tuned`."""

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return (self.mixed(inputs, halves),)

    def mixed(self, inputs: Sequence[Tensor], mix: Mix) -> Tensor:
        """The map, with this for a layer."""
        raise NotImplementedError

    @property
    def tuned(self) -> TunedRollout:
        return TunedRollout(self)


class TunedRollout(MapProgram):
    """The same with heads fused and attention discarded as a request says."""

    def __init__(self, rollout: RolloutMap) -> None:
        super().__init__(inputs=[*rollout.inputs, "fuse", "discard"])
        self.rollout = rollout

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        *taps, fuse, discard = inputs
        return (self.rollout.mixed(taps, Tuned(fuse, discard)),)
