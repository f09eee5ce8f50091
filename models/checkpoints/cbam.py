"""CBAM ResNets: the checkpoints of the original repository, Jongchan/attention-module, and those of timm.

Both name the trunk as torchvision does and differ in the gates. The picture is not theirs to say in files of
weights alone: it is that of a preprocessor_config.json, or ImageNet's as the original or timm evaluates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.cbam import DEPTHS, CBAMConfig, CBAMResNet, Depth, Stem
from models.checkpoints import timm_config
from models.checkpoints.checkpoint import Checkpoint, CheckpointError, Choices
from models.checkpoints.config import Config
from models.checkpoints.keys import Rule, fill, one, rule, shape
from models.checkpoints.labels import check_count, read_labels, unnamed
from models.checkpoints.pictures import IMAGENET, picture_input
from models.checkpoints.source import Source

FIRST = "layer1.0.conv1.weight"
BLOCK = r"layer(\d+)\.(\d+)\."
OURS = "blocks.stage{}_{}."
STEMS: dict[int, Stem] = {7: "imagenet", 3: "small"}  # by the size of the first convolution
WIDEST = 2**12  # of the stem; the widest ResNet published has 64 x 16

TRUNK = [
    rule(r"conv1\.weight", "stem.0.weight"),
    rule(r"bn1\.(.+)", "stem.1.{}"),
    rule(rf"{BLOCK}conv1\.weight", f"{OURS}branch.0.weight"),
    rule(rf"{BLOCK}bn1\.(.+)", f"{OURS}branch.1.{{}}"),
    rule(rf"{BLOCK}conv2\.weight", f"{OURS}branch.3.weight"),
    rule(rf"{BLOCK}bn2\.(.+)", f"{OURS}branch.4.{{}}"),
    rule(rf"{BLOCK}conv3\.weight", f"{OURS}branch.6.weight"),
    rule(rf"{BLOCK}bn3\.(.+)", f"{OURS}branch.7.{{}}"),
    rule(rf"{BLOCK}downsample\.(.+)", f"{OURS}shortcut.{{}}"),
    rule(r"fc\.(.+)", "classifier.{}"),
]


def matrix(tensor: Tensor) -> Tensor:
    """A 1x1 convolution [O, I, 1, 1] as a linear map [O, I]."""
    return tensor.flatten(1)


def flipped(tensor: Tensor) -> Tensor:
    """timm's spatial gate sees [mean, maximum], ours [maximum, mean]."""
    return tensor.flip(1)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What the gates are called: `squeeze` is the first linear map of the channel gate."""

    squeeze: str
    gates: tuple[Rule, ...]


ORIGINAL = Layout(
    squeeze="cbam.ChannelGate.mlp.1",
    gates=(
        rule(rf"{BLOCK}cbam\.ChannelGate\.mlp\.1\.(.+)", f"{OURS}cbam.channel.mlp.0.{{}}"),
        rule(rf"{BLOCK}cbam\.ChannelGate\.mlp\.3\.(.+)", f"{OURS}cbam.channel.mlp.2.{{}}"),
        rule(rf"{BLOCK}cbam\.SpatialGate\.spatial\.(.+)", f"{OURS}cbam.spatial.{{}}"),
    ),
)
TIMM = Layout(
    squeeze="se.channel.fc1",
    gates=(
        rule(rf"{BLOCK}se\.channel\.fc1\.weight", f"{OURS}cbam.channel.mlp.0.weight", split=one(matrix)),
        rule(rf"{BLOCK}se\.channel\.fc2\.weight", f"{OURS}cbam.channel.mlp.2.weight", split=one(matrix)),
        rule(rf"{BLOCK}se\.channel\.fc1\.bias", f"{OURS}cbam.channel.mlp.0.bias"),
        rule(rf"{BLOCK}se\.channel\.fc2\.bias", f"{OURS}cbam.channel.mlp.2.bias"),
        rule(
            rf"{BLOCK}se\.spatial\.conv\.conv\.weight",
            f"{OURS}cbam.spatial.conv.weight",
            split=one(flipped),
        ),
        rule(rf"{BLOCK}se\.spatial\.conv\.bn\.(.+)", f"{OURS}cbam.spatial.bn.{{}}"),
    ),
)


def fits(source: Source) -> bool:
    """Whether this is a ResNet named as these are, so that one without gates is refused for that."""
    return FIRST in source.state


def read(source: Source, choices: Choices) -> Checkpoint:
    """Raises CheckpointError where the checkpoint does not fit."""
    state, settings = source.state, Config(source.config)
    layout = layout_of(state)
    config = sizes(state, layout)
    if layout is TIMM:
        timm_config.check_resnet(settings, name=f"resnet{config.depth}")
    with torch.device("meta"):
        model = CBAMResNet(config)
    fill(model, state, [*TRUNK, *layout.gates])
    return source.checkpoint(
        model,
        family="image",
        architecture=f"CBAM ResNet-{config.depth}, {config.width} wide",
        labels=labels(settings, config.labels, choices),
        preprocessing={"kind": "image", **picture(source, settings, layout, config.stem)},
    )


def layout_of(state: Mapping[str, Tensor]) -> Layout:
    """Whose names the gates have; raises CheckpointError where there are none of CBAM's."""
    if bam := sorted(key for key in state if re.match(r"bam\d\.", key)):
        raise CheckpointError(f"a ResNet with BAM, of which CBAM is not a part: {', '.join(bam)}")
    for layout in (ORIGINAL, TIMM):
        if any(f".{layout.squeeze}." in key for key in state):
            return layout
    other = sorted(key for key in state if not any(re.fullmatch(one.pattern, key) for one in TRUNK))
    raise CheckpointError(
        f"a ResNet without CBAM's gates: no key with {ORIGINAL.squeeze} or {TIMM.squeeze}"
        + (f"; beside a plain ResNet's keys it has {', '.join(other)}" if other else "")
    )


