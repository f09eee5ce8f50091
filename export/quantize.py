"""A verified bundle's graphs in lower precision: fp16, or int8 with dynamic or static activation ranges.

What a graph holds decides, not what it is called. A network of fused attention gets int8 weights in its
matrix products, whose activations find their range at every run: a neighbour in the batch would change it, so
such a bundle runs inputs one by one. A convolutional network gets int8 in its convolutions, with ranges found
beforehand on calibration inputs; it may batch.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, TensorProto
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

from export.dynamic_int8 import quantise_products
from export.errors import ExportError
from export.graph import operators, quiet
from service.bundle import MODEL, TOKENIZER, Manifest, MapSpec

Lower = Literal["fp16", "int8"]
Feeds = Mapping[str, NDArray[Any]]
Calibration = Callable[[], Iterator[Feeds]]

# Sums of squares, which leave the range of fp16 long before their roots do.
FP32_OPERATORS = [*DEFAULT_OP_BLOCK_LIST, "ReduceL2"]


def lower(
    folder: Path, manifest: Manifest, into: Path, precision: Lower, calibration: Calibration | None
) -> Manifest:
    """Write the graphs and the tokenizer of the fp32 bundle `folder` into another folder, in lower precision.

    Returns the manifest, its `files` and `agreement` still to be filled in. Raises ExportError where
    calibration inputs are needed and there are none.
    """
    maps = [Path(MapSpec.path(graph)) for graph in manifest.graphs]
    for path in (folder / "maps").iterdir():
        (into / "maps").mkdir(exist_ok=True)
        shutil.copyfile(path, into / "maps" / path.name)
    if (folder / TOKENIZER).exists():
        shutil.copyfile(folder / TOKENIZER, into / TOKENIZER)
    changed: dict[str, Any] = {"precision": precision}
    if precision == "fp16":
        _fp16_model(folder / MODEL, into / MODEL, manifest)
        taps = {tap.name for tap in manifest.taps} | {tap.kind for tap in manifest.taps}
        for path in maps:
            _fp16_map(into / path, taps)
        changed["taps"] = tuple(tap.model_copy(update={"dtype": "float16"}) for tap in manifest.taps)
    elif "Attention" in operators(folder / MODEL):
        _dynamic_int8(folder / MODEL, into / MODEL)
        changed["max_batch"] = 1
    elif calibration is None:
        raise ExportError("int8 of a convolutional network needs inputs to find its ranges on: --data")
    else:
        _static_int8(folder / MODEL, into / MODEL, calibration())
    for path in into.glob("*.data"):
        path.chmod(0o644)  # onnx writes weights for their owner's eyes alone
    return manifest.model_copy(update=changed)


def _fp16_model(source: Path, target: Path, manifest: Manifest) -> None:
    """Weights, activations and taps in fp16; what goes in and the predictions stay as they are."""
    model = onnx.load(str(source))
    kept = [spec.name for spec in (*manifest.inputs, *manifest.outputs)]
    with quiet():
        model = convert_float_to_float16(
            model, keep_io_types=kept, op_block_list=FP32_OPERATORS, disable_shape_infer=True
        )
    _save(model, target, external=_external(source))


def _fp16_map(path: Path, taps: set[str]) -> None:
    """A map's graph takes fp16 taps and computes in fp32 as before: exact, seen from the taps."""
    model = onnx.load(str(path), load_external_data=False)
    graph = model.graph
    narrow = [node for node in graph.input if node.name in taps]
    if not narrow:
        return  # made of the model's own inputs, with weights of its own
    for tap in narrow:
        tap.type.tensor_type.elem_type = TensorProto.FLOAT16
        wide = f"{tap.name}.fp32"
        _rename_inputs(graph, tap.name, wide)
        graph.node.insert(0, onnx.helper.make_node("Cast", [tap.name], [wide], to=TensorProto.FLOAT))
    onnx.save(model, str(path))


def _rename_inputs(graph: GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]


def _dynamic_int8(source: Path, target: Path) -> None:
    """Matrix products with constant weights, per output channel; never the fused attention."""
    model = onnx.load(str(source))
    quantise_products(model.graph)
    _save(model, target, external=_external(source))


def _static_int8(source: Path, target: Path, calibration: Iterator[Feeds]) -> None:
    """Convolutions, per output channel, but those that end in a gate: its sigmoid shows every rounding."""
    graph = onnx.load(str(source), load_external_data=False).graph
    gates = {node.input[0] for node in graph.node if node.op_type == "Sigmoid"}
    with quiet():
        quantize_static(
            source,
            target,
            _Reader(calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=[node.name for node in graph.node if node.output[0] in gates],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            use_external_data_format=_external(source),
        )


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, inputs: Iterator[Feeds]) -> None:
        self._inputs = inputs

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        feeds = next(self._inputs, None)
        return None if feeds is None else dict(feeds)


def _save(model: ModelProto, path: Path, *, external: bool) -> None:
    onnx.save(model, str(path), save_as_external_data=external, location=f"{path.name}.data")


def _external(path: Path) -> bool:
    """Whether a graph's weights lie in a file beside it; then so shall those of its lower precision."""
    graph = onnx.load(str(path), load_external_data=False).graph
    return any(onnx.external_data_helper.uses_external_data(tensor) for tensor in graph.initializer)
