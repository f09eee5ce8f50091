"""The graphs under `maps/`: which there are, what the manifest says of them, what they give."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from export.graph import operators
from export.maps import MapGraph, map_graphs
from export.pack import checked
from models.checkpoints.checkpoint import Checkpoint
from service import bundle
from service.bundle import Manifest

GRADIENTS = {"relevance": "gradients", "grad_sam": "gradients"}
NAMES = {
    "text": ["cls", "rollout", "received", "value_norm", "relevance", "grad_sam", "attention"],
    "image": ["cam", "spatial", "channel"],
    "video": [
        "rollout",
        "cls",
        "received",
        "value_norm",
        "relevance",
        "grad_sam",
        "attention",
        "importance",
        "message",
        "temporal",
        "label_patches",
    ],
}
# Nothing of this was used for tracing or verification.
LENGTHS = torch.tensor([23, 1, 9, 14])
GIVEN = {
    "target": torch.tensor([3, 0, 0, 2]),
    "rows": torch.tensor([5, 0, 3, 16, 2]),
    "frame": torch.tensor([3]),
    "fuse": torch.tensor([2, 0, 1, 1]),
    "discard": torch.tensor([0.0, 0.3, 0.5, 0.0]),
}


@pytest.fixture
def packed(checkpoint: Checkpoint, repository: Path) -> Path:
    """The bundle of a checkpoint."""
    return repository / checkpoint.name / checkpoint.version


@pytest.fixture
def manifest(packed: Path) -> Manifest:
    return bundle.read(packed)


def graphs(checkpoint: Checkpoint) -> dict[str, MapGraph]:
    return {graph.name: graph for graph in map_graphs(checkpoint.model, checked(checkpoint)[0])}


def run(path: Path, tensors: dict[str, Tensor], *outputs: str) -> dict[str, Tensor]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = list(outputs) or [node.name for node in session.get_outputs()]
    feeds = {node.name: tensors[node.name].numpy() for node in session.get_inputs()}
    return {
        name: torch.from_numpy(found) for name, found in zip(names, session.run(names, feeds), strict=True)
    }


def tensors(checkpoint: Checkpoint, packed: Path) -> dict[str, Tensor]:
    """Four inputs and the taps that the graph makes of them."""
    torch.manual_seed(7)
    if checkpoint.family == "text":
        inputs = {
            "input_ids": torch.randint(250, (4, 23)),
            "lengths": LENGTHS,
            "token_types": torch.randint(2, (4, 23)),
        }
    elif checkpoint.family == "image":
        inputs = {"pixels": torch.randn(4, 3, 32, 32)}
    else:
        inputs = {"frames": torch.randn(4, 4, 3, 32, 32)}
    return {**inputs, **GIVEN, **run(packed / "model.onnx", inputs)}


def named(graph: MapGraph, layer: str, first: str, found: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inputs of a graph, of a layer instead of the first, where it is made for one layer at a time."""
    return {name: found[graph.taps.get(name, name).replace(first, layer, 1)] for name in graph.inputs}


def cases(checkpoint: Checkpoint, packed: Path) -> Iterator[tuple[MapGraph, dict[str, Tensor]]]:
    """Every graph with its inputs; those that take one layer, of every layer."""
    found = tensors(checkpoint, packed)
    layers = getattr(checkpoint.model, "layers", [])
    for graph in graphs(checkpoint).values():
        single = graph.name in ("attention", "proof")
        for layer in layers if single else [""]:
            yield graph, named(graph, layer, layers[0] if single else "", found)


def test_every_graph_gives_what_torch_gives(checkpoint: Checkpoint, packed: Path) -> None:
    """For a batch and lengths that were never seen before, with attention discarded, on every layer."""
    for graph, feeds in cases(checkpoint, packed):
        with torch.no_grad():
            expected = dict(zip(graph.outputs, graph.module(*feeds.values()), strict=True))
        found = run(packed / "maps" / f"{graph.name}.onnx", feeds)
        assert list(found) == list(expected)
        for name, truth in expected.items():
            assert found[name].shape == truth.shape, name
            if graph.name == "proof":
                assert found[name].max() < 1e-5  # what is left of it is rounding
                continue
            largest = float(truth.abs().max())
            assert largest > 0
            assert float((found[name] - truth).abs().max()) <= 2e-5 * largest, name


