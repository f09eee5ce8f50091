"""A bundle is written whole and verified, or not at all."""

from __future__ import annotations

import copy
import dataclasses
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from export import pack as packing
from export.errors import ExportError
from export.graph import operators
from models.checkpoints.checkpoint import Checkpoint
from service import bundle


@pytest.fixture
def packed(checkpoint: Checkpoint, repository: Path) -> Path:
    """The bundle of a checkpoint."""
    return repository / checkpoint.name / checkpoint.version


def test_a_bundle_is_read_back_with_every_checksum(packed: Path, checkpoint: Checkpoint) -> None:
    manifest = bundle.read(packed)
    assert manifest.labels == checkpoint.labels
    assert {spec.name for spec in manifest.maps} == set(checkpoint.model.programs())
    assert not [path for path in packed.parents[1].iterdir() if path.name.startswith(".")]


def test_attention_is_fused_and_no_softmax_is_left(packed: Path, checkpoint: Checkpoint) -> None:
    expected = {"text": 2, "image": 0, "video": 2 * 2 + 1 + 2}[checkpoint.family]
    counts = operators(packed / "model.onnx")
    assert counts.get("Attention", 0) == expected
    assert "Softmax" not in counts
    model = onnx.load(str(packed / "model.onnx"))
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [24]


def test_probabilities_are_no_output(packed: Path) -> None:
    for node in onnx.load(str(packed / "model.onnx")).graph.node:
        if node.op_type == "Attention":
            assert [name for name in node.output if name] == list(node.output)[:1]


def test_graph_agrees_with_torch_at_another_batch(packed: Path, checkpoint: Checkpoint) -> None:
    torch.manual_seed(5)
    manifest = bundle.read(packed)
    sizes = {"batch": 4, "token": 23}
    inputs: dict[str, torch.Tensor] = {}
    for spec in manifest.inputs:
        shape = [sizes[axis] if isinstance(axis, str) else axis for axis in spec.axes]
        inputs[spec.name] = torch.randn(shape) if spec.dtype == "float32" else torch.randint(2, shape)
    if checkpoint.family == "text":
        inputs["input_ids"] = torch.randint(250, (4, 23))
        inputs["lengths"] = torch.tensor([23, 1, 9, 14])
    with torch.no_grad():
        outputs, taps = checkpoint.model(**inputs)
    session = onnxruntime.InferenceSession(str(packed / "model.onnx"))
    names = [*outputs, *taps]
    feeds = {name: tensor.numpy() for name, tensor in inputs.items()}
    for name, found in zip(names, session.run(names, feeds), strict=True):
        np.testing.assert_allclose(found, {**outputs, **taps}[name].numpy(), atol=2e-5, rtol=1e-4)


def test_a_taken_place_is_refused(packed: Path, checkpoint: Checkpoint) -> None:
    with pytest.raises(ExportError, match="exists already"):
        packing.pack(checkpoint, packed.parent.parent)


def copy_graphs(bundle: Path, folder: Path) -> None:
    """What `build` wrote into a bundle, without its manifest."""
    shutil.copytree(bundle, folder, dirs_exist_ok=True)
    (folder / "manifest.json").unlink()


def rename_tap(model: onnx.ModelProto) -> None:
    old = model.graph.output[-1].name
    model.graph.output[-1].name = "renamed"
    for node in model.graph.node:
        node.output[:] = ["renamed" if name == old else name for name in node.output]
        node.input[:] = ["renamed" if name == old else name for name in node.input]


