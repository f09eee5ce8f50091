"""One small program per map: its inputs are taps by name, its outputs one tensor per layer, or a single one
where the map covers all layers. A program holds no weights but those that a map is made of, so it can be
exported as a graph of its own and run where the taps are.
"""

from models.programs.gates import ChannelGates, ClassActivation, SpatialGates
from models.programs.gradients import TokenGradientMap
from models.programs.image import (
    DistillationRows,
    PatchAttention,
    PatchGradientMap,
    PatchReceived,
    PatchRollout,
    PatchRows,
    PatchValueNorm,
)
from models.programs.program import Kind, MapProgram
from models.programs.proof import Proof
from models.programs.text import ClassRows, Received, Rollout, TokenAttention, ValueNorm
from models.programs.video import (
    FrameAttention,
    FrameClassRows,
    FrameGradientMap,
    FrameImportance,
    FrameReceived,
    FrameValueNorm,
    LabelPatches,
    Messages,
    SpaceTimeRollout,
)

__all__ = [
    "ChannelGates",
    "ClassActivation",
    "ClassRows",
    "DistillationRows",
    "FrameAttention",
    "FrameClassRows",
    "FrameGradientMap",
    "FrameImportance",
    "FrameReceived",
    "FrameValueNorm",
    "Kind",
    "LabelPatches",
    "MapProgram",
    "Messages",
    "PatchAttention",
    "PatchGradientMap",
    "PatchReceived",
    "PatchRollout",
    "PatchRows",
    "PatchValueNorm",
    "Proof",
    "Received",
    "Rollout",
    "SpaceTimeRollout",
    "SpatialGates",
    "TokenAttention",
    "TokenGradientMap",
    "ValueNorm",
]