def test_discarding_and_fusing_change_a_rollout(checkpoint: Checkpoint, packed: Path) -> None:
    if checkpoint.family == "image":
        pytest.skip("gates have no rollout")
    graph = graphs(checkpoint)["rollout-tuned"]
    feeds = named(graph, "", "", tensors(checkpoint, packed))

    def rollout(fuse: int, discard: float) -> Tensor:
        given = {"fuse": torch.full((4,), fuse), "discard": torch.full((4,), discard)}
        return run(packed / "maps" / "rollout-tuned.onnx", feeds | given)["rollout-tuned"]

    plain = run(packed / "maps" / "rollout.onnx", feeds)["rollout"]
    torch.testing.assert_close(rollout(0, 0.0), plain, rtol=0, atol=1e-6)
    for other in (rollout(1, 0.0), rollout(2, 0.0), rollout(0, 0.3), rollout(0, 0.9999)):
        assert torch.isfinite(other).all()
        assert (other - plain).abs().max() > 1e-3


def test_one_pass_forward_and_back_makes_both_maps_of_gradients(
    checkpoint: Checkpoint, packed: Path, manifest: Manifest
) -> None:
    if checkpoint.family == "image":
        pytest.skip("gates have no gradients")
    path = packed / "maps" / "gradients.onnx"
    counts = operators(path)
    # Each softmax is made again from its taps, and its positive part taken, once.
    assert {counts[name] for name in ("Attention", "Softmax", "Relu")} == {manifest.parity.attention_nodes}
    found = tensors(checkpoint, packed)
    both = run(path, found)
    assert list(both) == ["relevance", "grad_sam"]
    for name, values in both.items():
        assert torch.equal(run(path, found, name)[name], values)


def test_a_label_of_its_own_is_that_of_each_input(checkpoint: Checkpoint, packed: Path) -> None:
    if checkpoint.family == "image":
        pytest.skip("gates have no gradients")
    found = tensors(checkpoint, packed)
    together = run(packed / "maps" / "gradients.onnx", found)["relevance"]
    for row in range(4):
        label = {"target": GIVEN["target"][row].expand(4)}
        other = {"target": (GIVEN["target"][row] + 1).expand(4) % 4}
        same = run(packed / "maps" / "gradients.onnx", found | label)["relevance"]
        torch.testing.assert_close(together[row], same[row], rtol=0, atol=1e-6)
        apart = run(packed / "maps" / "gradients.onnx", found | other)["relevance"]
        assert (together[row] - apart[row]).abs().max() > 0.01 * together[row].abs().max()


def test_the_graph_that_proves_it_sees_a_changed_number(checkpoint: Checkpoint, packed: Path) -> None:
    if checkpoint.family == "image":
        pytest.skip("gates have no softmax")
    found = tensors(checkpoint, packed)
    layers = checkpoint.model.layers
    proof = graphs(checkpoint)["proof"]
    for layer in layers:
        feeds = named(proof, layer, layers[0], found)
        for changed in ("query", "key", "value", "mixed"):
            wrong = feeds[changed].clone()
            wrong[2, ..., 1, 3] += 2 * feeds[changed][2].abs().max()
            errors = run(packed / "maps" / "proof.onnx", feeds | {changed: wrong})["output_error"]
            assert errors[[0, 1, 3]].max() < 1e-5
            assert errors[2] > 1e-3


