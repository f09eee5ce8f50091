"""ViT and DeiT from a folder of transformers to served predictions and maps, from a picture's own bytes."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor
from transformers import (
    DeiTConfig,
    DeiTForImageClassificationWithTeacher,
    DeiTImageProcessorPil,
    PreTrainedModel,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)

from service.job import Job, Outcome, Payload, Wanted
from service.maps import DEFAULT, Selection
from service.predictor import Predictor

Array = NDArray[Any]
Relevance = Callable[..., tuple[Array, Array]]
LOGITS, ROWS, ROLLOUT, RELEVANCE = 1e-4, 1e-5, 1e-6, 1e-4  # how far from transformers
SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "image_size": 48,
    "patch_size": 8,
}
LABELS = {index: f"thing {index}" for index in range(7)}


def jpeg(width: int, height: int) -> bytes:
    """Shapes on a gradient, by size."""
    ramp = np.linspace(0, 255, width * height * 3).reshape(height, width, 3).astype(np.uint8)
    image = Image.fromarray(ramp)
    draw = ImageDraw.Draw(image)
    rng = np.random.default_rng(width)
    for _ in range(12):
        x, y, side = rng.integers(0, width), rng.integers(0, height), rng.integers(5, max(6, height // 2))
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        draw.ellipse((x, y, x + side, y + side), fill=colour)
    body = io.BytesIO()
    image.save(body, "JPEG", quality=90)
    return body.getvalue()


PICTURES = [jpeg(320, 200), jpeg(119, 233), jpeg(60, 60)]


def stirred(model: PreTrainedModel) -> PreTrainedModel:
    """Every weight far from where training starts, so that none can be left out unnoticed."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 1.2 * (parameter[0].numel() ** -0.5) if parameter.ndim in (2, 4) else 0.3
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    model.set_attn_implementation("eager")
    return model.eval()


@dataclass(frozen=True, kw_only=True)
class Theirs:
    """What transformers says of each picture; attentions [layers][picture, H, N, N]."""

    model: PreTrainedModel
    pixels: Tensor
    logits: Array
    attentions: list[Array]
    exact_logits: Array
    exact_attentions: list[Array]


@torch.no_grad()
def ask(model: PreTrainedModel, processor: Callable[..., Any]) -> Theirs:
    images = [Image.open(io.BytesIO(data)) for data in PICTURES]
    pixels = processor(images, return_tensors="pt").pixel_values
    found = model(pixels, output_attentions=True)
    exact = model.double()(pixels.double(), output_attentions=True)
    model.float()
    return Theirs(
        model=model,
        pixels=pixels,
        logits=found.logits.numpy(),
        attentions=[attention.numpy() for attention in found.attentions],
        exact_logits=exact.logits.numpy(),
        exact_attentions=[attention.numpy() for attention in exact.attentions],
    )


def serve(predictor: Predictor, selection: Selection = DEFAULT) -> list[Outcome]:
    wanted = Wanted(maps=frozenset(spec.name for spec in predictor.manifest.maps), selection=selection)
    items = [predictor.decode(Payload(data=data, content_type="image/jpeg")) for data in PICTURES]
    return predictor.run([Job(item=item, wanted=wanted) for item in items])


