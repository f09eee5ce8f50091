"""Example inputs of every family and which axes of a tensor vary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn

from models.text import TextTransformer
from service.bundle import ImageInput, TextInput, VideoInput

FEWEST_TOKENS = 16  # that a text model has to take: tracing needs 13, and no real model has less
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


def signature(model: nn.Module, spec: Preprocessing) -> Signature:
    """Found from the shapes alone, with nothing computed, at two batches that share no size."""
    first, second = Shape(batch=2, lengths=(9, 7)), Shape(batch=3, lengths=(13, 11, 5))
    inputs, outputs, taps = _shapes(model, spec, first)
    other = {name: tensor for part in _shapes(model, spec, second) for name, tensor in part.items()}
    names = {first.batch: "batch", max(first.lengths): "token"}
    axes = {
        name: tuple(
            size if size == other[name].shape[axis] else names[size] for axis, size in enumerate(tensor.shape)
        )
        for name, tensor in {**inputs, **outputs, **taps}.items()
    }
    return Signature(outputs=tuple(outputs), taps=tuple(taps), axes=axes)


def _shapes(model: nn.Module, spec: Preprocessing, shape: Shape) -> tuple[Tensors, Tensors, Tensors]:
    """Inputs, outputs and taps of one forward, as tensors without values."""
    state = {
        name: tensor.to("meta") for name, tensor in chain(model.named_parameters(), model.named_buffers())
    }
    inputs = {name: x.to("meta") for name, x in example_inputs(model, spec, shape, seed=0).items()}
    outputs, taps = torch.func.functional_call(model, state, args=(), kwargs=inputs)
    return inputs, outputs, taps


@torch.no_grad()
def run(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensors:
    """Inputs, outputs and taps of one forward, by name."""
    outputs, taps = model(**inputs)
    return {**inputs, **outputs, **taps}
