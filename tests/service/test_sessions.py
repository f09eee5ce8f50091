"""Graphs run on the device asked for, and only what is asked for leaves them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from service.sessions import Program, ProviderError, Rows, SessionPool, check_placement

WIDTH = 64


def write_graph(path: Path) -> Path:
    """x, y [batch, 64] -> total = x + y, product = x * y."""
    shape = ["batch", WIDTH]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("total", "product")]
    nodes = [helper.make_node("Add", ["x", "y"], ["total"]), helper.make_node("Mul", ["x", "y"], ["product"])]
    graph = helper.make_graph(nodes, "graph", inputs, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def write_external(path: Path, location: str) -> Path:
    """w -> w, its numbers in another file."""
    weight = numpy_helper.from_array(np.arange(8, dtype=np.float32), "w")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": "32"}.items():
        weight.external_data.add(key=key, value=value)
    output = helper.make_tensor_value_info("out", TensorProto.FLOAT, [8])
    graph = helper.make_graph([helper.make_node("Identity", ["w"], ["out"])], "g", [], [output], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)


@pytest.fixture(scope="module")
def pool() -> SessionPool:
    return SessionPool(device="cpu")


@pytest.fixture
def program(pool: SessionPool, tmp_path: Path) -> Program:
    return pool.open(write_graph(tmp_path / "model.onnx"))


def test_a_graph_says_what_it_takes_and_gives(program: Program) -> None:
    assert (program.inputs, program.outputs) == (("x", "y"), ("total", "product"))


def test_outputs_come_by_name_in_any_order(program: Program) -> None:
    x, y = numbers(3, WIDTH), numbers(3, WIDTH)
    found = program.run({"x": x, "y": y}, ["product", "total"])
    np.testing.assert_array_equal(found["product"].numpy(), x * y)
    np.testing.assert_array_equal(found["total"].numpy(), x + y)


def test_only_outputs_asked_for_are_bound(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    bound: list[str] = []
    bind = onnxruntime.IOBinding.bind_output
    monkeypatch.setattr(
        onnxruntime.IOBinding,
        "bind_output",
        lambda self, name, *args: (bound.append(name), bind(self, name, *args))[1],
    )
    x = numbers(3, WIDTH)
    found = program.run({"x": x, "y": x}, ["product"])
    assert bound == list(found) == ["product"]


def test_feeds_that_the_graph_does_not_take_are_left_out(program: Program) -> None:
    x = numbers(1, WIDTH)
    assert set(program.run({"x": x, "y": x, "z": x}, ["total"])) == {"total"}


def test_a_missing_feed_is_an_error(program: Program) -> None:
    with pytest.raises(KeyError, match="y"):
        program.run({"x": numbers(1, WIDTH)}, ["total"])


@pytest.mark.parametrize(("start", "stop"), [(0, 5), (0, 1), (2, 4), (4, 5)])
def test_rows_are_the_rows_of_numpy(program: Program, start: int, stop: int) -> None:
    x = numbers(5, WIDTH)
    tensor = program.run({"x": x, "y": x}, ["total"])["total"]
    view = tensor.rows(start, stop)
    assert view.shape == (stop - start, WIDTH)
    other = np.ones((stop - start, WIDTH), np.float32)
    found = program.run({"x": view, "y": other}, ["total"])["total"].numpy()
    np.testing.assert_array_equal(found, (x + x)[start:stop] + other)


def test_rows_keep_their_tensor_alive(program: Program) -> None:
    x = numbers(2000, WIDTH)
    views: list[Rows] = [program.run({"x": x, "y": x}, ["total"])["total"].rows(1, 2000) for _ in range(5)]
    zeros = np.zeros((1999, WIDTH), np.float32)
    for view in views:
        found = program.run({"x": view, "y": zeros}, ["total"])["total"].numpy()
        np.testing.assert_array_equal(found, (x + x)[1:])


def test_feeds_need_not_be_contiguous(program: Program) -> None:
    x = numbers(WIDTH, 2000).T[::2]
    found = program.run({"x": x, "y": np.zeros_like(x)}, ["total"])["total"].numpy()
    np.testing.assert_array_equal(found, x)


def test_several_threads_at_once_get_their_own_answers(program: Program) -> None:
    together = threading.Barrier(4)

    def ask(seed: int) -> None:
        rng = np.random.default_rng(seed)
        together.wait()
        for _ in range(50):
            x, y = rng.random((2, rng.integers(1, 40), WIDTH), np.float32)
            found = program.run({"x": x, "y": y}, ["total", "product"])
            np.testing.assert_array_equal(found["total"].numpy(), x + y)
            np.testing.assert_array_equal(found["product"].numpy(), x * y)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(ask, range(4)))


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this ONNX Runtime has CUDA"
)
@pytest.mark.parametrize("device", ["cuda:0", "cuda"])
def test_a_device_that_is_not_there_is_an_error(device: str) -> None:
    with pytest.raises(ProviderError, match=f"device {device}: .* without CUDAExecutionProvider"):
        SessionPool(device=device)


def placed(*providers: str, **nodes: list[str]) -> Any:
    """A session that runs on these providers; which operators each has taken."""
    parts = [
        SimpleNamespace(
            ep_name=f"{name}ExecutionProvider",
            get_nodes=lambda types=types: [SimpleNamespace(op_type=one) for one in types],
        )
        for name, types in nodes.items()
    ]
    return SimpleNamespace(
        get_providers=lambda: [f"{name}ExecutionProvider" for name in providers],
        get_provider_graph_assignment_info=lambda: parts,
    )


CUDA = "CUDAExecutionProvider"


def test_a_session_that_fell_back_to_another_provider_is_refused() -> None:
    with pytest.raises(ProviderError, match=r"m\.onnx would run on CPUExecutionProvider, not on CUDA"):
        check_placement(placed("CPU"), CUDA, "m.onnx")


def test_a_node_that_strayed_from_the_device_is_refused() -> None:
    with pytest.raises(ProviderError, match=r"m\.onnx: Attention would not run on CUDA"):
        check_placement(placed("CUDA", "CPU", CUDA=["MatMul"], CPU=["Shape", "Attention"]), CUDA, "m.onnx")


def test_shapes_may_be_computed_beside_the_device() -> None:
    check_placement(placed("CUDA", "CPU", CUDA=["Attention"], CPU=["Shape", "Gather"]), CUDA, "m.onnx")


def test_weights_beside_the_graph_are_read(pool: SessionPool, tmp_path: Path) -> None:
    (tmp_path / "model.data").write_bytes(np.arange(8, dtype=np.float32).tobytes())
    program = pool.open(write_external(tmp_path / "model.onnx", "model.data"))
    np.testing.assert_array_equal(program.run({}, ["out"])["out"].numpy(), np.arange(8, dtype=np.float32))


@pytest.mark.parametrize("location", ["../x", "sub/../../x", "link", "{root}/x"])
def test_weights_outside_of_the_bundle_are_refused(pool: SessionPool, tmp_path: Path, location: str) -> None:
    (tmp_path / "x").write_bytes(np.arange(8, dtype=np.float32).tobytes())
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "x")
    graph = write_external(folder / "model.onnx", location.format(root=tmp_path))
    with pytest.raises(Exception, match="External data path"):
        pool.open(graph)