def check(predictor: Predictor, theirs: Theirs, *, prefix: int) -> None:
    """Logits, labels, the rows of every layer and head, and rollout of every picture."""
    outcomes = serve(predictor)
    assert predictor.manifest.parity.attention_nodes == len(theirs.attentions)
    assert predictor.manifest.labels == tuple(theirs.model.config.id2label.values())
    logits = np.stack([outcome.logits for outcome in outcomes])
    rounding = float(np.abs(theirs.logits - theirs.exact_logits).max())
    assert np.abs(logits - theirs.logits).max() < max(LOGITS, 2 * rounding)
    assert (logits.argmax(1) == theirs.logits.argmax(1)).all()
    assert theirs.logits.std() > 0.1
    for name, token in (("cls", 0), ("distillation", 1))[:prefix]:
        for layer, attention in enumerate(theirs.attentions):
            found = np.stack([outcome.maps[name].layers[layer] for outcome in outcomes])
            rows = attention[:, :, token, prefix:]
            assert found.shape[:2] == rows.shape[:2]
            assert np.abs(found.reshape(rows.shape) - rows).max() < ROWS, (name, layer)
    found = np.stack([outcome.maps["attention"].layers[0] for outcome in outcomes])  # of the last layer
    whole = theirs.attentions[-1][..., prefix:]
    assert np.abs(found.reshape(whole.shape) - whole).max() < ROWS
    found = np.stack([outcome.maps["rollout"].layers[0] for outcome in outcomes])
    wanted = rollout(theirs.exact_attentions)[:, 0, prefix:]
    assert np.abs(found.reshape(wanted.shape) - wanted).max() < ROLLOUT
    for heads, fuse in (("max", np.max), ("min", np.min)):
        outcomes = serve(predictor, Selection(heads=heads))
        found = np.stack([outcome.maps["rollout"].layers[0] for outcome in outcomes])
        wanted = rollout(theirs.exact_attentions, fuse)[:, 0, prefix:]
        assert np.abs(found.reshape(wanted.shape) - wanted).max() < ROLLOUT


def check_relevance(predictor: Predictor, theirs: Theirs, relevance: Relevance, *, prefix: int) -> None:
    """Both maps of gradients of every picture, of its own label and of another one."""
    predicted = [int(logits.argmax()) for logits in theirs.logits]
    for target in (None, 3):
        outcomes = serve(predictor, Selection(target=target))
        for pixels, label, outcome in zip(theirs.pixels, predicted, outcomes, strict=True):
            both = []
            for model, x in ((theirs.model, pixels), (theirs.model.double(), pixels.double())):
                output = model(x[None], output_attentions=True)
                logit = output.logits[0, label if target is None else target]
                both.append(relevance(logit, output.attentions))
                theirs.model.float()
            for name, fp32, truth in zip(("relevance", "grad_sam"), *both, strict=True):
                found, wanted = outcome.maps[name].layers[0].flatten(), truth[prefix:]
                rounding = np.abs(fp32 - truth).max()
                assert np.abs(found - wanted).max() <= max(RELEVANCE * np.abs(wanted).max(), 2 * rounding), (
                    name
                )
                assert wanted.max() > 1.2 * wanted.mean() > 0  # far from the same everywhere


def rollout(attentions: list[Array], fuse: Callable[..., Array] = np.mean) -> Array:
    """The whole product of A + I, its rows divided by their sums, last layer first: [picture, N, N]."""
    product = np.eye(attentions[0].shape[-1])
    for attention in attentions:
        step = fuse(attention, 1) + np.eye(attention.shape[-1])
        product = step / step.sum(-1, keepdims=True) @ product
    return product


def test_vit_from_a_jpeg_is_that_of_transformers(
    export: Callable[..., Predictor], relevance: Relevance, tmp_path: Path, size: str
) -> None:
    torch.manual_seed(0)
    sizes = SMALL if size == "small" else {}
    processor = ViTImageProcessorPil(size=SMALL["image_size"]) if sizes else ViTImageProcessorPil()
    labels = LABELS if sizes else {index: f"thing {index}" for index in range(1000)}
    model = stirred(ViTForImageClassification(ViTConfig(**sizes, id2label=labels)))
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    predictor, theirs = export(tmp_path), ask(model, processor)
    check(predictor, theirs, prefix=1)
    check_relevance(predictor, theirs, relevance, prefix=1)


def test_deit_with_its_teacher_from_a_jpeg_is_that_of_transformers(
    export: Callable[..., Predictor], relevance: Relevance, tmp_path: Path, size: str
) -> None:
    torch.manual_seed(0)
    sizes = SMALL if size == "small" else {}
    processor = DeiTImageProcessorPil(size=54, crop_size=48) if sizes else DeiTImageProcessorPil()
    labels = LABELS if sizes else {index: f"thing {index}" for index in range(1000)}
    model = stirred(DeiTForImageClassificationWithTeacher(DeiTConfig(**sizes, id2label=labels)))
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    predictor, theirs = export(tmp_path), ask(model, processor)
    check(predictor, theirs, prefix=2)
    check_relevance(predictor, theirs, relevance, prefix=2)
