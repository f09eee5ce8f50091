"""Graphs run on the device asked for, and only what is asked for leaves them."""

from __future__ import annotations

import subprocess
import sys
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

from service.sessions import (
    OutOfMemory,
    Program,
    ProviderError,
    Rows,
    SessionPool,
    check_placement,
    memory_errors,
)

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


def write_outer(path: Path) -> Path:
    """x [n] -> y [n], by way of a matrix [n, n]."""
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])
    axes = [numpy_helper.from_array(np.array([axis]), f"axis{axis}") for axis in (0, 1)]
    nodes = [
        helper.make_node("Unsqueeze", ["x", "axis0"], ["row"]),
        helper.make_node("Unsqueeze", ["x", "axis1"], ["column"]),
        helper.make_node("Mul", ["column", "row"], ["outer"]),
        helper.make_node("ReduceSum", ["outer", "axis1"], ["y"], keepdims=0),
    ]
    graph = helper.make_graph(nodes, "outer", [value], [output], axes)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


# In a process of its own, for whose address space there is a limit.
SHORT_OF_MEMORY = """
import resource, sys
from pathlib import Path

import numpy as np
import psutil

from service.sessions import OutOfMemory, SessionPool

MIB = 2**20
pool = SessionPool(device="cpu")
program = pool.open(Path(sys.argv[1]))


def run(n):
    return program.run({"x": np.ones(n, np.float32)}, ["y"])["y"].numpy()


def claimed():
    return psutil.Process().memory_info().vms


def refused(work, *args):
    try:
        work(*args)
    except OutOfMemory as error:
        assert str(error) == "memory does not suffice", error
        return repr(error.__cause__)
    raise AssertionError("memory did suffice")


run(10)
before = claimed()
resource.setrlimit(resource.RLIMIT_AS, (before + 512 * MIB, resource.RLIM_INFINITY))
run(8000)
assert claimed() - before > 200 * MIB  # kept in the arena
for size in (30_000, 2_000_000):
    print(refused(run, size))
    assert (run(1000) == 1000).all()
program.crowded = True
assert (run(1000) == 1000).all()
assert claimed() - before < 100 * MIB
assert not program.crowded

resource.setrlimit(resource.RLIMIT_AS, (claimed(), resource.RLIM_INFINITY))
print(refused(pool.open, Path(sys.argv[2])))
"""


def test_memory_that_does_not_suffice_is_said_so_and_given_back(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.zeros(2**26, np.float32), "w")
    output = helper.make_tensor_value_info("out", TensorProto.FLOAT, [2**26])
    graph = helper.make_graph([helper.make_node("Identity", ["w"], ["out"])], "g", [], [output], [weight])
    large = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(large, tmp_path / "large.onnx")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            SHORT_OF_MEMORY,
            str(write_outer(tmp_path / "outer.onnx")),
            str(tmp_path / "large.onnx"),
        ],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    runs = done.stdout.splitlines()
    assert all("Failed to allocate memory for requested buffer" in said for said in runs[:2]), runs


@pytest.mark.parametrize(
    "said",
    [
        "bfc_arena.cc:360 Failed to allocate memory for requested buffer of size 33554432",
        "Available memory of 19968 is smaller than requested bytes of 1572864",
        "Non-zero status code returned while running Add node. Status Message: std::bad_alloc",
        "Status Message: bad allocation",
        "CUDA failure 2: out of memory ; GPU=0 ; expr=cudaMalloc((void**)&p, size);",
        "CUDA_ERROR_OUT_OF_MEMORY",
        "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0",
    ],
)
def test_each_way_to_say_that_memory_does_not_suffice_is_understood(said: str) -> None:
    with pytest.raises(OutOfMemory) as caught, memory_errors():
        raise RuntimeError(said)
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Non-zero status code returned while running Add node. Status Message: 3 by 4"),
        ValueError("invalid memory pattern"),
        KeyError("y"),
        OutOfMemory("said before"),
    ],
)
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, memory_errors():
        raise error
    assert caught.value is error


def test_pythons_own_memory_error_is_understood() -> None:
    with pytest.raises(OutOfMemory), memory_errors():
        np.empty(2**62, np.uint8)
