"""Functions that the exporter traces once, however many layers of a model call them.

All layers are alike, and to trace one with axes of unknown size takes seconds.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

DOMAIN = "regard.once"
Shape = Sequence[int | torch.SymInt]
P = ParamSpec("P")
R = TypeVar("R")


class Body(nn.Module):
    """What the nodes `DOMAIN::name` of a graph stand for: a function of the tensors among its arguments.

    `inputs` are those of the first call.
    """

    def __init__(self, name: str, function: Callable[..., Any], arguments: dict[str, Any]) -> None:
        super().__init__()
        tensors = {key: value for key, value in arguments.items() if isinstance(value, Tensor)}
        rest = {key: value for key, value in arguments.items() if key not in tensors}
        self.name = name
        self.function = functools.partial(function, **rest)
        self.keys, self.inputs = tuple(tensors), tuple(tensors.values())

    def forward(self, inputs: Sequence[Tensor]) -> Any:
        return self.function(**dict(zip(self.keys, inputs, strict=True)))


_called: ContextVar[dict[object, Body]] = ContextVar("called")


@contextlib.contextmanager
def bodies() -> Iterator[dict[object, Body]]:
    """Collects what calls of functions `once` stand for, while a model is traced."""
    token = _called.set({})
    try:
        yield _called.get()
    finally:
        _called.reset(token)


def once(shapes: Callable[..., Sequence[Shape]]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Marks a function of tensors: while a graph is exported, each call of it is one node.

    `shapes` takes the same arguments and says what shapes the function returns, one tensor or several; they
    are all of the type of its first.
    """

    def mark(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            called = _called.get(None) if torch.compiler.is_exporting() else None
            if called is None:
                return function(*args, **kwargs)
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            alike = (function, *((name, _kind(value)) for name, value in bound.arguments.items()))
            if alike not in called:
                called[alike] = Body(f"{function.__name__}_{len(called)}", function, bound.arguments)
            body = called[alike]
            inputs = [bound.arguments[key] for key in body.keys]
            sizes = shapes(*args, **kwargs)
            found = torch.onnx.ops.symbolic_multi_out(
                f"{DOMAIN}::{body.name}",
                inputs,
                dtypes=[inputs[0].dtype] * len(sizes),
                shapes=sizes,
                version=1,
            )
            outputs: Any = found[0] if len(sizes) == 1 else tuple(found)
            return outputs  # type: ignore[no-any-return]

        return call

    return mark


def _kind(value: object) -> object:
    """What calls of one body have in common in an argument."""
    return (value.dtype, *map(affine, value.shape)) if isinstance(value, Tensor) else value


def affine(size: int | torch.SymInt) -> tuple[int, int, int]:
    """A size as a * n + b, with n the size that an axis of the model's inputs has while it is traced.

    Returns (a, n, b). By n an axis of one input is known as that of another, which the tracer does not know:
    axes that differ must have different sizes then.
    """
    if isinstance(size, int) or not size.node.expr.free_symbols:
        return 0, 0, int(size)
    form = size.node.expr
    if len(form.free_symbols) > 1:
        raise ValueError(f"what is traced once has axes of one unknown each, not {form}")
    (axis,) = form.free_symbols
    factor, rest = int(form.coeff(axis)), int(form.subs(axis, 0))
    assert form == factor * axis + rest, form
    return factor, (size.node.hint - rest) // factor, rest
