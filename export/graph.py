"""From torch modules to ONNX graphs; `models.attention.attend` becomes one fused node."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnx_ir
import onnxscript.optimizer
import torch
from torch import Tensor, nn

from export.maps import PARAMETER_AXES, MapGraph
from export.shapes import Axes
from models.once import DOMAIN, Body, affine, bodies

OPSET = 24  # the newest `Attention` that the runtime has registered
STACK_TRACE = "pkg.torch.onnx.stack_trace"
IR_VERSION = 10  # the runtime loads up to 13; onnx would write its newest
EXTERNAL_DATA_BYTES = 256 * 1024**2  # above this, weights lie in a file beside the graph


def export_model(
    model: nn.Module,
    inputs: Mapping[str, Tensor],
    axes: Mapping[str, Axes],
    *,
    outputs: Sequence[str],
    path: Path,
) -> None:
    """Write a model's graph with named inputs and `outputs` (predictions, then taps, in order)."""
    _write(model, inputs, axes, outputs, path)


def export_map(
    graph: MapGraph, tensors: Mapping[str, Tensor], axes: Mapping[str, Axes], *, path: Path
) -> None:
    """Write a map's graph, traced with these tensors."""
    named = {name: PARAMETER_AXES.get(name) or axes[graph.taps[name]] for name in graph.inputs}
    _write(_ByName(graph.module), graph.feeds(tensors), named, graph.outputs, path)


class _ByName(nn.Module):
    """A map's graph that takes its inputs as one tuple, since dots are no Python parameter names."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        out: tuple[Tensor, ...] = self.module(*inputs)
        return out


def _write(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    axes: Mapping[str, Axes],
    outputs: Sequence[str],
    path: Path,
) -> None:
    dynamic = {name: _dynamic(axes[name]) for name in inputs}
    sizes = {axis: inputs[name].shape[at] for name in inputs for at, axis in enumerate(axes[name])}
    named = [size for axis, size in sizes.items() if isinstance(axis, str)]
    if len(set(named)) < len(named):
        raise ValueError(f"axes are told apart by their sizes while a graph is traced: {sizes}")
    as_tuple = isinstance(module, _ByName)
    with quiet(), torch.no_grad():
        program = _traced(
            module,
            args=(tuple(inputs.values()),) if as_tuple else (),
            kwargs=None if as_tuple else dict(inputs),
            dynamic_shapes=(tuple(dynamic.values()),) if as_tuple else dynamic,
            input_names=list(inputs),
            output_names=list(outputs),
        )
    program.model.ir_version = IR_VERSION
    path.parent.mkdir(parents=True, exist_ok=True)
    size = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
    program.save(str(path), external_data=size > EXTERNAL_DATA_BYTES)


def _traced(module: nn.Module, **options: Any) -> torch.onnx.ONNXProgram:
    """The graph of a module; what it calls `once` is traced apart, and put in the place of each call."""
    with bodies() as called:
        program = torch.onnx.export(module, **options, opset_version=OPSET, dynamo=True, verbose=False)
    assert program is not None
    model = program.model
    for node in model.graph.all_nodes():  # torch writes down where in whose files each was traced
        node.metadata_props.pop(STACK_TRACE, None)
    for body in called.values():
        function = _function(body)
        model.functions[function.identifier()] = function
    if called:
        onnxscript.optimizer.optimize(model)  # inlines
    return program


def _function(body: Body) -> onnx_ir.Function:
    """What a call stands for, traced with the axes that are unknown where it is called."""
    axes = [tuple(map(affine, x.shape)) for x in body.inputs]
    inputs = tuple(
        torch.zeros([a * n + b for a, n, b in sizes], dtype=x.dtype)
        for x, sizes in zip(body.inputs, axes, strict=True)
    )
    dynamic = tuple(
        {index: a * torch.export.Dim(f"n{n}") + b for index, (a, n, b) in enumerate(sizes) if a}
        for sizes in axes
    )
    graph = _traced(body, args=(inputs,), dynamic_shapes=(dynamic,)).model.graph
    for value in graph.initializers.values():  # a function has none
        constant = onnx_ir.node("Constant", [], {"value": value.const_value})
        graph.insert_before(graph[0], constant)
        value.replace_all_uses_with(constant.outputs[0])
    graph.initializers.clear()
    return onnx_ir.Function(DOMAIN, body.name, graph=graph, attributes=())


def _dynamic(axes: Axes) -> dict[int, torch.export.Dim]:
    return {index: torch.export.Dim(name) for index, name in enumerate(axes) if isinstance(name, str)}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The exporter reports on standard output and through warnings; what matters is verified afterwards."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)


def operators(path: Path) -> dict[str, int]:
    """How many nodes of each operator a graph holds, functions not counted."""
    counts: dict[str, int] = {}
    for node in onnx.load(str(path), load_external_data=False).graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return dict(sorted(counts.items()))