def sizes(state: Mapping[str, Tensor], layout: Layout) -> CBAMConfig:
    """The sizes of a network from its keys and shapes; raises CheckpointError."""
    width, colours, *kernel = shape(state, "conv1.weight", axes=4)
    stem = STEMS.get(kernel[0])
    if stem is None or (stem == "small" and layout is TIMM):
        raise CheckpointError(f"conv1.weight: a kernel of {kernel[0]}x{kernel[1]}; supported: 7x7")
    if colours != 3 or width > WIDEST:
        raise CheckpointError(
            f"conv1.weight: from {colours} to {width} channels; supported: from 3 to at most {WIDEST}"
        )
    outputs, _ = shape(state, "fc.weight", axes=2)
    # The last stage is the widest: what its gates are reduced to is least rounded.
    squeeze = f"layer4.0.{layout.squeeze}"
    hidden, channels, *_ = shape(state, f"{squeeze}.weight", axes=2 if layout is ORIGINAL else 4)
    if hidden > channels:
        raise CheckpointError(f"{squeeze}.weight: {channels} channels to {hidden}, not to fewer")
    return CBAMConfig(
        labels=outputs,
        depth=depth(state),
        width=width,
        stem=stem,
        reduction=channels // hidden,
        gate_bias=f"{squeeze}.bias" in state,
    )


def depth(state: Mapping[str, Tensor]) -> Depth:
    """The network's depth from its blocks' number in each stage and their kind; raises CheckpointError."""
    blocks = {found.groups() for key in state if (found := re.match(BLOCK, key))}
    stages = tuple(sum(stage == str(index) for stage, _ in blocks) for index in range(1, 5))
    bottleneck = "layer1.0.conv3.weight" in state
    for layers, counts in DEPTHS.items():
        if counts == stages and (layers >= 50) == bottleneck:
            return layers
    kind, known = "bottleneck" if bottleneck else "basic", ", ".join(map(str, DEPTHS))
    raise CheckpointError(
        f"stages of {', '.join(map(str, stages))} {kind} blocks; supported: those of ResNet-{known}"
    )


def labels(settings: Config, outputs: int, choices: Choices) -> tuple[str, ...]:
    """The labels that were chosen, else those in timm's config, never guessed; raises CheckpointError."""
    if choices.labels is not None:
        return check_count(read_labels(choices.labels), outputs)
    named = timm_config.labels(settings)
    if named is None and choices.unnamed:
        return unnamed(outputs)
    if named is None:
        raise CheckpointError(
            f"labels: the checkpoint does not name its {outputs}; give them with --labels FILE, "
            "or --labels imagenet-1k for the 1000 of ImageNet"
        )
    return check_count(named, outputs)


def picture(source: Source, settings: Config, layout: Layout, stem: Stem) -> dict[str, Any]:
    """How a picture becomes the network's input, in the words of the bundle's schema."""
    if settings.given("pretrained_cfg") is not None:
        return timm_config.picture_input(settings.part("pretrained_cfg"))
    if layout is TIMM:
        return picture_input(source, default=timm_config.picture_input(Config(timm_config.RESNET)))
    return picture_input(source, default={**IMAGENET, "crop": "even"} if stem == "imagenet" else None)