def test_the_manifest_says_which_graph_makes_what_of_what(
    checkpoint: Checkpoint, packed: Path, manifest: Manifest
) -> None:
    assert [spec.name for spec in manifest.maps] == NAMES[checkpoint.family]
    taps = {tap.name for tap in manifest.taps}
    inputs = {spec.name for spec in manifest.inputs}
    for spec in manifest.maps:
        assert spec.graph == GRADIENTS.get(spec.name, spec.name)
        assert spec.sliced == (spec.name == "attention")
        assert spec.tunable == (spec.name == "rollout")
        for layer in range(len(spec.layers)) if spec.sliced else [None]:
            assert set(spec.taps(layer).values()) <= taps | inputs
        assert ("target" in spec.inputs) == (spec.name in GRADIENTS)
        assert ("rows" in spec.inputs) == spec.sliced
        assert ("frame" in spec.inputs) == (spec.sliced and checkpoint.family == "video")
        assert spec.tokens_before == (1 if spec.sliced and checkpoint.family == "video" else None)
        if spec.sliced:
            assert spec.kind == {"text": "token_matrix", "video": "grid_matrix"}[checkpoint.family]


def test_a_proof_is_of_the_layers_whose_attention_is_shown(
    checkpoint: Checkpoint, packed: Path, manifest: Manifest
) -> None:
    if checkpoint.family == "image":
        assert manifest.proof is None
        return
    assert manifest.proof is not None
    attention = manifest.map("attention")
    assert attention is not None
    assert manifest.proof.layers == attention.layers == tuple(checkpoint.model.layers)
    kinds = ("query", "key", "value", "mixed")
    assert manifest.proof.inputs == (*kinds, "lengths") if checkpoint.family == "text" else kinds
    layer = manifest.proof.layers[1]
    lengths = {"lengths": "lengths"} if checkpoint.family == "text" else {}
    assert manifest.proof.taps(layer) == {kind: f"{layer}.{kind}" for kind in kinds} | lengths


def test_the_files_are_those_of_the_manifest_and_name_their_inputs_as_it_does(
    checkpoint: Checkpoint, packed: Path, manifest: Manifest
) -> None:
    files = {path.stem for path in (packed / "maps").iterdir()}
    extra = set() if checkpoint.family == "image" else {"rollout-tuned", "proof"}
    assert files == {spec.graph for spec in manifest.maps} | extra == set(manifest.graphs)
    assert files == set(graphs(checkpoint))
    for spec in manifest.maps:
        graph = onnx.load(str(packed / spec.path(spec.graph)), load_external_data=False).graph
        assert [node.name for node in graph.input] == list(spec.inputs)
        assert set(spec.outputs) <= {node.name for node in graph.output}


@pytest.mark.parametrize("size", [1, 6])
def test_slices_of_any_number_of_rows(size: int, checkpoint: Checkpoint, packed: Path) -> None:
    if checkpoint.family == "image":
        pytest.skip("gates have no rows")
    found = tensors(checkpoint, packed)
    graph, layer = graphs(checkpoint)["attention"], checkpoint.model.layers[-1]
    feeds = named(graph, layer, checkpoint.model.layers[0], found)
    whole = run(packed / "maps" / "attention.onnx", feeds | {"rows": torch.arange(18)})["attention"]
    rows = torch.arange(size) * 3
    part = run(packed / "maps" / "attention.onnx", feeds | {"rows": rows})["attention"]
    assert part.shape[2] == size
    np.testing.assert_allclose(part.numpy(), whole[:, :, rows].numpy(), rtol=0, atol=1e-7)


def test_token_types_that_no_input_has_are_no_input_of_a_map(checkpoint: Checkpoint) -> None:
    """A BERT whose tokenizer makes none: each of its tokens is then of the first type."""
    if checkpoint.family != "text":
        pytest.skip("for texts alone")
    spec = checked(checkpoint)[0].model_copy(update={"token_types": False})
    graph = next(one for one in map_graphs(checkpoint.model, spec) if one.name == "gradients")
    assert graph.inputs == ("input_ids", "lengths", "target")
    ids, lengths = torch.randint(250, (2, 8)), torch.tensor([8, 5])
    given: dict[str, Any] = {"input_ids": ids, "lengths": lengths, "target": torch.tensor([1, 2])}
    with torch.no_grad():
        expected = checkpoint.model.relevance(**given, token_types=torch.zeros_like(ids))
        for found, truth in zip(graph.run(given).values(), expected, strict=True):
            torch.testing.assert_close(found, truth)
