"""A checkpoint comes back as it was saved, or not at all."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from torch import Tensor, nn

from models.cbam import CBAMConfig, CBAMResNet
from models.checkpoints import label_texts, native
from models.checkpoints.checkpoint import CheckpointError, Choices
from models.checkpoints.source import open_source
from models.text import TextConfig, TextTransformer
from models.video import XCLIP, TextTower, TowerConfig, VideoClassifier, XCLIPConfig

LABELS = ["ja", "nein", "日本語"]
LABEL_IDS = [[1, 5, 9, 0], [1, 9, 0, 0], [1, 3, 4, 9]]
COMMON: dict[str, Any] = {
    "name": "small",
    "version": "3",
    "description": "Für Tests.",
    "labels": LABELS,
    "preprocessing": {"kind": "anything", "max_tokens": 6},
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
    if family == "text":
        tokenizer(folder / "tokenizer.json")
    return model.eval()


def tokenizer(path: Path, *, tokens: int = 9) -> Path:
    vocabulary = {chr(ord("a") + index): index for index in range(tokens)}
    Tokenizer(models.WordLevel(vocabulary, unk_token="a")).save(str(path))
    return path


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
    beside = tmp_path / "new" / "folder" / "tokenizer.json"
    assert found.tokenizer == (beside if family == "text" else None)


def test_another_tokenizer_can_be_chosen(tmp_path: Path) -> None:
    saved(tmp_path, "text")
    other = tokenizer(tmp_path / "other.json", tokens=5)
    assert native.read(open_source(str(tmp_path)), Choices(tokenizer=other)).tokenizer == other


def test_a_tokenizer_the_model_does_not_know_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, "text")
    tokenizer(tmp_path / "tokenizer.json", tokens=10)
    with pytest.raises(CheckpointError, match="its ids go to 9, the model's embedding has 9 rows"):
        native.load(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"no tokenizer\.json"):
        native.load(tmp_path)


@pytest.mark.parametrize("family", ["text", "image"])
def test_other_labels_can_be_chosen(tmp_path: Path, family: str) -> None:
    saved(tmp_path, family)
    (tmp_path / "labels.txt").write_text("yes\nno\nmaybe\n")
    chosen = Choices(labels=str(tmp_path / "labels.txt"))
    assert native.read(open_source(str(tmp_path)), chosen).labels == ("yes", "no", "maybe")
    with pytest.raises(CheckpointError, match="1000 names for 3 outputs"):
        native.read(open_source(str(tmp_path)), Choices(labels="imagenet-1k"))


def test_the_labels_of_an_xclip_cannot_be_replaced(tmp_path: Path) -> None:
    saved(tmp_path, "video")
    (tmp_path / "labels.txt").write_text("yes\nno\nmaybe\n")
    with pytest.raises(CheckpointError, match=r"labels: those of this X-CLIP are fixed by checkpoint\.json"):
        native.read(open_source(str(tmp_path)), Choices(labels=str(tmp_path / "labels.txt")))


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_what_is_saved_has_the_mode_of_any_new_file(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        native.save(tmp_path, text(), **COMMON)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"model.safetensors": 0o666 & ~umask, "checkpoint.json": 0o666 & ~umask}


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
    with pytest.raises(CheckpointError, match="family is 'sound'"):
        native.load(tmp_path)


def test_a_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, "text")
    (tmp_path / "checkpoint.json").write_text("weights")
    with pytest.raises(CheckpointError, match="Expecting value"):
        native.load(tmp_path)


def test_only_our_own_models_can_be_saved(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        native.save(tmp_path, nn.Linear(2, 2), **COMMON)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": None},
        {"name": 5},
        {"version": "../1"},
        {"version": 1},
        {"description": []},
        {"labels": "abc"},
        {"labels": []},
        {"labels": [1, 2, 3]},
        {"labels": None},
        {"label_ids": "abc"},
        {"label_ids": [["a"]]},
        {"preprocessing": []},
        {"card": "good"},
        {"architecture": []},
        {"architecture": None},
        {"stranger": 1},
        {"family": ["text"]},
        {"family": None},
    ],
)
def test_a_document_that_makes_no_sense_is_refused_by_field(tmp_path: Path, changes: dict[str, Any]) -> None:
    saved(tmp_path, "text")
    rewrite(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=rf"^checkpoint\.json: {next(iter(changes))}"):
        native.load(tmp_path)


@pytest.mark.parametrize(
    "field", ["family", "name", "version", "description", "architecture", "labels", "preprocessing", "card"]
)
def test_a_document_without_a_field_is_refused_by_name(tmp_path: Path, field: str) -> None:
    saved(tmp_path, "text")
    document = json.loads((tmp_path / "checkpoint.json").read_text(encoding="utf-8"))
    del document[field]
    (tmp_path / "checkpoint.json").write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match=rf"^checkpoint\.json: {field} is missing$"):
        native.load(tmp_path)


@pytest.mark.parametrize("value", [None, "12", 1.5, True, [], {}, 0, -1, 2**24 + 1, 2**200, float("nan")])
@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("text", "vocabulary"),
        ("text", "layers"),
        ("text", "heads"),
        ("text", "width"),
        ("text", "head"),
        ("text", "activation"),
        ("image", "depth"),
        ("image", "width"),
        ("image", "reduction"),
        ("image", "stem"),
        ("video", "patch"),
        ("video", "vision"),
        ("video", "context"),
    ],
)
def test_sizes_that_make_no_sense_are_refused_by_name(family: Any, name: str, value: object) -> None:
    sizes = {**asdict(FAMILIES[family][0]().config), name: value}
    with pytest.raises(CheckpointError, match=rf"^checkpoint\.json: architecture: .*{name if value else ''}"):
        native.build(family, sizes)


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("text", {"colour": "red"}),
        ("text", {"layers": 1001}),
        ("text", {"heads": 3}),
        ("text", {"dropout": 1.5}),
        ("text", {"norm_eps": float("inf")}),
        ("video", {"image": 17}),
        ("video", {"embed": 9}),
        ("video", {"text": {"width": 6, "layers": 10**9, "heads": 2}}),
        ("video", {"text": {"width": 6, "layers": 1, "heads": 4}}),
        ("video", {"text": {"width": 6}}),
    ],
)
def test_sizes_that_do_not_fit_are_refused(family: Any, changes: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=r"^checkpoint\.json: architecture: "):
        native.build(family, asdict(FAMILIES[family][0]().config) | changes)


@pytest.mark.parametrize("max_tokens", [None, 0, 7, "6", 2**70])
def test_texts_longer_than_the_model_s_positions_are_refused(tmp_path: Path, max_tokens: object) -> None:
    saved(tmp_path, "text")
    rewrite(tmp_path, preprocessing={"kind": "text", "max_tokens": max_tokens})
    with pytest.raises(CheckpointError, match=r"preprocessing: max_tokens is .* not a number from 1 to 6"):
        native.load(tmp_path)


@pytest.mark.parametrize(
    "ids",
    [
        None,
        [],
        LABEL_IDS[:2],
        [*LABEL_IDS, LABEL_IDS[0]],
        [[1, 2], *LABEL_IDS[1:]],
        [[10] * 4] * 3,
        [[-1] * 4] * 3,
    ],
)
def test_label_ids_that_do_not_fit_are_refused(tmp_path: Path, ids: object) -> None:
    saved(tmp_path, "video")
    rewrite(tmp_path, label_ids=ids)
    with pytest.raises(CheckpointError, match=r"label_ids are not 3 rows of 4 token ids below 10"):
        native.load(tmp_path)


def test_the_labels_of_an_xclip_are_encoded_some_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path, "video")
    together = native.load(tmp_path).model.labels
    runs: list[tuple[int, ...]] = []
    forward = TextTower.forward

    def counted(tower: TextTower, ids: Tensor) -> Tensor:
        runs.append(tuple(ids.shape))
        return forward(tower, ids)

    monkeypatch.setattr(TextTower, "forward", counted)
    monkeypatch.setattr(label_texts, "TOGETHER", 2)
    found = native.load(tmp_path).model.labels
    assert runs == [(2, 4), (1, 4)]
    torch.testing.assert_close(found, together, rtol=0, atol=1e-6)


@pytest.mark.parametrize("label", ["", " ", "a\nb", "\u202eb"])
def test_labels_that_are_no_names_are_refused(tmp_path: Path, label: str) -> None:
    saved(tmp_path, "image")
    rewrite(tmp_path, labels=["a", label, "c"])
    with pytest.raises(CheckpointError, match=r"^checkpoint\.json: labels: label 1 is .*, which is no name$"):
        native.load(tmp_path)


def test_damaged_documents_are_read_or_refused(tmp_path: Path) -> None:
    saved(tmp_path, "text")
    path = tmp_path / "checkpoint.json"
    data, chance = path.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(200):
        damaged = bytearray(data)
        for _ in range(chance.choice([1, 2, 5])):
            damaged[chance.randrange(len(data))] = chance.choice(b'0123456789-"[]{}:,. aeE' + bytes([0, 255]))
        path.write_bytes(damaged)
        try:
            native.load(tmp_path)
        except CheckpointError:
            refused += 1
    assert 50 < refused <= 200


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