def change_weight(model: onnx.ModelProto) -> None:
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight).copy()
        if values.ndim == 4 or (values.ndim == 2 and min(values.shape) > 8):
            values.flat[values.size // 2] += 0.25
            weight.CopyFrom(numpy_helper.from_array(values, weight.name))
            return
    raise AssertionError("no weight to change")


@pytest.mark.parametrize("damage", [rename_tap, change_weight])
def test_a_broken_export_is_refused_and_writes_nothing(
    damage, packed: Path, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build_and_damage(checkpoint: Checkpoint, folder: Path, **options: object) -> None:
        copy_graphs(packed, folder)
        model = onnx.load(str(folder / "model.onnx"))
        damage(model)
        onnx.save(model, str(folder / "model.onnx"))

    monkeypatch.setattr(packing, "build", build_and_damage)
    with pytest.raises(ExportError):
        packing.pack(checkpoint, tmp_path)
    assert list(tmp_path.iterdir()) == []


def changed(path: Path, output: str, operator: str, value: float) -> None:
    """A graph's output goes through one operator more."""
    model = onnx.load(str(path))
    node = next(node for node in model.graph.node if output in node.output)
    node.output[list(node.output).index(output)] = "unchanged"
    constant = onnx.helper.make_node("Constant", [], ["by"], value_float=value)
    model.graph.node.extend([constant, onnx.helper.make_node(operator, ["unchanged", "by"], [output])])
    onnx.save(model, str(path))


WRONG = {
    "text": ["value_norm", "grad_sam", "attention", "rollout-tuned"],
    "image": ["cam"],
    "video": ["message", "relevance"],
}


def test_a_wrong_map_is_refused_whichever_it_is(packed: Path, checkpoint: Checkpoint, tmp_path: Path) -> None:
    for name in WRONG[checkpoint.family]:
        copy_graphs(packed, tmp_path / name)
        spec = bundle.read(packed).map(name.removesuffix("-tuned"))
        assert spec is not None
        output = spec.outputs[-1] if spec.name == name else name
        graph = spec.graph if spec.name == name else name
        changed(tmp_path / name / spec.path(graph), output, "Mul", 0.5)
        with pytest.raises(ExportError, match=f"^{re.escape(output)} at "):
            packing.seal(checkpoint, tmp_path / name)


@pytest.mark.parametrize(
    ("output", "operator", "value", "words"),
    [
        ("row_sum_error", "Add", 1.0, "row_sum_error at .*, allowed 1e-04"),
        ("output_error", "Add", 1.0, "output_error at .*, allowed 1e-04"),
        ("output_error", "Mul", 0.0, r"of half an output at .*: 0\.0000, expected 1"),
    ],
)
def test_a_proof_that_fails_or_sees_nothing_is_refused(
    output: str, operator: str, value: float, words: str, packed: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    if checkpoint.family == "image":
        pytest.skip("gates have no softmax")
    copy_graphs(packed, tmp_path / "1")
    changed(tmp_path / "1" / "maps" / "proof.onnx", output, operator, value)
    with pytest.raises(ExportError, match=words):
        packing.seal(checkpoint, tmp_path / "1")


REFUSED: dict[str, dict[str, Any]] = {
    "name '../out' does not match": {"name": "../out"},
    "version: String should match": {"version": "../1"},
    "4 logits, 3 labels": {"labels": ("a", "b", "c")},
    "card: Input should be a valid dictionary": {"card": "none"},
    "preprocessing: Input tag": {"preprocessing": {"kind": "sound"}},
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_the_schema_refuses_is_one_line_and_leaves_not_even_a_folder(
    reason: str, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=re.escape(reason)) as caught:
        packing.pack(dataclasses.replace(checkpoint, **REFUSED[reason]), tmp_path / "new" / "models")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_no_folder_that_was_not_there(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(checkpoint: Checkpoint, folder: Path, **options: object) -> None:
        (folder / "model.onnx").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(packing, "build", interrupted)
    with pytest.raises(KeyboardInterrupt):
        packing.pack(checkpoint, tmp_path / "new" / "models")
    assert list(tmp_path.iterdir()) == []


def test_a_text_model_for_hardly_a_token_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    if checkpoint.family != "text":
        pytest.skip("for texts alone")
    few = dataclasses.replace(checkpoint, preprocessing={"kind": "text", "max_tokens": 15})
    with pytest.raises(ExportError, match="max_tokens is 15; at least 16 are needed"):
        packing.pack(few, tmp_path)


def test_a_signature_costs_no_forward(checkpoint: Checkpoint) -> None:
    spec, expected = packing.checked(checkpoint)
    names = set(expected.axes)
    with torch.device("meta"):  # weights without values: a computation would have nothing to compute with
        empty = copy.deepcopy(checkpoint.model).to("meta")
    assert packing.checked(dataclasses.replace(checkpoint, model=empty)) == (spec, expected)
    assert {"logits", *expected.taps} < names


def test_verification_leaves_the_model_as_it_was(
    packed: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    copy_graphs(packed, tmp_path / "1")
    before = {name: tensor.clone() for name, tensor in checkpoint.model.state_dict().items()}
    packing.seal(checkpoint, tmp_path / "1")
    after = checkpoint.model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert {tensor.dtype for tensor in after.values() if tensor.is_floating_point()} == {torch.float32}
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
