"""Functions that are traced once: what a graph is like that calls them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from export.graph import export_model
from models.once import once

traced = []


@once(lambda x, y, *, scale: [x.shape, (x.shape[0], y.shape[1])])
def inner(x: Tensor, y: Tensor, *, scale: float) -> tuple[Tensor, Tensor]:
    traced.append(scale)
    return x * scale + torch.arange(x.shape[1]), (x.mean(1)[:, None] + y) * scale


@once(lambda x, y: [y.shape])
def outer(x: Tensor, y: Tensor | None) -> Tensor:
    return inner(x, x if y is None else y, scale=3.0)[1]


class Layers(nn.Module):
    """Three calls alike; one in a function that is traced apart; three that differ: by a number, by an axis
    that is known, by a multiple of one that is not.
    """

    def forward(self, x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor]:
        for _ in range(3):
            x, y = inner(x, y, scale=3.0)
        y = outer(x, y)
        x, y = inner(x, y, scale=0.5)
        _, few = inner(x, z, scale=3.0)
        doubled, _ = inner(torch.cat([x, x]), torch.cat([y, y]), scale=3.0)
        return (torch.cat([x, few, doubled[x.shape[0] :]], 1),)


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    traced.clear()
    inputs = {"x": torch.zeros(2, 5), "y": torch.zeros(2, 7), "z": torch.zeros(2, 3)}
    axes = {"x": ("batch", "some"), "y": ("batch", "others"), "z": ("batch", 3)}
    path = tmp_path / "graph.onnx"
    export_model(Layers(), inputs, axes, outputs=["out"], path=path)
    return path


def test_what_is_called_alike_is_traced_once(exported: Path) -> None:
    assert sorted(traced) == [0.5, 3.0, 3.0, 3.0, 3.0]


def test_a_call_gives_what_the_function_does(exported: Path) -> None:
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    for batch, some, others in ((2, 5, 7), (1, 1, 4), (3, 8, 3)):
        inputs = {
            name: random.standard_normal((batch, count)).astype(np.float32)
            for name, count in (("x", some), ("y", others), ("z", 3))
        }
        (expected,) = Layers()(*map(torch.from_numpy, inputs.values()))
        (found,) = session.run(None, inputs)
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5)


def test_calls_are_put_in_the_graph(exported: Path) -> None:
    graph = onnx.load(exported)
    assert not graph.functions
    assert {opset.domain for opset in graph.opset_import} == {""}
    assert {node.domain for node in graph.graph.node} == {""}


def test_axes_of_one_size_cannot_be_told_apart(tmp_path: Path) -> None:
    inputs = {"x": torch.zeros(2, 7), "y": torch.zeros(2, 7), "z": torch.zeros(2, 3)}
    axes = {"x": ("batch", "some"), "y": ("batch", "others"), "z": ("batch", 3)}
    with pytest.raises(ValueError, match="'some': 7, 'others': 7"):
        export_model(Layers(), inputs, axes, outputs=["out"], path=tmp_path / "graph.onnx")


def test_another_exporter_traces_every_call() -> None:
    given = (torch.zeros(2, 5), torch.zeros(2, 7), torch.zeros(2, 3))
    program = torch.export.export(Layers(), given)
    torch.testing.assert_close(program.module()(*given), Layers()(*given))
