"""What the maps of a model are compared with: every softmax written out, and what autograd says of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

from models import attention
from models.attention import MultiHeadAttention


@dataclass(frozen=True)
class Seen:
    """One attention in a forward: what it was given [B, N, D], and its probabilities [B, H, N, M]."""

    module: MultiHeadAttention
    source: Tensor
    probabilities: Tensor

    @property
    def gradient(self) -> Tensor:
        """Of the logits that went backward, by the probabilities."""
        assert self.probabilities.grad is not None
        return self.probabilities.grad

    def given(self) -> Tensor:
        """f(x) = (x W_V + b_V) W_O of each head: [B, M, S] -> [B, H, M, D]."""
        module, width = self.module, self.module.out.weight.shape[1] // self.module.heads
        parts = []
        for head in range(module.heads):
            part = slice(head * width, (head + 1) * width)
            value = self.source @ module.value.weight[part].T
            if module.value.bias is not None:
                value = value + module.value.bias[part]
            parts.append(value @ module.out.weight[:, part].T)
        return torch.stack(parts, 1)


@dataclass(frozen=True)
class Watched:
    """A forward of a model in float64: its logits with their graph, its taps, each attention by module."""

    model: nn.Module
    inputs: Mapping[str, Tensor]
    logits: Tensor
    taps: Mapping[str, Tensor]
    seen: Mapping[str, Seen] = field(repr=False)

    def backward(self, target: Tensor) -> None:
        """From the logit of one label of each input [B] back to every attention."""
        self.logits.gather(1, target[:, None]).sum().backward()

    @torch.no_grad()
    def map(self, name: str, *, layer: str = "", tuned: bool = False, **given: Tensor) -> tuple[Tensor, ...]:
        """What the program of a map makes of the taps; of those of one layer, where it is sliced."""
        program = self.model.programs()[name]  # type: ignore[operator]
        if tuned:
            program = program.tuned
        own = {name.removeprefix(f"{layer}."): tap for name, tap in self.taps.items()} if layer else {}
        tensors = {**self.taps, **self.inputs, **own, **given}
        out: tuple[Tensor, ...] = program(*(tensors[name] for name in program.inputs))
        return out


def softmax(
    query: Tensor,
    key: Tensor,
    *,
    lengths: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """exp over its sum, where a key that may not be seen is left out: what `models.attention.weights` is."""
    products = torch.einsum("bhnd,bhmd->bhnm", query, key)
    products = products / math.sqrt(query.shape[-1]) if scale is None else products * scale
    allowed = torch.ones_like(products, dtype=torch.bool)
    if causal:
        allowed = allowed.tril()
    if lengths is not None:
        for sample, length in enumerate(lengths.tolist()):
            allowed[sample, :, :, length:] = False
    powers = products.exp() * allowed
    return powers / powers.sum(-1, keepdim=True)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Watched]:
    """`watch(model, **inputs)` runs a model in float64 with `softmax` for every attention."""

    def run(model: nn.Module, **inputs: Tensor) -> Watched:
        model = model.double().eval()
        inputs = {name: x.double() if x.is_floating_point() else x for name, x in inputs.items()}
        seen: dict[str, Seen] = {}
        with monkeypatch.context() as patch, watched(model, seen, patch):
            outputs, taps = model(**inputs)
        return Watched(model, inputs, outputs["logits"], {k: tap.detach() for k, tap in taps.items()}, seen)

    return run


@contextmanager
def watched(model: nn.Module, seen: dict[str, Seen], patch: pytest.MonkeyPatch) -> Iterator[None]:
    latest: list[Tensor] = []

    def weights(*args: Tensor, **options: object) -> Tensor:
        found = softmax(*args, **options)  # type: ignore[arg-type]
        found.retain_grad()
        latest.append(found)
        return found

    def note(name: str) -> Callable[..., None]:
        def hook(module: MultiHeadAttention, given: tuple[Tensor, ...], output: object) -> None:
            seen[name] = Seen(module, given[-1], latest.pop())

        return hook

    patch.setattr(attention, "weights", weights)
    modules = [(name, part) for name, part in model.named_modules() if isinstance(part, MultiHeadAttention)]
    hooks = [part.register_forward_hook(note(name)) for name, part in modules]
    yield
    for handle in hooks:
        handle.remove()
    assert latest == []
    assert set(seen) == {name for name, _ in modules}


class Explicit:
    """Mixing matrices and products of whole matrices, entry by entry."""

    @staticmethod
    def fused(probabilities: Tensor, fuse: str) -> Tensor:
        """[H, N, M] -> [N, M]."""
        heads = list(probabilities)
        if fuse == "mean":
            return sum(heads[1:], heads[0]) / len(heads)
        reduce = torch.maximum if fuse == "max" else torch.minimum
        out = heads[0]
        for head in heads[1:]:
            out = reduce(out, head)
        return out

    @staticmethod
    def kept(row: Sequence[float], discard: float) -> list[float]:
        """A row whose lowest floor(discard n) values are 0, but those of which an equal one is higher up."""
        least = math.floor(discard * len(row))
        return [0.0 if sum(other <= value for other in row) <= least else value for value in row]

    @classmethod
    def mixing(cls, probabilities: Tensor, *, fuse: str = "mean", discard: float = 0.0) -> Tensor:
        """What remains of [H, N, M], with 1 added for a token itself, each row divided by its sum: [N, M]."""
        rows = []
        for index, row in enumerate(cls.fused(probabilities, fuse).tolist()):
            row = cls.kept(row, discard)
            row[index] += 1
            rows.append([value / sum(row) for value in row])
        return torch.tensor(rows, dtype=torch.float64)

    @staticmethod
    def product(steps: Sequence[Tensor]) -> Tensor:
        """Last layer first: A_L ... A_1."""
        out = torch.eye(len(steps[0]), dtype=torch.float64)
        for step in steps:
            out = step @ out
        return out

    @staticmethod
    def relevance(probabilities: Tensor, gradient: Tensor) -> Tensor:
        """Mean over heads of what is positive of A dA: [H, N, M] -> [N, M]."""
        out = torch.zeros_like(probabilities[0])
        for head, by_head in zip(probabilities, gradient, strict=True):
            out = out + (head * by_head).clamp(min=0) / len(probabilities)
        return out.detach()

    @classmethod
    def relevances(cls, layers: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """R after every layer's R += A R, from the first to the last: [N, N]."""
        out = torch.eye(layers[0][0].shape[-1], dtype=torch.float64)
        for probabilities, gradient in layers:
            out = out + cls.relevance(probabilities, gradient) @ out
        return out


@pytest.fixture(scope="session")
def explicit() -> type[Explicit]:
    """The reference for what goes through several layers."""
    return Explicit


def near(found: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    """Within a share of the largest value, of the same shape, and not nothing."""
    assert found.shape == expected.shape
    largest = float(expected.abs().max())
    assert largest > 0
    assert float((found - expected).abs().max()) <= tolerance * largest


@pytest.fixture(scope="session")
def close() -> Callable[..., None]:
    return near
