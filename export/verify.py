"""Proof that exported graphs are the model: every output, tap and map against a float64 copy of it.

A fixed tolerance fails sound exports and passes broken ones, since a model may amplify rounding; so a
graph may be away from float64 by a small multiple of torch fp32's own distance, plus a floor.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from export.errors import ExportError
from export.graph import map_outputs, operators
from export.shapes import (
    Preprocessing,
    Shape,
    Signature,
    Tensors,
    example_inputs,
    map_programs,
    run,
    verified_shapes,
)
from models.programs import MapProgram
from service.bundle import MODEL, Deviation, MapSpec, Parity

Array = NDArray[Any]
Arrays = dict[str, Array]

TIMES_TORCH = 4.0  # the graph may be this many times as far from float64 as torch fp32 is
FLOOR = 1e-5  # plus this share of the largest value, for torch may be right by luck


def verify(
    folder: Path,
    model: nn.Module,
    spec: Preprocessing,
    signature: Signature,
    *,
    advance: Callable[[], None] = lambda: None,
) -> Parity:
    """Run `model.onnx` and `maps/*.onnx` of a folder at shapes not used for tracing and compare.

    Raises ExportError where a name, the number of fused nodes or a value is not what it should be.
    """
    outputs, taps = signature.outputs, signature.taps
    expected = sum(name.endswith(".query") for name in taps)  # every attention hands out one query
    nodes = _check_fused(folder / MODEL, expected)
    graph = _session(folder / MODEL)
    _check_names(MODEL, [output.name for output in graph.get_outputs()], [*outputs, *taps])
    programs = map_programs(model)
    graphs = {name: _session(folder / MapSpec.path(name)) for name in programs}
    exact = copy.deepcopy(model).double()
    exact_programs = map_programs(exact)

    shapes = verified_shapes(spec)
    worst: dict[str, Deviation] = {}
    for seed, shape in enumerate(shapes):
        inputs = example_inputs(model, spec, shape, seed=seed)
        truth, eager = run(exact, _double(inputs)), run(model, inputs)
        feeds = {name: tensor.numpy() for name, tensor in inputs.items()}
        found = feeds | _run(graph, feeds, [*outputs, *taps])
        compared = [*outputs, *taps]
        for name, program in programs.items():
            names = list(map_outputs(name, program))
            _check_names(name, [output.name for output in graphs[name].get_outputs()], names)
            truth |= _apply(exact_programs[name], truth, names)
            eager |= _apply(program, eager, names)
            found |= _run(graphs[name], {tap: found[tap] for tap in program.taps}, names)
            compared += names
        for name in compared:
            deviation = _compare(name, shape, found[name], eager[name].numpy(), truth[name].numpy())
            worst[name] = _larger(worst.get(name), deviation)
        advance()
    return Parity(
        shapes=tuple(str(shape) for shape in shapes),
        attention_nodes=nodes,
        outputs={name: worst[name] for name in outputs},
        taps=_largest(worst[name] for name in taps),
        maps={
            name: _largest(worst[output] for output in map_outputs(name, program))
            for name, program in programs.items()
        },
    )


def _session(path: Path) -> onnxruntime.InferenceSession:
    try:
        return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime raises types of its own for each kind of failure
        raise ExportError(f"{path.name} does not load: {error}") from error


def _run(session: onnxruntime.InferenceSession, feeds: Mapping[str, Array], names: list[str]) -> Arrays:
    wanted = {node.name for node in session.get_inputs()}
    return dict(zip(names, session.run(names, {k: v for k, v in feeds.items() if k in wanted}), strict=True))


def _check_fused(path: Path, expected: int) -> int:
    counts = operators(path)
    fused = counts.get("Attention", 0)
    if fused != expected or counts.get("Softmax", 0):
        raise ExportError(
            f"{path.name}: {fused} fused Attention nodes and {counts.get('Softmax', 0)} Softmax nodes, "
            f"expected {expected} and 0"
        )
    return fused


def _check_names(graph: str, found: list[str], expected: list[str]) -> None:
    if found != expected:
        odd = sorted(set(found) ^ set(expected)) or found
        raise ExportError(f"{graph}: output names differ from the model's: {', '.join(odd)}")


def _apply(program: MapProgram, tensors: Tensors, names: list[str]) -> Tensors:
    with torch.no_grad():
        return dict(zip(names, program(*(tensors[tap] for tap in program.taps)), strict=True))


def _double(inputs: Tensors) -> Tensors:
    return {name: x.double() if x.is_floating_point() else x for name, x in inputs.items()}


def _compare(
    name: str,
    shape: Shape,
    found: Array,
    eager: Array,
    truth: Array,
) -> Deviation:
    if found.shape != truth.shape:
        raise ExportError(f"{name} at {shape}: shape {found.shape}, expected {truth.shape}")
    if not np.isfinite(found).all():
        raise ExportError(f"{name} at {shape}: not every value is finite")
    exported, torch_fp32 = (float(np.abs(values - truth).max()) for values in (found, eager))
    allowed = TIMES_TORCH * torch_fp32 + FLOOR * float(np.abs(truth).max())
    if exported > allowed:
        raise ExportError(
            f"{name} at {shape}: {exported:.2e} from float64, allowed {allowed:.2e} "
            f"(torch fp32 {torch_fp32:.2e})"
        )
    return Deviation(exported=exported, torch_fp32=torch_fp32)


def _larger(one: Deviation | None, other: Deviation) -> Deviation:
    if one is None:
        return other
    return Deviation(
        exported=max(one.exported, other.exported), torch_fp32=max(one.torch_fp32, other.torch_fp32)
    )


def _largest(deviations: Iterable[Deviation]) -> Deviation:
    worst: Deviation | None = None
    for deviation in deviations:
        worst = _larger(worst, deviation)
    return worst or Deviation(exported=0.0, torch_fp32=0.0)
