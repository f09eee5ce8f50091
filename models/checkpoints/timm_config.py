"""The config.json of timm: how the network was built, its labels, and how pictures become its input."""

from __future__ import annotations

import math
from typing import Any

from models.checkpoints.checkpoint import CheckpointError
from models.checkpoints.config import Config
from models.checkpoints.labels import check_names, in_order
from models.checkpoints.pictures import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    LEAST_MEAN,
    LEAST_STD,
    MOST_PIXELS,
    channels,
)

PLACE = "config.json: pretrained_cfg"
CROP = 0.875  # what timm cuts out where the config does not say
RESNET = {"crop_pct": 0.95}  # the `pretrained_cfg` that timm gives a ResNet of 18 to 101 layers it has built


def check_resnet(config: Config, *, name: str) -> None:
    """Refuse the ResNets whose keys are those of `name` and which compute something else.

    What timm's arguments change in a ResNet's keys or shapes is found there. Raises CheckpointError.
    """
    config.only("architecture", name)
    config.only("global_pool", "avg")
    built = config.part("model_args")
    built.only("global_pool", "avg")
    built.only("output_stride", 32)
    built.only("act_layer", "relu", None)
    built.only("norm_layer", "batchnorm2d", "batchnorm", None)
    built.only("aa_layer", None)
    built.part("block_args").only("attn_layer", "cbam")


def labels(config: Config) -> tuple[str, ...] | None:
    """What the labels are called: their descriptions, else their names; None where the config has none.

    Raises CheckpointError.
    """
    named = config.given("label_names") or config.part("pretrained_cfg").given("label_names")
    if named is None:
        return None
    if isinstance(named, dict):
        named = in_order("config.json: label_names", named)
    described = config.part("label_descriptions")
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise CheckpointError("config.json: label_names is no list of names")
    return check_names(
        "config.json: label_names, label_descriptions", [described.given(name) or name for name in named]
    )


def picture_input(config: Config) -> dict[str, Any]:
    """timm's evaluation from `pretrained_cfg`, in the words of the bundle's PictureInput.

    Sizes are those of training, which timm too takes unless asked for the test's. Raises CheckpointError.
    """
    size = config.given("input_size") or [3, 224, 224]
    if not isinstance(size, list) or len(size) != 3 or size[0] != 3:
        raise CheckpointError(f"{PLACE}: input_size is {size!r}; supported: [3, height, width]")
    sides = {"height": size[1], "width": size[2]}
    height, width = (
        Config(sides, place=f"{PLACE}: input_size").count(side, most=MOST_PIXELS) for side in sides
    )
    share = config.real("crop_pct", CROP)
    config.only("crop_mode", "center", "squash")
    config.only("interpolation", "bicubic", "bilinear", "lanczos", "nearest")
    squashed = config.given("crop_mode") == "squash"
    if not 0.1 <= share <= 1:
        raise CheckpointError(f"{PLACE}: crop_pct is {share}, not a number from 0.1 to 1")
    if height != width and not squashed:
        raise CheckpointError(
            f"{PLACE}: input_size is {height} x {width}; supported: squares, or crop_mode 'squash'"
        )
    resized = (math.floor(height / share), math.floor(width / share))
    return {
        "resize_to": resized if squashed else resized[0],
        "height": height,
        "width": width,
        "crop": "even",
        "interpolation": config.given("interpolation") or "bicubic",
        "mean": channels(f"{PLACE}: mean", config.given("mean") or IMAGENET_MEAN, least=LEAST_MEAN),
        "std": channels(f"{PLACE}: std", config.given("std") or IMAGENET_STD, least=LEAST_STD),
    }
