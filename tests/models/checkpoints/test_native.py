"""A checkpoint comes back as it was saved, or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.cbam import CBAMConfig, CBAMResNet
from models.checkpoints import native
from models.checkpoints.checkpoint import CheckpointError
from models.text import TextConfig, TextTransformer
from models.video import XCLIP, TowerConfig, VideoClassifier, XCLIPConfig

LABELS = ["ja", "nein", "日本語"]
LABEL_IDS = [[1, 5, 9, 0], [1, 9, 0, 0], [1, 3, 4, 9]]
COMMON: dict[str, Any] = {
    "name": "small",
    "version": "3",
    "description": "Für Tests.",
    "labels": LABELS,
    "preprocessing": {"kind": "anything", "sizes": [1, 2]},
    "card": {"data": "none"},
}


def text() -> TextTransformer:
    return TextTransformer(
        TextConfig(
            vocabulary=9,
            labels=3,
            width=8,
            layers=2,
            heads=2,
            feedforward=12,
            positions=6,
            token_types=2,
            head="relu",
            activation="relu",
            norm_eps=1e-5,
        )
    )


def image() -> CBAMResNet:
    return CBAMResNet(CBAMConfig(labels=3, depth=18, width=4, stem="small", reduction=2))


def video() -> XCLIP:
    return XCLIP(
        XCLIPConfig(
            image=16,
            patch=8,
            frames=2,
            embed=8,
            vision=TowerConfig(width=12, layers=1, heads=3),
            temporal=TowerConfig(width=8, layers=1, heads=2),
            prompt=TowerConfig(width=8, layers=1, heads=4),
            text=TowerConfig(width=6, layers=1, heads=2),
            vocabulary=10,
            context=4,
        )
    )


Make = Callable[[], nn.Module]
FAMILIES: dict[str, tuple[Make, tuple[Tensor, ...]]] = {
    "text": (text, (torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0]]), torch.tensor([4, 2]))),
    "image": (image, (torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)),)),
    "video": (video, (torch.randn(2, 2, 3, 16, 16, generator=torch.Generator().manual_seed(0)),)),
}


@pytest.fixture(params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def saved(folder: Path, family: str) -> nn.Module:
    """The model that was written into the folder, with batch statistics that are not the initial ones."""
    torch.manual_seed(1)
    model = FAMILIES[family][0]()
    for name, buffer in model.named_buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 2) if name.endswith("var") else buffer.normal_()
    native.save(folder, model, **COMMON, label_ids=LABEL_IDS if family == "video" else None)
    return model.eval()


def test_a_checkpoint_comes_back_as_it_was_saved(tmp_path: Path, family: str) -> None:
    model = saved(tmp_path / "new" / "folder", family)
    found = native.load(tmp_path / "new" / "folder")
    inputs = FAMILIES[family][1]
    with torch.no_grad():
        if isinstance(model, XCLIP):
            model = VideoClassifier(model, model.text(torch.tensor(LABEL_IDS)))
        expected, expected_taps = model(*inputs)
        outputs, taps = found.model(*inputs)
    assert not found.model.training
    assert torch.equal(outputs["logits"], expected["logits"])
    assert list(taps) == list(expected_taps)
    assert all(torch.equal(taps[name], tap) for name, tap in expected_taps.items())
    assert found.model.config == model.config
    assert list(found.model.programs()) == list(model.programs())
    assert (found.family, found.name, found.version) == (family, "small", "3")
    assert (found.description, found.labels) == ("Für Tests.", tuple(LABELS))
    assert (found.preprocessing, found.card) == (COMMON["preprocessing"], COMMON["card"])
    assert found.weights == (tmp_path / "new" / "folder" / "model.safetensors",)
    assert found.tokenizer is None


def test_a_tokenizer_beside_the_weights_is_found(tmp_path: Path) -> None:
    saved(tmp_path, "text")
    (tmp_path / "tokenizer.json").write_text("{}")
    assert native.load(tmp_path).tokenizer == tmp_path / "tokenizer.json"


def test_saving_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    model = text().train()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    native.save(tmp_path, model, **COMMON)
    assert model.training
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())


def test_a_missing_key_is_an_error(tmp_path: Path, family: str) -> None:
    saved(tmp_path, family)
    state = load_file(tmp_path / "model.safetensors")
    gone = sorted(state)[0]
    del state[gone]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=f"missing: {gone}$"):
        native.load(tmp_path)


def test_an_unused_key_is_an_error(tmp_path: Path, family: str) -> None:
    saved(tmp_path, family)
    state = load_file(tmp_path / "model.safetensors") | {"stranger": torch.zeros(1)}
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"^unused keys: stranger$"):
        native.load(tmp_path)


def test_a_key_of_another_shape_is_an_error(tmp_path: Path, family: str) -> None:
    saved(tmp_path, family)
    state = load_file(tmp_path / "model.safetensors")
    name = max(state, key=lambda key: state[key].numel())
    save_file(state | {name: state[name].flatten()[1:].clone()}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=f"^keys of another shape: {name} "):
        native.load(tmp_path)


def rewrite(folder: Path, **changes: Any) -> None:
    path = folder / "checkpoint.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


@pytest.mark.parametrize("format_", ["regard-checkpoint-2", None])
def test_another_format_is_refused_by_name(tmp_path: Path, format_: str | None) -> None:
    saved(tmp_path, "text")
    rewrite(tmp_path, format=format_)
    with pytest.raises(CheckpointError, match=f"format is {format_!r}"):
        native.load(tmp_path)


def test_an_unknown_family_is_refused_by_name(tmp_path: Path) -> None:
    saved(tmp_path, "text")
    rewrite(tmp_path, family="sound")
    with pytest.raises(CheckpointError, match="unknown family 'sound'"):
        native.load(tmp_path)


def test_a_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, "text")
    (tmp_path / "checkpoint.json").write_text("weights")
    with pytest.raises(CheckpointError, match="Expecting value"):
        native.load(tmp_path)


def test_only_our_own_models_can_be_saved(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        native.save(tmp_path, nn.Linear(2, 2), **COMMON)


def test_an_architecture_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(CheckpointError, match="architecture"):
        native.build("text", {"vocabulary": 5, "colour": "red"})


def test_an_xclip_without_its_labels_ids_is_not_saved(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tiny = TowerConfig(width=8, layers=1, heads=2)
    sizes = {"image": 8, "patch": 4, "frames": 2, "embed": 8, "vocabulary": 5, "context": 3}
    model = XCLIP(XCLIPConfig(**sizes, vision=tiny, temporal=tiny, prompt=tiny, text=tiny))
    common = {"name": "n", "version": "1", "description": "", "labels": ["a", "b"], "card": None}
    for ids in (None, [[1, 2]]):
        with pytest.raises(ValueError, match="token ids"):
            native.save(tmp_path, model, preprocessing={}, label_ids=ids, **common)
    assert list(tmp_path.iterdir()) == []
