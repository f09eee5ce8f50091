"""Pictures to pixels: the image processor configs of transformers, checked against the model's size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from models.checkpoints.checkpoint import CheckpointError
from models.checkpoints.config import Config
from models.checkpoints.source import Source

PREPROCESSOR = "preprocessor_config.json"
PROCESSOR = "processor_config.json"  # since transformers 5 a processor with a tokenizer keeps both in it
MOST_PIXELS = 2**14  # of a side
LEAST_MEAN, LEAST_STD = -1000.0, 0.001
HALF = [0.5, 0.5, 0.5]
IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]
INTERPOLATIONS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # by Pillow's number

# What ImageNet's classifiers are evaluated with, in the words of the bundle's PictureInput.
IMAGENET: dict[str, Any] = {
    "resize_to": 256,
    "height": 224,
    "width": 224,
    "interpolation": "bilinear",
    "mean": IMAGENET_MEAN,
    "std": IMAGENET_STD,
}

# What a config that leaves a field out, or says null, gets from its class.
EVERY: dict[str, Any] = {
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "do_center_crop": False,
    "do_pad": False,
    "use_square_size": False,
    "rescale_factor": 1 / 255,
    "default_to_square": True,
    "resample": 2,
    "image_mean": HALF,
    "image_std": HALF,
    "size": {"height": 224, "width": 224},
}
CROPPED = {"do_center_crop": True, "crop_size": {"height": 224, "width": 224}}
BY_SHORTER_SIDE = {**EVERY, **CROPPED, "size": {"shortest_edge": 224}, "default_to_square": False}
CLIP = {**BY_SHORTER_SIDE, "resample": 3, "image_mean": CLIP_MEAN, "image_std": CLIP_STD}
CLASSES: dict[str, dict[str, Any]] = {
    "ViTImageProcessor": EVERY,
    "DeiTImageProcessor": {**EVERY, **CROPPED, "size": {"height": 256, "width": 256}, "resample": 3},
    "CLIPImageProcessor": CLIP,
    "BitImageProcessor": CLIP,
    "VideoMAEImageProcessor": BY_SHORTER_SIDE,
}
# The class of a config that names none.
CLASS_OF_MODEL = {"vit": "ViTImageProcessor", "deit": "DeiTImageProcessor", "xclip": "CLIPImageProcessor"}


def picture_input(
    source: Source,
    *,
    height: int | None = None,
    width: int | None = None,
    default: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """How pictures become this model's input from preprocessor_config.json, else `default`.

    In the words of the bundle's PictureInput. Raises CheckpointError where the source does not say and
    there is no default, where it says what cannot be done, or where the result is not height x width; a
    model for pictures of every size names neither.
    """
    place, given = _document(source)
    if given is None:
        if default is None:
            raise CheckpointError(
                f"no {PREPROCESSOR} beside the weights: how pictures become this model's input is not known"
            )
        found = dict(default)
    else:
        found = _read(place, given, model=str(source.config.get("model_type")))
    if None not in (height, width) and (found["height"], found["width"]) != (height, width):
        raise CheckpointError(
            f"{place}: pictures end as {found['height']} x {found['width']} pixels, "
            f"the model takes {height} x {width}"
        )
    return found


def _document(source: Source) -> tuple[str, dict[str, Any] | None]:
    """The config and the name of where it is, in the order of transformers."""
    inside = (source.document(PROCESSOR) or {}).get("image_processor")
    if isinstance(inside, dict):
        return f"{PROCESSOR}: image_processor", inside
    return PREPROCESSOR, source.document(PREPROCESSOR)


def _read(place: str, given: Mapping[str, Any], *, model: str) -> dict[str, Any]:
    defaults = CLASSES[_class(place, given, model)]
    config = Config(
        defaults | {name: value for name, value in given.items() if value is not None}, place=place
    )
    config.only("do_resize", True)
    config.only("do_rescale", True)
    config.only("do_pad", False)
    config.only("use_square_size", False)
    config.only("crop_pct", None)
    factor = config.real("rescale_factor", EVERY["rescale_factor"])
    if not math.isclose(factor, 1 / 255, rel_tol=1e-6):
        raise CheckpointError(f"{place}: rescale_factor is {factor!r}; supported: 1/255")
    normalised = config.flag("do_normalize", True)
    resized = _size(config, place, "size", square=config.flag("default_to_square", True))
    cropped = config.flag("do_center_crop", False)
    kept = _size(config, place, "crop_size", square=True) if cropped else resized
    if isinstance(kept, int):
        name = "crop_size" if cropped else "size"
        raise CheckpointError(f"{place}: {name} sets the shorter side alone, so pictures end in many sizes")
    return {
        "resize_to": resized,
        "height": kept[0],
        "width": kept[1],
        "interpolation": _interpolation(config, place),
        "mean": channels(f"{place}: image_mean", config.given("image_mean"), least=LEAST_MEAN)
        if normalised
        else [0.0] * 3,
        "std": channels(f"{place}: image_std", config.given("image_std"), least=LEAST_STD)
        if normalised
        else [1.0] * 3,
    }


def _class(place: str, given: Mapping[str, Any], model: str) -> str:
    """The processor's name without what told its backends and generations apart."""
    named = given.get("image_processor_type") or given.get("feature_extractor_type")
    if named is None:
        named = CLASS_OF_MODEL.get(model)
    short = str(named).replace("FeatureExtractor", "ImageProcessor").removesuffix("Fast").removesuffix("Pil")
    if short not in CLASSES:
        raise CheckpointError(
            f"{place}: image_processor_type is {named!r}; supported: {', '.join(sorted(CLASSES))}"
        )
    return short


def _size(config: Config, place: str, name: str, *, square: bool) -> int | tuple[int, int]:
    """A shorter side, or height and width; `square` is how a single number is meant."""
    value = config.given(name)
    if isinstance(value, int):
        value = {"height": value, "width": value} if square else {"shortest_edge": value}
    elif isinstance(value, list) and len(value) == 2:
        value = {"height": value[0], "width": value[1]}
    if not isinstance(value, dict):
        raise CheckpointError(f"{place}: {name} is {value!r}, no size of a picture")
    sides = {key: side for key, side in value.items() if side is not None}
    part = Config(sides, place=f"{place}: {name}")
    if sides.keys() == {"height", "width"}:
        return part.count("height", most=MOST_PIXELS), part.count("width", most=MOST_PIXELS)
    if sides.keys() == {"shortest_edge"}:
        return part.count("shortest_edge", most=MOST_PIXELS)
    raise CheckpointError(
        f"{place}: {name} has {', '.join(sides) or 'nothing'}; supported: height and width, or shortest_edge"
    )


def _interpolation(config: Config, place: str) -> str:
    value = config.given("resample")
    if isinstance(value, bool) or not isinstance(value, int) or value not in INTERPOLATIONS:
        known = ", ".join(f"{number} ({name})" for number, name in INTERPOLATIONS.items())
        raise CheckpointError(f"{place}: resample is {value!r}; supported: {known}")
    return INTERPOLATIONS[value]


def channels(place: str, value: Any, *, least: float) -> list[float]:
    """What stands at `place` as three numbers from `least` to 1000; one stands for all three."""
    numbers = value if isinstance(value, list) else [value] * 3
    if len(numbers) != 3 or not all(_number(number) and least <= number <= 1000 for number in numbers):
        raise CheckpointError(f"{place} is {value!r}, not three numbers from {least:g} to 1000")
    return [float(number) for number in numbers]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
