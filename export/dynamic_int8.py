"""Matrix products in int8 whose activations find their range at every run.

The runtime's own tool does the same, but holds three copies of a model while it does; here it is one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

LARGEST = 127


class Weight(NamedTuple):
    """The names of an int8 weight [K, N] and of its scale and zero point, one for each of N channels."""

    values: str
    scale: str
    zero: str


class Activation(NamedTuple):
    """The names of an activation in uint8, of its scale and of its zero point."""

    values: str
    scale: str
    zero: str


def quantise_products(graph: GraphProto) -> None:
    """Put every product with a constant matrix into int8, in place; biases and all else stay as they are."""
    Products(graph).rewrite()


class Products:
    """The products of one graph; what several of them share is quantised once."""

    def __init__(self, graph: GraphProto) -> None:
        self._graph = graph
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._weights: dict[tuple[str, bool], Weight] = {}
        self._activations: dict[str, Activation] = {}
        self._nodes: list[NodeProto] = []

    def rewrite(self) -> None:
        graph = self._graph
        for node in graph.node:
            if self._fits(node):
                self._product(node)
            else:
                self._nodes.append(node)
        graph.ClearField("node")
        graph.node.extend(self._nodes)
        used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
        for index in reversed(range(len(graph.initializer))):
            if graph.initializer[index].name not in used:
                del graph.initializer[index]

    def _fits(self, node: NodeProto) -> bool:
        """Whether a node is x @ W, or x @ W + b, with a constant matrix W of floats."""
        if node.op_type not in ("MatMul", "Gemm"):
            return False
        weight = self._constants.get(node.input[1])
        plain = {"alpha": 1.0, "beta": 1.0, "transA": 0}
        return (
            weight is not None
            and weight.data_type == TensorProto.FLOAT
            and len(weight.dims) == 2
            and all(value == plain.get(name, value) for name, value in attributes(node).items())
        )

    def _product(self, node: NodeProto) -> None:
        """x @ W as (xq @ Wq) * (x's scale * W's scales), and the bias after it: what the runtime fuses."""
        x, weight, *bias = node.input
        activation = self._activation(x)
        matrix = self._weight(weight, transposed=bool(attributes(node).get("transB", 0)))
        name = node.output[0]
        whole, real, scale = f"{name}.int32", f"{name}.unscaled", f"{name}.scale"
        product = name if not bias else f"{name}.product"
        self._add("MatMulInteger", [activation.values, matrix.values, activation.zero, matrix.zero], whole)
        self._add("Cast", [whole], real, to=TensorProto.FLOAT)
        self._add("Mul", [activation.scale, matrix.scale], scale)
        self._add("Mul", [real, scale], product)
        if bias:
            self._add("Add", [product, *bias], name)

    def _activation(self, name: str) -> Activation:
        if name not in self._activations:
            made = Activation(*(f"{name}.{part}" for part in ("uint8", "uint8_scale", "uint8_zero")))
            self._nodes.append(helper.make_node("DynamicQuantizeLinear", [name], list(made)))
            self._activations[name] = made
        return self._activations[name]

    def _weight(self, name: str, *, transposed: bool) -> Weight:
        key = (name, transposed)
        if key not in self._weights:
            values = numpy_helper.to_array(self._constants[name])
            made = Weight(*(f"{name}.{part}{'_t' * transposed}" for part in Weight._fields))
            arrays: tuple[NDArray[Any], ...] = quantised(values.T if transposed else values)
            for part, array in zip(made, arrays, strict=True):
                self._graph.initializer.append(numpy_helper.from_array(array, part))
            self._weights[key] = made
        return self._weights[key]

    def _add(self, operator: str, inputs: list[str], output: str, **options: Any) -> None:
        self._nodes.append(helper.make_node(operator, inputs, [output], name=f"{output}.node", **options))


def attributes(node: NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def quantised(weight: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.int8]]:
    """A matrix [K, N] as int8, symmetric around 0, with its scales and zero points [N]."""
    scale = np.abs(weight).max(axis=0) / np.float32(LARGEST)
    scale = np.where(scale > 0, scale, np.float32(1)).astype(np.float32)
    values = np.ascontiguousarray(np.rint(weight / scale).astype(np.int8))
    return values, scale, np.zeros(len(scale), np.int8)
