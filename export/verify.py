"""Proof that exported graphs are the model: every output, tap and map against a float64 copy of it.

A fixed tolerance fails sound exports and passes broken ones, since a model may amplify rounding; so a
graph may be away from float64 by a small multiple of torch fp32's own distance, plus a floor.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
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
    maps = {name: map_outputs(name, program) for name, program in map_programs(model).items()}
    compared = [*outputs, *taps, *chain.from_iterable(maps.values())]
    shapes = verified_shapes(spec)
    worst: dict[str, Deviation] = {}
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder.parent) as scratch:
        truths = [Path(scratch) / f"{seed}.npz" for seed in range(len(shapes))]
        with _in_float64(model):
            for seed, (shape, path) in enumerate(zip(shapes, truths, strict=True)):
                exact = _eager(model, _double(example_inputs(model, spec, shape, seed=seed)))
                np.savez(path, allow_pickle=False, **{name: exact[name] for name in compared})
                advance()
        graphs = {MODEL: _session(folder / MODEL)} | {
            name: _session(folder / MapSpec.path(name)) for name in maps
        }
        _check_names(MODEL, graphs[MODEL], [*outputs, *taps])
        for name, names in maps.items():
            _check_names(name, graphs[name], names)
        for seed, (shape, path) in enumerate(zip(shapes, truths, strict=True)):
            inputs = example_inputs(model, spec, shape, seed=seed)
            eager = _eager(model, inputs)
            found = {name: tensor.numpy() for name, tensor in inputs.items()}
            found |= _run(graphs[MODEL], found, [*outputs, *taps])
            for name, names in maps.items():
                found |= _run(graphs[name], found, names)
            with np.load(path) as truth:
                for name in compared:
                    deviation = _compare(name, shape, found[name], eager[name], truth[name])
                    worst[name] = _larger(worst.get(name), deviation)
            advance()
    return Parity(
        shapes=tuple(str(shape) for shape in shapes),
        attention_nodes=nodes,
        outputs={name: worst[name] for name in outputs},
        taps=_largest(worst[name] for name in taps),
        maps={name: _largest(worst[output] for output in names) for name, names in maps.items()},
    )


def _session(path: Path) -> onnxruntime.InferenceSession:
    try:
        return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime raises types of its own for each kind of failure
        raise ExportError(f"{path.name} does not load: {error}") from error


def _run(session: onnxruntime.InferenceSession, feeds: Mapping[str, Array], names: Sequence[str]) -> Arrays:
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


def _check_names(graph: str, session: onnxruntime.InferenceSession, expected: Sequence[str]) -> None:
    found = [output.name for output in session.get_outputs()]
    if found != list(expected):
        odd = sorted(set(found) ^ set(expected)) or found
        raise ExportError(f"{graph}: output names differ from the model's: {', '.join(odd)}")


@contextmanager
def _in_float64(model: nn.Module) -> Iterator[None]:
    """The model itself, exactly: a copy beside it would cost three times its memory."""
    model.double()
    try:
        yield
    finally:
        model.float()


@torch.no_grad()
def _eager(model: nn.Module, inputs: Tensors) -> Arrays:
    """Inputs, outputs, taps and maps of one forward in torch."""
    tensors = run(model, inputs)
    for name, program in map_programs(model).items():
        found = program(*(tensors[tap] for tap in program.taps))
        tensors |= dict(zip(map_outputs(name, program), found, strict=True))
    return {name: tensor.numpy() for name, tensor in tensors.items()}


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
