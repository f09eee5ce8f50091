"""Products with constant matrices go to int8, and nothing else does."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.dynamic_int8 import quantise_products, quantised

RNG = np.random.default_rng(0)
SQUARE = RNG.standard_normal((8, 8)).astype(np.float32)
TALL = (RNG.standard_normal((8, 5)) * [1, 10, 100, 0, 0.01]).astype(np.float32)
BIAS = RNG.standard_normal(8).astype(np.float32)
X = RNG.standard_normal((6, 8)).astype(np.float32)


def model(*nodes: onnx.NodeProto, outputs: tuple[str, ...] = ("y",)) -> onnx.ModelProto:
    """A graph of x [B, 8] with the weights above."""
    weights = {"square": SQUARE, "tall": TALL, "bias": BIAS}
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=10)


def run(graph: onnx.ModelProto) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    return session.run(None, {"x": X})


def operators(graph: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in graph.graph.node]


def expected(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """x @ W, with x rounded to uint8 over its whole range and W to int8 by column."""
    low, high = min(x.min(), 0), max(x.max(), 0)
    scale = (high - low) / 255
    zero = np.rint(-low / scale)
    rounded = np.clip(np.rint(x / scale) + zero, 0, 255) - zero
    columns = np.abs(weight).max(0) / 127
    columns[columns == 0] = 1
    return (rounded @ np.rint(weight / columns)) * scale * columns


@pytest.mark.parametrize(
    ("node", "truth"),
    [
        (helper.make_node("MatMul", ["x", "tall"], ["y"]), expected(X, TALL)),
        (helper.make_node("Gemm", ["x", "square", "bias"], ["y"]), expected(X, SQUARE) + BIAS),
        (helper.make_node("Gemm", ["x", "square", "bias"], ["y"], transB=1), expected(X, SQUARE.T) + BIAS),
        (helper.make_node("Gemm", ["x", "tall"], ["y"], alpha=1.0), expected(X, TALL)),
    ],
)
def test_a_product_is_rounded_by_column_and_by_the_range_of_its_input(
    node: onnx.NodeProto, truth: np.ndarray
) -> None:
    graph = model(node)
    quantise_products(graph.graph)
    assert "MatMulInteger" in operators(graph)
    assert not {"MatMul", "Gemm"} & set(operators(graph))
    np.testing.assert_allclose(run(graph)[0], truth, rtol=1e-4, atol=1e-4)


def test_float_weights_that_nothing_needs_any_more_are_gone() -> None:
    graph = model(helper.make_node("MatMul", ["x", "tall"], ["y"]))
    quantise_products(graph.graph)
    kinds = {weight.name: weight.data_type for weight in graph.graph.initializer}
    assert kinds == {
        "tall.values": TensorProto.INT8,
        "tall.scale": TensorProto.FLOAT,
        "tall.zero": TensorProto.INT8,
    }


def test_what_is_shared_is_quantised_once_and_kept_in_float_where_it_is_needed() -> None:
    graph = model(
        helper.make_node("MatMul", ["x", "square"], ["a"]),
        helper.make_node("Gemm", ["x", "square"], ["b"], transB=1),
        helper.make_node("MatMul", ["x", "square"], ["c"]),
        helper.make_node("Add", ["x", "bias"], ["moved"]),
        helper.make_node("ReduceSum", ["square"], ["d"]),
        outputs=("a", "b", "c", "moved", "d"),
    )
    before = run(graph)
    quantise_products(graph.graph)
    assert operators(graph).count("DynamicQuantizeLinear") == 1
    weights = [weight.name for weight in graph.graph.initializer]
    assert len(set(weights)) == len(weights)
    assert {"square", "bias", "square.values", "square.values_t"} < set(weights)
    for found, truth in zip(run(graph), before, strict=True):
        np.testing.assert_allclose(found, truth, atol=0.03 * np.abs(truth).max())


@pytest.mark.parametrize(
    "nodes",
    [
        [helper.make_node("Gemm", ["x", "tall"], ["y"], alpha=0.5)],
        [
            helper.make_node("Gemm", ["square", "tall"], ["z"], transA=1),
            helper.make_node("Neg", ["z"], ["y"]),
        ],
        [helper.make_node("Neg", ["tall"], ["w"]), helper.make_node("MatMul", ["x", "w"], ["y"])],
        [helper.make_node("MatMul", ["x", "bias"], ["y"])],
    ],
)
def test_other_products_stay_as_they_are(nodes: list[onnx.NodeProto]) -> None:
    graph = model(*nodes)
    before, operators_before = run(graph), operators(graph)
    quantise_products(graph.graph)
    assert operators(graph) == operators_before
    np.testing.assert_array_equal(run(graph)[0], before[0])


def test_rounding_keeps_zero_and_the_largest_of_each_column() -> None:
    values, scale, zero = quantised(TALL)
    assert (values.dtype, scale.dtype, zero.dtype) == (np.int8, np.float32, np.int8)
    assert np.abs(values).max(0).tolist() == [127, 127, 127, 0, 127]
    assert not zero.any()
    assert (np.abs(values * scale - TALL) <= 0.501 * scale).all()
