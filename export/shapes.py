"""Example inputs of every family and which axes of a tensor vary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.text import TextTransformer
from service.bundle import ImageInput, TextInput, VideoInput

Tensors = dict[str, Tensor]
Axes = tuple[str | int, ...]
Preprocessing = TextInput | ImageInput | VideoInput


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A batch of this many inputs; `lengths` in tokens, for text alone."""

    batch: int
    lengths: tuple[int, ...] = ()

    def __str__(self) -> str:
        lengths = f", lengths {'/'.join(map(str, self.lengths))}" if self.lengths else ""
        return f"batch {self.batch}{lengths}"


def tracing_shape(spec: Preprocessing) -> Shape:
    """The shape every graph is traced with."""
    return Shape(batch=2, lengths=(9, 7)) if isinstance(spec, TextInput) else Shape(batch=2)


def verified_shapes(spec: Preprocessing) -> list[Shape]:
    """Shapes that were not used for tracing: batch 1, 2, 3; several lengths, padded and not."""
    if not isinstance(spec, TextInput):
        return [Shape(batch=1), Shape(batch=2), Shape(batch=3)]
    longest = min(spec.max_tokens, 160)
    lengths = [(3,), (longest,), (12, 12), (17, 2), (longest, 5, longest // 2), (6, 31, 30)]
    return [Shape(batch=len(row), lengths=row) for row in lengths if max(row) <= spec.max_tokens]


def example_inputs(model: nn.Module, spec: Preprocessing, shape: Shape, *, seed: int) -> Tensors:
    """Random inputs of this shape, by name; texts are padded on the right."""
    generator = torch.Generator().manual_seed(seed)
    if isinstance(spec, TextInput):
        return _text_inputs(model, spec, shape, generator)
    size = (3, spec.height, spec.width)
    if isinstance(spec, VideoInput):
        return {"frames": torch.randn((shape.batch, spec.frames, *size), generator=generator)}
    return {"pixels": torch.randn((shape.batch, *size), generator=generator)}


def _text_inputs(model: nn.Module, spec: TextInput, shape: Shape, generator: torch.Generator) -> Tensors:
    assert isinstance(model, TextTransformer)
    lengths = torch.tensor(shape.lengths)
    size = (shape.batch, int(lengths.max()))
    ids = torch.randint(model.config.vocabulary, size, generator=generator)
    padded = torch.arange(size[1]) >= lengths[:, None]
    inputs = {"input_ids": ids.masked_fill(padded, spec.pad_id), "lengths": lengths}
    if spec.token_types:
        inputs["token_types"] = torch.randint(model.config.token_types, size, generator=generator)
    return inputs


def varying_axes(model: nn.Module, spec: Preprocessing) -> dict[str, Axes]:
    """Every input, output and tap with its axes: "batch" or "token" where the size varies, else the size.

    Found by running the model at two shapes that share no size.
    """
    first, second = Shape(batch=2, lengths=(9, 7)), Shape(batch=3, lengths=(13, 11, 5))
    one, other = (run(model, example_inputs(model, spec, shape, seed=0)) for shape in (first, second))
    names = {first.batch: "batch", max(first.lengths): "token"}
    return {
        name: tuple(
            size if size == other[name].shape[axis] else names[size] for axis, size in enumerate(tensor.shape)
        )
        for name, tensor in one.items()
    }


@torch.no_grad()
def run(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensors:
    """Inputs, outputs and taps of one forward, by name."""
    outputs, taps = model(**inputs)
    return {**inputs, **outputs, **taps}


def output_names(model: nn.Module, spec: Preprocessing) -> tuple[list[str], list[str]]:
    """The names of the model's outputs and of its taps, in order."""
    with torch.no_grad():
        outputs, taps = model(**example_inputs(model, spec, tracing_shape(spec), seed=0))
    return list(outputs), list(taps)
