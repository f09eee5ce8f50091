"""Proof that exported graphs are the model: every output, tap and map against a float64 copy of it.

A fixed tolerance fails sound exports and passes broken ones, since a model may amplify rounding; so a
graph may be away from float64 by a small multiple of torch fp32's own distance, plus a floor.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.errors import ExportError
from export.graph import operators
from export.maps import (
    OUTPUT_ERROR,
    PROOF_OUTPUTS,
    MapGraph,
    map_graphs,
    map_outputs,
    map_programs,
    parameters,
)
from export.shapes import (
    Preprocessing,
    Shape,
    Signature,
    Tensors,
    example_inputs,
    run,
    verified_shapes,
)
from service.bundle import MODEL, PROOF, Deviation, MapSpec, Parity

Array = NDArray[Any]
Arrays = dict[str, Array]

TIMES_TORCH = 4.0  # the graph may be this many times as far from float64 as torch fp32 is
PROVEN = 1e-4  # the most that fused attention may be away from the explicit one, as `Proof` says it
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
    graphs = map_graphs(model, spec)
    maps = {
        name: [output for graph in graphs for output in graph.outputs_of(map_outputs(name, program))]
        for name, program in map_programs(model, spec).items()
    }
    compared = [*outputs, *taps, *chain.from_iterable(maps.values())]
    shapes = verified_shapes(spec)
    worst: dict[str, Deviation] = {}
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder.parent) as name:
        scratch = Path(name)
        batches = [example_inputs(model, spec, shape, seed=seed) for seed, shape in enumerate(shapes)]
        given = [parameters(shape.batch, int(signature.axes["logits"][1])) for shape in shapes]
        with _in_float64(model):
            for seed, batch in enumerate(batches):
                truth = _eager(model, graphs, _double(batch), _double(given[seed]))
                _keep(scratch / f"truth-{seed}.npz", truth)
                advance()
        for seed, batch in enumerate(batches):
            _keep(scratch / f"eager-{seed}.npz", _eager(model, graphs, batch, given[seed]))
        with _set_aside(model, scratch / "weights.pt"):
            exported = Exported(folder, [*outputs, *taps], graphs)
            for seed, (shape, batch) in enumerate(zip(shapes, batches, strict=True)):
                with (
                    np.load(scratch / f"truth-{seed}.npz") as truth,
                    np.load(scratch / f"eager-{seed}.npz") as eager,
                ):
                    tensors = (batch | given[seed]).items()
                    found = exported.run({name: tensor.numpy() for name, tensor in tensors})
                    _check_proof(shape, found, exported.doubt(found))
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


class Exported:
    """The graphs of a bundle, which give outputs and taps of these names, and maps."""

    def __init__(self, folder: Path, outputs: Sequence[str], graphs: Sequence[MapGraph]) -> None:
        self._outputs = outputs
        self._model = _session(folder / MODEL)
        _check_names(MODEL, self._model, outputs)
        self._graphs = [(graph, _session(folder / MapSpec.path(graph.name))) for graph in graphs]
        for graph, session in self._graphs:
            _check_names(graph.name, session, graph.outputs)

    def run(self, inputs: Arrays) -> Arrays:
        """All that they give, by name; `inputs` hold parameters of maps too."""
        found = dict(inputs)
        feeds = {node.name: found[node.name] for node in self._model.get_inputs()}
        found |= dict(zip(self._outputs, self._model.run(self._outputs, feeds), strict=True))
        for graph, session in self._graphs:
            feeds = {name: found[graph.taps.get(name, name)] for name in graph.inputs}
            found |= dict(zip(graph.outputs, session.run(graph.outputs, feeds), strict=True))
        return found

    def doubt(self, found: Arrays) -> float:
        """What the proof says of half of what attention gave: an error of 1, where there is a proof."""
        for graph, session in self._graphs:
            if graph.name == PROOF:
                feeds = {name: found[graph.taps[name]] for name in graph.inputs}
                (errors,) = session.run([OUTPUT_ERROR], feeds | {"mixed": feeds["mixed"] / 2})
                return float(errors.min())
        return 1.0


def _session(path: Path) -> onnxruntime.InferenceSession:
    try:
        return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime raises types of its own for each kind of failure
        raise ExportError(f"{path.name} does not load: {error}") from error


def _check_fused(path: Path, expected: int) -> int:
    counts = operators(path)
    fused = counts.get("Attention", 0)
    if fused != expected or counts.get("Softmax", 0):
        raise ExportError(
            f"{path.name}: {fused} fused Attention nodes and {counts.get('Softmax', 0)} Softmax nodes, "
            f"expected {expected} and 0"
        )
    return fused


def _check_proof(shape: Shape, found: Arrays, doubt: float) -> None:
    """Raise ExportError where the fused attention is not the explicit one, or the proof would not see it."""
    for name in PROOF_OUTPUTS:
        if name in found and not float(found[name].max()) <= PROVEN:
            raise ExportError(f"{name} at {shape}: {float(found[name].max()):.2e}, allowed {PROVEN:.0e}")
    if not abs(doubt - 1) <= 2 * PROVEN:
        raise ExportError(f"{OUTPUT_ERROR} of half an output at {shape}: {doubt:.4f}, expected 1")


def _check_names(graph: str, session: onnxruntime.InferenceSession, expected: Sequence[str]) -> None:
    found = [output.name for output in session.get_outputs()]
    if found != list(expected):
        odd = sorted(set(found) ^ set(expected)) or found
        raise ExportError(f"{graph}: output names differ from the model's: {', '.join(odd)}")


@contextmanager
def _in_float64(model: nn.Module) -> Iterator[None]:
    """The model exactly: a module's weights are doubled while it runs, so that never all of them are."""
    kept: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {}

    def enter(module: nn.Module, inputs: object) -> None:
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        kept[module] = [(tensor, tensor.data) for tensor in own if tensor.is_floating_point()]
        for tensor, data in kept[module]:
            tensor.data = data.double()

    def leave(module: nn.Module, inputs: object, outputs: object) -> None:
        for tensor, data in kept.pop(module):
            tensor.data = data

    hooks = [module.register_forward_pre_hook(enter) for module in model.modules()]
    hooks += [module.register_forward_hook(leave, always_call=True) for module in model.modules()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _set_aside(model: nn.Module, path: Path) -> Iterator[None]:
    """The model's weights in a file, which makes room for those of the graph; mapped back afterwards."""
    tensors = dict(chain(model.named_parameters(), model.named_buffers()))
    torch.save({name: tensor.data for name, tensor in tensors.items()}, path)
    for tensor in tensors.values():
        tensor.data = tensor.data.new_empty(0)
    try:
        yield
    finally:
        for name, data in torch.load(path, weights_only=True, mmap=True).items():
            tensors[name].data = data


def _keep(path: Path, arrays: Arrays) -> None:
    np.savez(path, allow_pickle=False, **arrays)


@torch.no_grad()
def _eager(model: nn.Module, graphs: Sequence[MapGraph], inputs: Tensors, given: Tensors) -> Arrays:
    """Inputs, outputs, taps and maps of one forward in torch."""
    tensors = run(model, inputs) | given
    for graph in graphs:
        tensors |= graph.run(tensors)
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
    if not all(np.isfinite(values).all() for values in (found, eager, truth)):
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
