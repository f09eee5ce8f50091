"""A source is a folder, a file or a model of the hub; what lies beside the weights comes with it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from models.checkpoints import hub
from models.checkpoints.checkpoint import CheckpointError
from models.checkpoints.source import Source, bundle_name, open_source

STATE = {"a": torch.ones(2)}


def folder(path: Path, **config: object) -> Path:
    """A checkpoint of transformers."""
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"model_type": "bert", **config}))
    save_file(STATE, path / "model.safetensors")
    return path


def test_a_folder_is_read_with_its_config(tmp_path: Path) -> None:
    found = open_source(str(folder(tmp_path / "my-bert")))
    assert (found.name, found.folder) == ("my-bert", tmp_path / "my-bert")
    assert found.weights == (tmp_path / "my-bert" / "model.safetensors",)
    assert found.config == {"model_type": "bert"}
    assert torch.equal(found.state["a"], STATE["a"])


def test_a_folder_is_called_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path / "0123abc")
    (tmp_path / "my-bert").symlink_to(tmp_path / "0123abc")
    assert open_source(str(tmp_path / "my-bert")).name == "my-bert"
    assert open_source(f"{tmp_path}/my-bert/").name == "my-bert"
    monkeypatch.chdir(tmp_path / "0123abc")
    assert open_source(".").name == "0123abc"


@pytest.mark.parametrize("name", ["RESNET50_CBAM.pth.tar", "pytorch_model.bin"])
def test_a_file_stands_alone_whatever_lies_beside_it(tmp_path: Path, name: str) -> None:
    path = folder(tmp_path / "downloads") / name
    torch.save({"state_dict": {"module.c": torch.zeros(1)}}, path)
    found = open_source(str(path))
    assert (found.name, found.folder, found.weights, found.config) == (name, None, (path,), {})
    assert list(found.state) == ["c"]
    assert found.beside("config.json") is None
    assert found.document("config.json") is None


def test_an_index_alone_stands_for_its_parts(tmp_path: Path) -> None:
    part = folder(tmp_path / "m") / "model.safetensors"
    index = tmp_path / "m" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": part.name}}))
    found = open_source(str(index))
    assert (found.folder, found.weights, found.config, list(found.state)) == (None, (part,), {}, ["a"])


@pytest.mark.parametrize(
    "name", ["RESNET50_CBAM.pth.tar", "net.pth", "k400.pt", "best.bin", "best.safetensors"]
)
def test_a_folder_s_only_file_of_weights_may_have_any_name(tmp_path: Path, name: str) -> None:
    path = folder(tmp_path / "mine") / name
    (tmp_path / "mine" / "model.safetensors").unlink()
    (save_file if name.endswith(".safetensors") else torch.save)({"c": torch.zeros(1)}, path)
    found = open_source(str(tmp_path / "mine"))
    assert (found.name, found.weights, list(found.state)) == ("mine", (path,), ["c"])
    assert found.config == found.document("config.json") == {"model_type": "bert"}


def test_of_two_files_of_weights_none_is_chosen(tmp_path: Path) -> None:
    (folder(tmp_path / "m") / "model.safetensors").unlink()
    for name in ("net.pth", "best.safetensors"):
        (tmp_path / "m" / name).touch()
    with pytest.raises(CheckpointError, match=r"one is needed: best\.safetensors, net\.pth$"):
        open_source(str(tmp_path / "m"))


@pytest.mark.parametrize("config", ["", "{}"])
def test_a_config_that_says_nothing_is_no_config(tmp_path: Path, config: str) -> None:
    place = folder(tmp_path / "m")
    assert open_source(str(place)).required_config().given("model_type") == "bert"
    (place / "config.json").unlink()
    if config:
        (place / "config.json").write_text(config)
    with pytest.raises(CheckpointError, match=r"^m: config\.json is needed, .*: give the folder"):
        open_source(str(place)).required_config()


def test_a_folder_needs_no_config(tmp_path: Path) -> None:
    (folder(tmp_path / "m") / "config.json").unlink()
    assert open_source(str(tmp_path / "m")).config == {}


def test_what_lies_beside_the_weights_is_found(tmp_path: Path) -> None:
    found = open_source(str(folder(tmp_path / "m")))
    (tmp_path / "m" / "vocab.json").mkdir()
    assert found.beside("config.json") == tmp_path / "m" / "config.json"
    assert found.beside("vocab.json") is None
    assert found.document("config.json") == {"model_type": "bert"}
    assert found.document("gone.json") is None


@pytest.mark.parametrize("text", ["", "[]", "nonsense", '{"model_type": ["bert"]}', '{"architecture": 5}'])
def test_a_config_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    (folder(tmp_path / "m") / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"^config\.json: "):
        open_source(str(tmp_path / "m"))


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(CheckpointError, match=r"no weights; looked for model\.safetensors, "):
        open_source(str(tmp_path))


@pytest.mark.parametrize(
    "source", ["", "gone", "./gone/model", "/gone", "a/b/c", "a\x00b", "x" * 5000, "a /b", "pipe"]
)
def test_what_is_neither_here_nor_an_id_is_refused(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    with pytest.raises(CheckpointError, match="no such folder or file, and no id of the hub"):
        open_source(source)


def test_a_model_of_the_hub_is_called_by_its_id_and_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "download", lambda name: folder(tmp_path / "0123abc", from_=name))
    found = open_source("acme/Tiny.BERT")
    assert (found.name, found.config["from_"]) == ("acme/Tiny.BERT@0123abc", "acme/Tiny.BERT")


def test_a_local_folder_comes_before_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "acme").mkdir()
    folder(tmp_path / "acme" / "tiny")
    monkeypatch.setattr(hub, "download", lambda name: pytest.fail("asked the hub"))
    assert open_source("acme/tiny").name == "tiny"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("acme/Tiny.BERT@0123abc", "tiny.bert"),
        ("RESNET50_CBAM_new_name_wrap.pth.tar", "resnet50_cbam_new_name_wrap"),
        ("model.pth", "model"),
        ("My  Model (v2)", "my-model-v2"),
        ("../..", "model"),
        ("日本", "model"),
        ("_-.a", "a"),
        ("x" * 300, "x" * 128),
    ],
)
def test_a_bundle_is_named_after_its_source(source: str, name: str) -> None:
    assert bundle_name(source) == name


def test_a_source_s_checkpoint_says_where_it_is_from(tmp_path: Path) -> None:
    source = Source(name="a/b@c", folder=tmp_path, weights=(tmp_path / "w",), config={}, state=STATE)
    model = torch.nn.Linear(1, 1)
    found = source.checkpoint(model, family="text", architecture="A", labels=("x",), preprocessing={})
    assert (found.source, found.name, found.version, found.weights) == ("a/b@c", "b", "1", (tmp_path / "w",))
    assert (found.description, found.activation, found.card) == ("A, from a/b@c.", "softmax", None)
