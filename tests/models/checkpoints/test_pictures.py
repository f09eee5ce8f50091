"""Pictures become pixels as transformers' own processors make them, whatever their config says of itself."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps
from transformers import (
    BitImageProcessorPil,
    CLIPImageProcessorPil,
    DeiTImageProcessorPil,
    VideoMAEImageProcessorPil,
    ViTImageProcessorPil,
)

from models.checkpoints.checkpoint import CheckpointError
from models.checkpoints.pictures import IMAGENET, picture_input
from models.checkpoints.source import Source
from service.bundle import ImageInput
from service.decode.image import ImageDecoder

NAME = "preprocessor_config.json"
IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
CLASSES = {"vit": ViTImageProcessorPil, "deit": DeiTImageProcessorPil, "xclip": CLIPImageProcessorPil}
SIDES = {"height": 24, "width": 24}
# As they are, and as published checkpoints set them; small, since the resize is Pillow's at every size.
PROCESSORS: dict[str, Callable[[], Any]] = {
    "vit": ViTImageProcessorPil,
    "vit oblong": lambda: ViTImageProcessorPil(size={"height": 20, "width": 33}, resample=3),
    "vit raw": lambda: ViTImageProcessorPil(size=SIDES, do_normalize=False, resample=0),
    "vit cropped": lambda: ViTImageProcessorPil(size=28, do_center_crop=True, crop_size=24, resample=1),
    "vit shorter side": lambda: ViTImageProcessorPil(
        size={"shortest_edge": 25}, do_center_crop=True, crop_size={"height": 24, "width": 19}
    ),
    "vit padded": lambda: ViTImageProcessorPil(size=SIDES, do_center_crop=True, crop_size=31),
    "deit": DeiTImageProcessorPil,
    "deit imagenet": lambda: DeiTImageProcessorPil(
        size=29, crop_size=24, image_mean=IMAGENET_MEAN, image_std=IMAGENET_STD
    ),
    "clip": CLIPImageProcessorPil,
    "clip small": lambda: CLIPImageProcessorPil(size=28, crop_size=24),
    "clip larger crop": lambda: CLIPImageProcessorPil(size=21, crop_size=24),
    "bit": lambda: BitImageProcessorPil(size=27, crop_size=24),
    "videomae": lambda: VideoMAEImageProcessorPil(
        size=27, crop_size=24, image_mean=IMAGENET_MEAN, image_std=IMAGENET_STD
    ),
    "one mean": lambda: ViTImageProcessorPil(size=SIDES, image_mean=0.4, image_std=0.3),
}


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """A picture in which every pixel counts."""
    channels = {"RGB": 3, "RGBA": 4, "L": 1, "LA": 2}[mode]
    values = np.random.default_rng(width).integers(0, 256, (height, width, channels), np.uint8)
    return Image.fromarray(values.squeeze(-1) if channels == 1 else values)


def encoded(image: Image.Image, kind: str, **settings: Any) -> bytes:
    body = io.BytesIO()
    image.save(body, kind, **settings)
    return body.getvalue()


def turned() -> bytes:
    """A JPEG whose EXIF says that it lies on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(noise(50, 37), "JPEG", exif=exif)


PICTURES = {
    "landscape": encoded(noise(97, 41), "JPEG"),
    "portrait": encoded(noise(40, 83), "JPEG"),
    "tiny": encoded(noise(3, 2), "PNG"),
    "one pixel wide": encoded(noise(1, 9), "PNG"),
    "odd": encoded(noise(31, 29), "PNG"),
    "grey": encoded(noise(30, 44, "L"), "JPEG"),
    "transparent": encoded(noise(30, 44, "RGBA"), "PNG"),
    "grey transparent": encoded(noise(30, 44, "LA"), "PNG"),
    "palette": encoded(noise(33, 33).convert("P"), "PNG"),
    "transparent palette": encoded(noise(33, 33).convert("P"), "PNG", transparency=7),
    "cmyk": encoded(noise(30, 44).convert("CMYK"), "JPEG"),
    "turned": turned(),
}


