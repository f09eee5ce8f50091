"""DistilBERT read from what transformers wrote computes what transformers computes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, processors
from torch import Tensor
from transformers import (
    DistilBertConfig,
    DistilBertForMaskedLM,
    DistilBertForSequenceClassification,
)

from models.checkpoints.checkpoint import CheckpointError, Choices
from models.checkpoints.read import read

SIZES: dict[str, Any] = {
    "vocab_size": 120,
    "dim": 32,
    "n_layers": 3,
    "n_heads": 4,
    "hidden_dim": 48,
    "max_position_embeddings": 40,
    "num_labels": 3,
    "attn_implementation": "eager",
}
LENGTHS = (24, 7, 13)
TOLERANCE = 1e-5


def original(folder: Path, model: Any = DistilBertForSequenceClassification, **changes: Any) -> Any:
    """A model, and the folder that it wrote, with weights far from the initial ones."""
    torch.manual_seed(0)
    made = model(DistilBertConfig(**{**SIZES, **changes})).eval()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "position" not in name:  # sinusoidal ones are to stay
                parameter.add_(0.3 * torch.randn(parameter.shape))
    made.save_pretrained(folder)
    tokenizer = Tokenizer(models.WordPiece({"[CLS]": 0, "[SEP]": 1, "[UNK]": 2}, unk_token="[UNK]"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 0), ("[SEP]", 1)],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return made


@torch.no_grad()
def assert_same(folder: Path, model: Any, **choices: Any) -> None:
    """Equal logits and class rows of every layer and head, for a padded batch of mixed lengths."""
    found = read(str(folder), Choices(**choices)).model
    ids = torch.randint(3, 120, (3, max(LENGTHS)), generator=torch.Generator().manual_seed(2))
    lengths = torch.tensor(LENGTHS)
    mask = torch.arange(max(LENGTHS)) < lengths[:, None]
    expected = model(input_ids=ids, attention_mask=mask.long(), output_attentions=True)
    outputs, taps = found(ids.where(mask, 0), lengths)
    program = found.programs()["cls"]
    rows: tuple[Tensor, ...] = program(*({"lengths": lengths, **taps}[name] for name in program.inputs))
    torch.testing.assert_close(outputs["logits"], expected.logits, atol=TOLERANCE, rtol=0)
    for row, attention in zip(rows, expected.attentions, strict=True):
        torch.testing.assert_close(row, attention[:, :, 0], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("sinusoidal", [False, True])
def test_logits_and_class_rows_of_a_padded_batch_are_those_of_transformers(
    sinusoidal: bool, tmp_path: Path
) -> None:
    assert_same(tmp_path, original(tmp_path, sinusoidal_pos_embds=sinusoidal))


def test_the_configs_activation_is_the_models(tmp_path: Path) -> None:
    assert_same(tmp_path, original(tmp_path, activation="relu"))


def test_it_can_be_chosen_where_the_config_does_not_name_it(tmp_path: Path) -> None:
    model = original(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["model_type"], config["architectures"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert_same(tmp_path, model, architecture="distilbert")


def test_a_pair_needs_no_token_types(tmp_path: Path) -> None:
    original(tmp_path)
    found = read(str(tmp_path))
    assert found.preprocessing == {
        "kind": "text",
        "max_tokens": 40,
        "pad_id": 0,
        "token_types": False,
        "pairs": True,
    }
    assert found.architecture == "DistilBERT, 3 layers, 32 wide, 4 heads"


def test_a_language_model_is_refused_by_its_class(tmp_path: Path) -> None:
    original(tmp_path, DistilBertForMaskedLM)
    with pytest.raises(CheckpointError, match=r"DistilBertForMaskedLM.*ForSequenceClassification"):
        read(str(tmp_path))


def test_every_key_has_its_place(tmp_path: Path) -> None:
    original(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    save_file(state | {"vocab_projector.bias": torch.zeros(120)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"^unused keys: vocab_projector\.bias$"):
        read(str(tmp_path))
    for gone in state:
        kept = {key: tensor for key, tensor in state.items() if key != gone}
        save_file(kept, tmp_path / "model.safetensors")
        with pytest.raises(CheckpointError, match=r"missing: [\w.]+$"):
            read(str(tmp_path))


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("dim", 36, "another shape: "),
        ("n_heads", 5, "n_heads 5 does not divide the width 32"),
        ("n_layers", 2, r"unused keys: distilbert\.transformer\.layer\.2\."),
        ("n_layers", 4, r"missing: blocks\.3\."),
        ("hidden_dim", 49, r"another shape: distilbert\.transformer\.layer\.0\.ffn\.lin1\.bias \[48\]"),
        ("vocab_size", 121, r"another shape: distilbert\.embeddings\.word_embeddings\.weight \[120, 32\]"),
        ("activation", "mish", "activation is 'mish'; known: gelu"),
        ("dim", "wide", "dim is 'wide', not a number"),
        ("n_layers", -3, "n_layers is -3, not a number"),
        ("hidden_dim", 10**30, "hidden_dim is 10+, not a number"),
        ("max_position_embeddings", None, "max_position_embeddings is None, not a number"),
    ],
)
def test_a_config_that_does_not_fit_the_weights_is_refused(
    field: str, value: Any, said: str, tmp_path: Path
) -> None:
    original(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {field: value}))
    with pytest.raises(CheckpointError, match=said):
        read(str(tmp_path))
