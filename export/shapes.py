"""Example inputs of every family and which axes of a tensor vary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.programs import MapProgram
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


@dataclass(frozen=True, kw_only=True)
class Signature:
    """A model's outputs and taps by name, in order, and the axes of these and of its inputs.

    An axis is "batch" or "token" where the size varies, else the size.
    """

    outputs: tuple[str, ...]
    taps: tuple[str, ...]
    axes: dict[str, Axes]


@torch.no_grad()
def signature(model: nn.Module, spec: Preprocessing) -> Signature:
    """Found by running the model at two shapes that share no size."""
    first, second = Shape(batch=2, lengths=(9, 7)), Shape(batch=3, lengths=(13, 11, 5))
    inputs = example_inputs(model, spec, first, seed=0)
    outputs, taps = model(**inputs)
    other = run(model, example_inputs(model, spec, second, seed=0))
    names = {first.batch: "batch", max(first.lengths): "token"}
    axes = {
        name: tuple(
            size if size == other[name].shape[axis] else names[size] for axis, size in enumerate(tensor.shape)
        )
        for name, tensor in {**inputs, **outputs, **taps}.items()
    }
    return Signature(outputs=tuple(outputs), taps=tuple(taps), axes=axes)


@torch.no_grad()
def run(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensors:
    """Inputs, outputs and taps of one forward, by name."""
    outputs, taps = model(**inputs)
    return {**inputs, **outputs, **taps}


def map_programs(model: nn.Module) -> dict[str, MapProgram]:
    """The maps that a model's taps allow, by name."""
    programs: dict[str, MapProgram] = model.programs()  # type: ignore[operator]
    return programs