@pytest.fixture
def source(tmp_path: Path) -> Callable[..., Source]:
    """`source(model, config)` is a folder with that preprocessor_config.json."""

    def made(model: str | None, config: object = None, *, name: str = NAME) -> Source:
        if config is not None:
            (tmp_path / name).write_text(json.dumps(config))
        config_json = {} if model is None else {"model_type": model}
        return Source(name="it", folder=tmp_path, weights=(), config=config_json, state={})

    return made


def pixels(found: dict[str, Any], data: bytes) -> NDArray[np.float32]:
    """What the service makes of a file."""
    out: NDArray[np.float32] = ImageDecoder(ImageInput(**found)).decode(data).tensors["pixels"]
    return out


def expected(processor: Any, data: bytes) -> NDArray[np.float32]:
    """What transformers makes of it, upright and in RGB."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    video = isinstance(processor, VideoMAEImageProcessorPil)
    made = processor([[image]] if video else [image], do_convert_rgb=True, return_tensors="np").pixel_values
    out: NDArray[np.float32] = made[0, 0] if video else made[0]
    return out


@pytest.mark.parametrize("name", PROCESSORS)
def test_pixels_are_those_of_the_processor_to_the_last_bit(
    source: Callable[..., Source], tmp_path: Path, name: str
) -> None:
    processor = PROCESSORS[name]()
    processor.save_pretrained(tmp_path)
    for shape, data in PICTURES.items():
        wanted = expected(processor, data)
        found = picture_input(source(None), height=wanted.shape[1], width=wanted.shape[2])
        assert np.array_equal(pixels(found, data), wanted), shape


@pytest.mark.parametrize("model", CLASSES)
def test_what_a_config_leaves_out_is_that_of_its_class(source: Callable[..., Source], model: str) -> None:
    wanted = expected(CLASSES[model](), PICTURES["landscape"])
    for given in (
        {"image_processor_type": CLASSES[model].__name__.removesuffix("Pil")},
        {"image_processor_type": CLASSES[model].__name__.replace("ProcessorPil", "ProcessorFast")},
        {"feature_extractor_type": CLASSES[model].__name__.replace("ImageProcessorPil", "FeatureExtractor")},
        {"size": None, "do_resize": None, "image_mean": None},
    ):
        found = picture_input(source(model, given), height=224, width=224)
        assert np.array_equal(pixels(found, PICTURES["landscape"]), wanted), given


def test_sizes_in_the_words_of_old_configs(source: Callable[..., Source]) -> None:
    squashed = picture_input(
        source(None, {"feature_extractor_type": "ViTFeatureExtractor", "size": 32}), height=32, width=32
    )
    assert squashed["resize_to"] == (32, 32)
    old = {"feature_extractor_type": "CLIPFeatureExtractor", "size": 36, "crop_size": 32}
    shorter = picture_input(source(None, old), height=32, width=32)
    assert (shorter["resize_to"], shorter["height"], shorter["width"]) == (36, 32, 32)
    square = picture_input(source(None, old | {"default_to_square": True}), height=32, width=32)
    assert square["resize_to"] == (36, 36)
    pair = {"image_processor_type": "ViTImageProcessor", "size": [16, 48]}
    assert picture_input(source(None, pair), height=16, width=48)["resize_to"] == (16, 48)


def test_a_processor_that_holds_one_for_pictures_goes_first(source: Callable[..., Source]) -> None:
    inner = {"image_processor_type": "ViTImageProcessor", "size": 32}
    source(None, {"image_processor_type": "ViTImageProcessor", "size": 64})
    both = source(None, {"image_processor": inner, "processor_class": "X"}, name="processor_config.json")
    assert picture_input(both, height=32, width=32)["resize_to"] == (32, 32)


def test_without_a_config_the_default_holds_or_there_is_none(source: Callable[..., Source]) -> None:
    bare = source("vit")
    assert picture_input(bare, height=224, width=224, default=IMAGENET) == IMAGENET
    ImageInput(**IMAGENET)
    with pytest.raises(CheckpointError, match=f"no {NAME} beside the weights"):
        picture_input(bare, height=224, width=224)
    with pytest.raises(CheckpointError, match="end as 224 x 224 pixels, the model takes 256 x 256"):
        picture_input(bare, height=256, width=256, default=IMAGENET)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_processor_type": "ConvNextImageProcessor"}, "image_processor_type is 'ConvNextImageProcess"),
        ({"image_processor_type": ["ViTImageProcessor"]}, "image_processor_type is"),
        ({"image_processor_type": None}, "image_processor_type is None; supported: BitImage"),
        ({"auto_map": {"AutoImageProcessor": "a.B"}}, "auto_map: .* code of its own"),
        ({"do_resize": False}, "do_resize is False; supported: True"),
        ({"do_rescale": False}, "do_rescale is False; supported: True"),
        ({"do_rescale": "yes"}, "do_rescale is 'yes'"),
        ({"do_pad": True}, "do_pad is True"),
        ({"use_square_size": True}, "use_square_size is True"),
        ({"crop_pct": 0.9}, "crop_pct is 0.9"),
        ({"do_normalize": 1}, "do_normalize is 1, neither true nor false"),
        ({"do_center_crop": "no"}, "do_center_crop is 'no', neither"),
        ({"do_center_crop": True}, "crop_size is None, no size"),
        (
            {"do_center_crop": True, "crop_size": {"shortest_edge": 32}},
            "crop_size sets the shorter side",
        ),
        ({"rescale_factor": 1 / 127.5}, "rescale_factor is 0.0078.*; supported: 1/255"),
        ({"rescale_factor": "1/255"}, "rescale_factor is '1/255'"),
        ({"size": {"shortest_edge": 32}}, "size sets the shorter side alone"),
        (
            {"size": {"shortest_edge": 32, "longest_edge": 99}},
            "size has shortest_edge, longest_edge;",
        ),
        ({"size": {}}, "size has nothing; supported"),
        ({"size": "32"}, "size is '32', no size"),
        ({"size": [32]}, r"size is \[32\], no size"),
        ({"size": True}, "height is True, not a number"),
        ({"size": -1}, "height is -1, not a number from 1 to 16384"),
        ({"size": {"height": 32, "width": 2**40}}, "width is 1099511627776, not a number from 1 to 16384"),
        ({"size": {"height": 32, "width": "32"}}, "width is '32', not a number"),
        ({"size": 48}, "end as 48 x 48 pixels, the model takes 32 x 32"),
        ({"resample": 4}, "resample is 4; supported: 0 .nearest., 1 .lanczos."),
        ({"resample": True}, "resample is True"),
        ({"resample": "bicubic"}, "resample is 'bicubic'"),
        ({"image_mean": [0.5, 0.5]}, r"image_mean is \[0.5, 0.5\], not three numbers"),
        ({"image_mean": [0.5, 0.5, "0.5"]}, "image_mean is .*, not three numbers"),
        ({"image_mean": [0.5, 0.5, float("nan")]}, "image_mean is .*, not three numbers"),
        ({"image_mean": {"r": 0.5}}, "image_mean is .*, not three numbers"),
        ({"image_std": [0.5, 0.5, 0]}, "image_std is .*, not three numbers from 0.001 to 1000"),
        ({"image_std": float("inf")}, "image_std is inf, not three numbers"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    source: Callable[..., Source], change: dict[str, Any], message: str
) -> None:
    given = {"image_processor_type": "ViTImageProcessor", "size": 32} | change
    with pytest.raises(CheckpointError, match=f"^{NAME}:.*{message}"):
        picture_input(source("bert", given), height=32, width=32)
