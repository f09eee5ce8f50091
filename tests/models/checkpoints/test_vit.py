"""ViT and DeiT classifiers as transformers writes them: the same numbers, every key in its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    DeiTConfig,
    DeiTForImageClassification,
    DeiTForImageClassificationWithTeacher,
    PreTrainedModel,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
    ViTModel,
)

from models.checkpoints.checkpoint import Checkpoint, CheckpointError, Choices
from models.checkpoints.read import read

SIZES: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "image_size": [24, 32],
    "patch_size": 8,
    "num_labels": 5,
    "layer_norm_eps": 1e-3,
}
KINDS: dict[str, Callable[..., PreTrainedModel]] = {
    "vit": lambda **sizes: ViTForImageClassification(ViTConfig(**sizes)),
    "deit": lambda **sizes: DeiTForImageClassification(DeiTConfig(**sizes)),
    "teacher": lambda **sizes: DeiTForImageClassificationWithTeacher(DeiTConfig(**sizes)),
}
WEIGHTS = "model.safetensors"


def stirred(model: PreTrainedModel) -> PreTrainedModel:
    """Every weight far from where training starts, so that none can be left out unnoticed."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    model.set_attn_implementation("eager")
    return model.eval()


def save(folder: Path, model: PreTrainedModel) -> Path:
    model.save_pretrained(folder)
    high, wide = model.config.image_size if isinstance(model.config.image_size, list) else (32, 32)
    ViTImageProcessorPil(size={"height": high, "width": wide}).save_pretrained(folder)
    return folder


@pytest.fixture
def vit(tmp_path: Path) -> Path:
    return save(tmp_path / "My ViT", stirred(KINDS["vit"](**SIZES)))


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_weights(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    state = load_file(folder / WEIGHTS)
    change(state)
    save_file(state, folder / WEIGHTS)


def rows(checkpoint: Checkpoint, taps: dict[str, Tensor], name: str) -> tuple[Tensor, ...]:
    """A map per layer [B, H, P]."""
    program = checkpoint.model.programs()[name]  # type: ignore[operator]
    return tuple(grid.flatten(2) for grid in program(*(taps[tap] for tap in program.inputs)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"qkv_bias": False, "hidden_act": "gelu_new", "patch_size": [4, 8]},
        {"image_size": 32, "hidden_act": "quick_gelu", "num_attention_heads": 1},
    ],
    ids=["oblong", "no bias, oblong patches", "square, one head"],
)
@torch.no_grad()
def test_logits_and_rows_are_those_of_transformers(
    tmp_path: Path, kind: str, changes: dict[str, Any]
) -> None:
    theirs = stirred(KINDS[kind](**SIZES | changes))
    checkpoint = read(str(save(tmp_path, theirs)))
    spec = checkpoint.preprocessing
    pixels = torch.randn(3, 3, spec["height"], spec["width"])
    wanted = theirs(pixels, output_attentions=True)
    found, taps = checkpoint.model(pixels)
    assert (found["logits"] - wanted.logits).abs().max() < 1e-5
    assert wanted.logits.std() > 0.1
    prefix = 1 if kind == "vit" else 2
    for name, token in (("cls", 0), ("distillation", 1))[:prefix]:
        for mine, attention in zip(rows(checkpoint, taps, name), wanted.attentions, strict=True):
            assert (mine - attention[:, :, token, prefix:]).abs().max() < 1e-6
    assert ("distillation" in checkpoint.model.programs()) == (kind != "vit")  # type: ignore[operator]


def test_a_checkpoint_says_what_it_is(vit: Path) -> None:
    found = read(str(vit))
    assert (found.family, found.name, found.activation) == ("image", "my-vit", "softmax")
    assert found.architecture == "ViT/8, 2 layers, 24 wide, 3 heads"
    assert found.labels == tuple(f"LABEL_{index}" for index in range(5))
    assert found.preprocessing["kind"] == "image"
    assert found.preprocessing["resize_to"] == (24, 32)
    assert found.tokenizer is None


def test_labels_come_from_the_config_or_from_a_file(vit: Path, tmp_path: Path) -> None:
    change_config(vit, id2label={str(index): f"bird {index}" for index in range(5)})
    assert read(str(vit)).labels[3] == "bird 3"
    names = tmp_path / "names.txt"
    names.write_text("a\nb\nc\nd\ne\n")
    assert read(str(vit), Choices(labels=str(names))).labels == ("a", "b", "c", "d", "e")
    names.write_text("a\nb\n")
    with pytest.raises(CheckpointError, match="2 names for 5 outputs"):
        read(str(vit), Choices(labels=str(names)))


def test_several_labels_at_once_are_scored_one_by_one(vit: Path) -> None:
    change_config(vit, problem_type="multi_label_classification")
    assert read(str(vit)).activation == "sigmoid"


def test_half_precision_weights_are_read_as_fp32(vit: Path) -> None:
    change_weights(vit, lambda state: state.update({key: value.half() for key, value in state.items()}))
    assert {parameter.dtype for parameter in read(str(vit)).model.parameters()} == {torch.float32}


