"""The built-in bundles are what export makes of the committed weights, today."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from export.graph import operators
from export.maps import map_graphs, parameters
from export.pack import pack
from export.shapes import Shape, example_inputs
from models.checkpoints import native
from service import bundle
from service.settings import DEMO

WEIGHTS = Path(native.__file__).parents[1] / "demo"
NAMES = ("code-language", "digit-in-clutter", "digit-motion")


@pytest.fixture(scope="module", params=NAMES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The committed bundle and the one built now."""
    checkpoint = native.load(WEIGHTS / request.param.replace("-", "_") / "weights")
    return DEMO / request.param / "1", pack(checkpoint, tmp_path_factory.mktemp("rebuilt"))


def test_manifests_say_the_same(pair: tuple[Path, Path]) -> None:
    committed, rebuilt = map(bundle.read, pair)
    measured = {"parity", "provenance", "files"}
    assert committed.model_dump(exclude=measured) == rebuilt.model_dump(exclude=measured)
    assert committed.provenance.sha256 == rebuilt.provenance.sha256
    assert set(committed.files) == set(rebuilt.files)


def test_graphs_have_the_same_operators(pair: tuple[Path, Path]) -> None:
    committed, rebuilt = pair
    for path in sorted(committed.rglob("*.onnx")):
        assert operators(path) == operators(rebuilt / path.relative_to(committed)), path.name


def test_graphs_give_the_same_numbers(pair: tuple[Path, Path]) -> None:
    """Of every file, the tuned rollout, the gradients and the proof too."""
    manifest = bundle.read(pair[0])
    checkpoint = native.load(WEIGHTS / manifest.name.replace("-", "_") / "weights")
    shape = Shape(batch=2, lengths=(21, 13))
    inputs = example_inputs(checkpoint.model, manifest.preprocessing, shape, seed=11)
    tensors = inputs | parameters(2, len(manifest.labels)) | {"discard": torch.tensor([0.0, 0.4])}
    feeds = {name: tensor.numpy() for name, tensor in tensors.items()}
    committed, rebuilt = ({**feeds, **run(folder / "model.onnx", feeds)} for folder in pair)
    for name in committed:
        np.testing.assert_allclose(committed[name], rebuilt[name], atol=1e-6, rtol=1e-6, err_msg=name)
    for graph in map_graphs(checkpoint.model, manifest.preprocessing):
        given = {name: committed[graph.taps.get(name, name)] for name in graph.inputs}
        one, other = (run(folder / bundle.MapSpec.path(graph.name), given) for folder in pair)
        assert list(one) == list(graph.outputs)
        for name in one:
            assert np.isfinite(one[name]).all()
            np.testing.assert_allclose(one[name], other[name], atol=1e-6, rtol=1e-6, err_msg=name)


def run(path: Path, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(path))
    names = [node.name for node in session.get_outputs()]
    feeds = {node.name: tensors[node.name] for node in session.get_inputs()}
    return dict(zip(names, session.run(names, feeds), strict=True))


def test_graphs_do_not_say_where_they_were_exported(pair: tuple[Path, Path]) -> None:
    for folder in pair:
        for path in sorted(folder.rglob("*.onnx")):
            assert b'.py", line ' not in path.read_bytes(), path.name
