"""Which reader a source gets, and what is said of one that none can read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from models.cbam import CBAMConfig, CBAMResNet
from models.checkpoints import bert, cbam, distilbert, native, vit, xclip, xclip_original
from models.checkpoints import read as module
from models.checkpoints.checkpoint import CheckpointError, Choices
from models.checkpoints.read import READERS, find_reader, read
from models.checkpoints.source import Source

COMMON: dict[str, Any] = {"name": "n", "version": "1", "description": "", "labels": ["a"], "card": None}


def source(folder: Path, *keys: str, **config: object) -> Source:
    state = {key: torch.zeros(1) for key in keys}
    return Source(name="mine", folder=folder, weights=(), config=config, state=state)


@pytest.mark.parametrize(
    ("config", "keys", "expected"),
    [
        ({"model_type": "bert"}, (), bert),
        ({"model_type": "roberta"}, (), bert),
        ({"model_type": "xlm-roberta"}, (), bert),
        ({"model_type": "distilbert"}, (), distilbert),
        ({"model_type": "vit"}, (), vit),
        ({"model_type": "deit"}, (), vit),
        ({"model_type": "xclip"}, (), xclip),
        ({}, ("mit.positional_embedding", "visual.class_embedding"), xclip_original),
        ({}, (cbam.FIRST,), cbam),
        ({"architecture": "resnet50"}, (cbam.FIRST,), cbam),
    ],
)
def test_an_architecture_is_known_by_its_config_or_its_keys(
    tmp_path: Path, config: dict[str, str], keys: tuple[str, ...], expected: object
) -> None:
    assert find_reader(source(tmp_path, *keys, **config)) is expected


def test_a_checkpoint_of_our_own_is_known_before_all_others(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.json").touch()
    assert find_reader(source(tmp_path, cbam.FIRST, model_type="bert")) is native


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({}, "nothing"),
        ({"model_type": "llama"}, "llama"),
        ({"architecture": "efficientnet_b0"}, "efficientnet_b0"),
    ],
)
def test_an_unknown_architecture_is_refused_with_what_was_looked_at(
    tmp_path: Path, config: dict[str, str], named: str
) -> None:
    with pytest.raises(CheckpointError) as refusal:
        find_reader(source(tmp_path, *"gfedcba", **config))
    assert str(refusal.value) == (
        f"mine: no architecture that is known; its config says {named}, its keys are a, b, c, d, e, ...; "
        f"known: {', '.join(READERS)}"
    )


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "vit", "xclip"])
@pytest.mark.parametrize("alone", [True, False])
def test_sizes_are_never_guessed_where_a_config_is_missing(
    tmp_path: Path, architecture: str, alone: bool
) -> None:
    weights = tmp_path / "best.safetensors"
    save_file({f"{architecture}.encoder.layer.0.a": torch.zeros(1)}, weights)
    if alone:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": architecture}))
    with pytest.raises(CheckpointError, match=r"config\.json is needed, .*: give the folder"):
        read(str(weights if alone else tmp_path), Choices(architecture=architecture))


def test_a_stray_document_beside_a_file_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.json").write_text("{}")
    torch.save({cbam.FIRST: torch.zeros(1)}, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match="without CBAM's gates"):
        read(str(tmp_path / "net.pth"))
    with pytest.raises(CheckpointError, match=r"checkpoint\.json: format is "):
        read(str(tmp_path))


@pytest.mark.parametrize(
    ("key", "title"),
    [
        ("bert.pooler.dense.weight", "BERT"),
        ("roberta.embeddings.LayerNorm.weight", "RoBERTa"),
        ("distilbert.transformer.layer.0.ffn.lin1.bias", "DistilBERT"),
        ("vit.layernorm.bias", "ViT"),
        ("deit.layernorm.bias", "DeiT"),
        ("mit.encoder.layers.0.mlp.fc1.bias", "X-CLIP"),
    ],
)
def test_keys_of_transformers_without_a_config_are_told_by_name(tmp_path: Path, key: str, title: str) -> None:
    expected = rf"^mine: its keys look like {title} of transformers, .* its config\.json: give the folder"
    with pytest.raises(CheckpointError, match=expected):
        find_reader(source(tmp_path, "a", key))
    with pytest.raises(CheckpointError, match="its config says llama"):
        find_reader(source(tmp_path, "a", key, model_type="llama"))


def test_a_chosen_architecture_is_read_whatever_the_source_looks_like(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"checkpoint\.json: format is "):
        read(str(tmp_path), Choices(architecture="regard"))
    for architecture in READERS:
        with pytest.raises(CheckpointError):
            read(str(tmp_path), Choices(architecture=architecture))


def test_an_unknown_choice_is_refused_before_the_source_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "open_source", lambda name: pytest.fail("opened"))
    with pytest.raises(CheckpointError, match=r"^architecture 'bart' is unknown; known: regard, bert, "):
        read("acme/tiny", Choices(architecture="bart"))


def test_a_source_is_read_by_the_reader_that_fits(tmp_path: Path) -> None:
    model = CBAMResNet(CBAMConfig(labels=1, depth=18, width=4, stem="small"))
    native.save(tmp_path, model, preprocessing={"kind": "image"}, **COMMON)
    assert read(str(tmp_path)).family == "image"