def test_what_a_classifier_does_not_use_is_listed(vit: Path) -> None:
    extra = {
        "vit.pooler.dense.weight": torch.zeros(24, 24),
        "vit.embeddings.mask_token": torch.zeros(1, 1, 24),
        "vit.embeddings.distillation_token": torch.zeros(1, 1, 24),
        "distillation_classifier.weight": torch.zeros(5, 24),
    }
    change_weights(vit, lambda state: state.update(extra))
    with pytest.raises(CheckpointError, match=f"unused keys: {', '.join(sorted(extra))}"):
        read(str(vit))


def test_both_kinds_of_heads_at_once_are_refused(tmp_path: Path) -> None:
    save(tmp_path, KINDS["teacher"](**SIZES))
    change_weights(tmp_path, lambda state: state.update({"classifier.bias": torch.zeros(5)}))
    with pytest.raises(CheckpointError, match=r"unused keys: classifier\.bias$"):
        read(str(tmp_path))


def test_a_head_short_of_its_teachers_is_refused(tmp_path: Path) -> None:
    save(tmp_path, KINDS["teacher"](**SIZES))
    change_weights(tmp_path, lambda state: state.pop("cls_classifier.weight"))
    with pytest.raises(CheckpointError, match=r"missing: classifier\.weight"):
        read(str(tmp_path))


def test_missing_and_misshaped_keys_are_listed(vit: Path) -> None:
    def change(state: dict[str, Tensor]) -> None:
        del state["vit.encoder.layer.1.layernorm_after.bias"]
        state["vit.embeddings.position_embeddings"] = torch.zeros(1, 12, 24)

    change_weights(vit, change)
    with pytest.raises(CheckpointError) as caught:
        read(str(vit))
    assert "missing: blocks.1.feedforward_norm.bias" in str(caught.value)
    assert "vit.embeddings.position_embeddings [1, 12, 24] for embeddings.positions [1, 13, 24]" in str(
        caught.value
    )


def test_a_model_without_a_classifier_is_refused(tmp_path: Path) -> None:
    save(tmp_path, ViTModel(ViTConfig(**SIZES)))
    with pytest.raises(CheckpointError, match=r"architectures is ViTModel; .* ForImageClassification"):
        read(str(tmp_path))
    change_config(tmp_path, architectures=None)
    with pytest.raises(CheckpointError, match=r"missing: .*classifier\.weight"):
        read(str(tmp_path))


def test_without_a_preprocessor_config_it_is_refused(vit: Path) -> None:
    (vit / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"no preprocessor_config\.json beside the weights"):
        read(str(vit))


def test_a_preprocessor_for_another_size_is_refused(vit: Path) -> None:
    ViTImageProcessorPil(size=32).save_pretrained(vit)
    with pytest.raises(CheckpointError, match="end as 32 x 32 pixels, the model takes 24 x 32"):
        read(str(vit))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_channels": 1}, "num_channels is 1; supported: 3"),
        ({"num_channels": [3]}, r"num_channels is \[3\]"),
        ({"image_size": 30}, r"image size \(30, 30\) is not divisible by patch size \(8, 8\)"),
        ({"image_size": "24"}, "image_size is '24', not a number"),
        ({"image_size": 2**40}, "image_size is 1099511627776, not a number from 1 to 16384"),
        ({"image_size": [24, -32]}, "image_size: width is -32"),
        ({"image_size": [24, 32, 3]}, "neither a side nor height and width"),
        ({"image_size": None}, "image_size is None"),
        ({"patch_size": 0}, "patch_size is 0"),
        ({"patch_size": [8, None]}, "patch_size: width is None"),
        ({"hidden_size": "24"}, "hidden_size is '24'"),
        ({"hidden_size": 3 * 2**22}, "keys of another shape"),
        ({"num_attention_heads": 7}, "num_attention_heads 7 does not divide the width 24"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
        ({"num_hidden_layers": 3}, r"missing: blocks\.2\."),
        ({"num_hidden_layers": 1}, r"unused keys: vit\.encoder\.layer\.1\."),
        ({"intermediate_size": 2**25}, "intermediate_size is 33554432"),
        ({"intermediate_size": 48}, "keys of another shape"),
        ({"qkv_bias": "false"}, "qkv_bias is 'false', neither true nor false"),
        ({"qkv_bias": False}, "unused keys"),
        ({"hidden_act": "swish"}, "hidden_act is 'swish'"),
        ({"layer_norm_eps": 0}, "layer_norm_eps is 0"),
        ({"layer_norm_eps": "1e-12"}, "layer_norm_eps is '1e-12'"),
        ({"model_type": "deit"}, "unused keys: vit"),
        ({"auto_map": {"AutoModel": "x.Y"}}, "auto_map: the model brings code of its own"),
        ({"id2label": {"0": "a"}}, "id2label: 1 names for 5 outputs"),
        ({"problem_type": "guess"}, "problem_type is 'guess'"),
    ],
)
def test_a_config_that_does_not_fit_is_refused_by_name(
    vit: Path, changes: dict[str, Any], message: str
) -> None:
    change_config(vit, **changes)
    with pytest.raises(CheckpointError, match=message):
        read(str(vit))
