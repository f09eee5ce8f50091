"""ResNet with CBAM: channel and spatial attention gates in every residual block.

Woo et al. 2018, "CBAM: Convolutional Block Attention Module".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from models.attention import Taps
from models.programs import ChannelGates, ClassActivation, MapProgram, SpatialGates

Depth = Literal[18, 34, 50, 101]
Stem = Literal["imagenet", "small"]

DEPTHS: dict[Depth, tuple[int, int, int, int]] = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
}


@dataclass(frozen=True, kw_only=True)
class CBAMConfig:
    """Sizes of a CBAM ResNet.

    `depth` is one of 18, 34 (basic blocks), 50, 101 (bottleneck blocks). `stem` "imagenet" is a 7x7
    convolution of stride 2 and a pooling, "small" a 3x3 convolution of stride 1 for small pictures.
    `gate_bias` is whether the linear maps of the channel gates have one: the paper's have, timm's have none.
    """

    labels: int
    depth: Depth = 50
    width: int = 64
    stem: Stem = "imagenet"
    reduction: int = 16
    gate_bias: bool = True


class ChannelGate(nn.Module):
    """One weight per channel from average and maximum, through one shared MLP."""

    def __init__(self, *, channels: int, reduction: int, bias: bool = True) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden, bias=bias), nn.ReLU(), nn.Linear(hidden, channels, bias=bias)
        )

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> gate [B, C] in (0, 1)."""
        gate: Tensor = self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3)))
        return gate.sigmoid()


class SpatialGate(nn.Module):
    """One weight per place from the maximum and the mean over channels, in this order."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.bn = nn.BatchNorm2d(1, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> gate [B, 1, H, W] in (0, 1)."""
        gate: Tensor = self.bn(self.conv(torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], 1)))
        return gate.sigmoid()


class CBAM(nn.Module):
    """Channel gate, then spatial gate; hands both out as taps."""

    def __init__(self, *, channels: int, reduction: int, bias: bool = True) -> None:
        super().__init__()
        self.channel = ChannelGate(channels=channels, reduction=reduction, bias=bias)
        self.spatial = SpatialGate()

    def forward(self, x: Tensor) -> tuple[Tensor, Taps]:
        channel = self.channel(x)
        x = x * channel[:, :, None, None]
        spatial = self.spatial(x)
        return x * spatial, {"channel": channel, "spatial": spatial}


class Block(nn.Module):
    """A residual branch, gated by CBAM before it is added to the shortcut."""

    def __init__(
        self, branch: nn.Module, *, inputs: int, outputs: int, stride: int, config: CBAMConfig
    ) -> None:
        super().__init__()
        self.branch = branch
        self.cbam = CBAM(channels=outputs, reduction=config.reduction, bias=config.gate_bias)
        self.shortcut = (
            nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
            if stride != 1 or inputs != outputs
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Taps]:
        gated, taps = self.cbam(self.branch(x))
        return torch.relu(gated + self.shortcut(x)), taps


def basic_block(inputs: int, planes: int, stride: int, config: CBAMConfig) -> Block:
    """Two 3x3 convolutions."""
    branch = nn.Sequential(
        nn.Conv2d(inputs, planes, 3, stride, 1, bias=False),
        nn.BatchNorm2d(planes),
        nn.ReLU(),
        nn.Conv2d(planes, planes, 3, 1, 1, bias=False),
        nn.BatchNorm2d(planes),
    )
    return Block(branch, inputs=inputs, outputs=planes, stride=stride, config=config)


def bottleneck(inputs: int, planes: int, stride: int, config: CBAMConfig) -> Block:
    """1x1, 3x3, 1x1 convolutions; four times as many channels leave as planes."""
    outputs = 4 * planes
    branch = nn.Sequential(
        nn.Conv2d(inputs, planes, 1, bias=False),
        nn.BatchNorm2d(planes),
        nn.ReLU(),
        nn.Conv2d(planes, planes, 3, stride, 1, bias=False),
        nn.BatchNorm2d(planes),
        nn.ReLU(),
        nn.Conv2d(planes, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
    )
    return Block(branch, inputs=inputs, outputs=outputs, stride=stride, config=config)


def stem(config: CBAMConfig) -> nn.Sequential:
    """The layers before the first block."""
    if config.stem == "small":
        return nn.Sequential(
            nn.Conv2d(3, config.width, 3, 1, 1, bias=False), nn.BatchNorm2d(config.width), nn.ReLU()
        )
    return nn.Sequential(
        nn.Conv2d(3, config.width, 7, 2, 3, bias=False),
        nn.BatchNorm2d(config.width),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    )


class CBAMResNet(nn.Module):
    """Image classifier: stem, four stages of gated residual blocks, mean over places, one linear layer."""

    def __init__(self, config: CBAMConfig) -> None:
        super().__init__()
        self.config = config
        make, expansion = (basic_block, 1) if config.depth < 50 else (bottleneck, 4)
        self.stem = stem(config)
        self.blocks = nn.ModuleDict()
        inputs = config.width
        for stage, depth in enumerate(DEPTHS[config.depth]):
            planes = config.width * 2**stage
            for index in range(depth):
                stride = 2 if stage > 0 and index == 0 else 1
                self.blocks[f"stage{stage + 1}_{index}"] = make(inputs, planes, stride, config)
                inputs = planes * expansion
        self.classifier = nn.Linear(inputs, config.labels)

    def forward(self, pixels: Tensor) -> tuple[dict[str, Tensor], Taps]:
        """pixels [B, 3, H, W], normalised.

        Returns logits [B, K]; per block the taps `BLOCK.channel` [B, C] and `BLOCK.spatial` [B, 1, h, w],
        and `features` [B, C, h, w], the last feature map.
        """
        x = self.stem(pixels)
        taps: Taps = {}
        for name, block in self.blocks.items():
            x, gates = block(x)
            taps |= {f"{name}.{kind}": gate for kind, gate in gates.items()}
        taps["features"] = x
        return {"logits": self.classifier(x.mean((2, 3)))}, taps

    def programs(self) -> dict[str, MapProgram]:
        """The maps that this model's taps allow, by name."""
        names = list(self.blocks)
        return {
            "cam": ClassActivation(self.classifier),
            "spatial": SpatialGates(names),
            "channel": ChannelGates(names),
        }
