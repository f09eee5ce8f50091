"""BERT, RoBERTa and XLM-RoBERTa read from what transformers wrote compute what transformers computes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    PreTrainedModel,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaForSequenceClassification,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from models.checkpoints.checkpoint import Checkpoint, CheckpointError, Choices
from models.checkpoints.read import read

SIZES: dict[str, Any] = {
    "vocab_size": 120,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
    "layer_norm_eps": 1e-3,  # so large that another one would be seen
    "attn_implementation": "eager",
}
CLASSES: dict[str, tuple[Any, type[PreTrainedModel], dict[str, Any]]] = {
    "bert": (BertConfig, BertForSequenceClassification, {}),
    "roberta": (RobertaConfig, RobertaForSequenceClassification, {"type_vocab_size": 1}),
    "xlm-roberta": (XLMRobertaConfig, XLMRobertaForSequenceClassification, {"type_vocab_size": 1}),
}
LENGTHS = (24, 7, 13)
TOLERANCE = 1e-5


def stirred(model: Any) -> Any:
    """Weights so far from the initial ones that nothing can be left out unnoticed."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def original(kind: str, **changes: Any) -> Any:
    torch.manual_seed(0)
    config, model, own = CLASSES[kind]
    return stirred(model(config(**{**SIZES, "num_labels": 3, **own, **changes})))


def tokenizer(*, pairs: str = "[CLS] $A [SEP] $B:1 [SEP]:1") -> Tokenizer:
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3} | {c: i + 4 for i, c in enumerate(letters)}
    found = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    found.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    found.add_special_tokens(["[PAD]", "[CLS]", "[SEP]", "[UNK]"])
    found.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair=pairs, special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return found


def written(folder: Path, model: Any) -> Path:
    model.save_pretrained(folder)
    tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def rewritten(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Path:
    """The folder with another state."""
    state = change(load_file(folder / "model.safetensors"))
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, folder / "model.safetensors")
    return folder


def configured(folder: Path, **changes: Any) -> Path:
    """The folder with another config; None takes a field away."""
    path = folder / "config.json"
    fields = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in fields.items() if value is not None}))
    return folder


def batch(pad_id: int) -> tuple[Tensor, Tensor]:
    """A padded batch of mixed lengths whose texts hold every token but the padding's."""
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(pad_id + 1, SIZES["vocab_size"], (3, max(LENGTHS)), generator=generator)
    lengths = torch.tensor(LENGTHS)
    return ids.masked_fill(torch.arange(max(LENGTHS)) >= lengths[:, None], pad_id), lengths


def rows(model: Any, lengths: Tensor, taps: dict[str, Tensor]) -> list[Tensor]:
    """The class rows [B, H, N] of every layer."""
    program = model.programs()["cls"]
    return list(program(*({"lengths": lengths, **taps}[name] for name in program.inputs)))


@torch.no_grad()
def assert_same(found: Checkpoint, model: Any, token_types: Tensor | None = None) -> None:
    """Equal logits, and equal class rows of every layer and head."""
    ids, lengths = batch(model.config.pad_token_id)
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    types = {} if token_types is None else {"token_type_ids": token_types}
    expected = model(input_ids=ids, attention_mask=mask, output_attentions=True, **types)
    outputs, taps = found.model(ids, lengths, token_types)
    torch.testing.assert_close(outputs["logits"], expected.logits, atol=TOLERANCE, rtol=0)
    assert len(expected.attentions) == SIZES["num_hidden_layers"]
    for row, attention in zip(rows(found.model, lengths, taps), expected.attentions, strict=True):
        torch.testing.assert_close(row, attention[:, :, 0], atol=TOLERANCE, rtol=0)


@pytest.fixture(params=list(CLASSES))
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_logits_and_class_rows_of_a_padded_batch_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    model = original(kind)
    found = read(str(written(tmp_path, model)))
    assert_same(found, model)
    assert (found.family, len(found.labels), found.activation) == ("text", 3, "softmax")
    assert found.tokenizer == tmp_path / "tokenizer.json"


def test_positions_after_the_paddings_id_are_all_that_can_be_used(kind: str, tmp_path: Path) -> None:
    found = read(str(written(tmp_path, original(kind))))
    assert found.preprocessing["max_tokens"] == (40 if kind == "bert" else 38)
    assert found.preprocessing["pad_id"] == (0 if kind == "bert" else 1)


@pytest.mark.parametrize("pad_id", [0, 5])
def test_another_padding_id_moves_robertas_positions(pad_id: int, tmp_path: Path) -> None:
    model = original("roberta", pad_token_id=pad_id)
    found = read(str(written(tmp_path, model)))
    assert_same(found, model)
    assert found.preprocessing["max_tokens"] == 40 - pad_id - 1


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_token_types_are_added(kind: str, tmp_path: Path) -> None:
    model = original(kind, type_vocab_size=2)
    found = read(str(written(tmp_path, model)))
    assert found.preprocessing["token_types"] is (kind == "bert")  # RoBERTa's tokenizer gives none
    types = torch.randint(2, (3, max(LENGTHS)), generator=torch.Generator().manual_seed(3))
    assert_same(found, model, types)


def test_a_single_token_type_is_added_without_being_asked_for(tmp_path: Path) -> None:
    model = original("bert", type_vocab_size=1)
    found = read(str(written(tmp_path, model)))
    assert not found.preprocessing["token_types"]
    assert_same(found, model)


@pytest.mark.parametrize("activation", ["gelu_new", "relu", "gelu_fast", "quick_gelu"])
def test_the_configs_activation_is_the_models(activation: str, tmp_path: Path) -> None:
    model = original("bert", hidden_act=activation)
    assert_same(read(str(written(tmp_path, model))), model)


def test_a_pickle_of_old_with_gamma_beta_and_counters_is_the_same_model(kind: str, tmp_path: Path) -> None:
    model = original(kind)
    written(tmp_path, model)
    state = {
        key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for key, tensor in load_file(tmp_path / "model.safetensors").items()
    }
    prefix = "bert" if kind == "bert" else "roberta"
    state[f"{prefix}.embeddings.position_ids"] = torch.arange(40)[None]
    (tmp_path / "model.safetensors").unlink()
    torch.save(state, tmp_path / "pytorch_model.bin")
    found = read(str(tmp_path))
    assert_same(found, model)
    assert found.weights == (tmp_path / "pytorch_model.bin",)


def test_a_norm_given_twice_is_refused(tmp_path: Path) -> None:
    written(tmp_path, original("bert"))
    rewritten(
        tmp_path, lambda state: state | {"bert.embeddings.LayerNorm.gamma": torch.ones(SIZES["hidden_size"])}
    )
    with pytest.raises(CheckpointError, match=r"^unused keys: bert\.embeddings\.LayerNorm\.(gamma|weight)$"):
        read(str(tmp_path))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_computed_in_fp32(dtype: torch.dtype, tmp_path: Path) -> None:
    model = original("roberta").to(dtype)
    found = read(str(written(tmp_path, model)))
    assert {parameter.dtype for parameter in found.model.parameters()} == {torch.float32}
    assert_same(found, model.float())


def test_labels_and_problem_type_are_the_configs(tmp_path: Path) -> None:
    names = {0: "no", 1: "perhaps", 2: "yes"}
    model = original("bert", id2label=names, problem_type="multi_label_classification")
    found = read(str(written(tmp_path, model)))
    assert (found.labels, found.activation) == (("no", "perhaps", "yes"), "sigmoid")


def test_a_file_of_labels_replaces_the_configs(tmp_path: Path) -> None:
    written(tmp_path / "model", original("bert"))
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    assert read(str(tmp_path / "model"), Choices(labels=str(tmp_path / "labels.txt"))).labels == (
        "a",
        "b",
        "c",
    )


def test_the_layout_is_found_by_the_keys_where_the_config_names_another(tmp_path: Path) -> None:
    model = original("roberta")
    configured(written(tmp_path, model), model_type="camembert")
    with pytest.raises(CheckpointError, match="camembert"):
        read(str(tmp_path))
    assert_same(read(str(tmp_path), Choices(architecture="bert")), model)


@pytest.mark.parametrize(
    ("config", "model", "said"),
    [
        (BertConfig, BertForMaskedLM, "BertForMaskedLM"),
        (BertConfig, BertModel, "BertModel"),
        (RobertaConfig, RobertaForMaskedLM, "RobertaForMaskedLM"),
    ],
)
def test_a_model_of_another_task_is_refused_by_its_class(
    config: Any, model: type[PreTrainedModel], said: str, tmp_path: Path
) -> None:
    written(tmp_path, model(config(**SIZES)))
    with pytest.raises(CheckpointError, match=rf"architectures is {said}.*ForSequenceClassification"):
        read(str(tmp_path))


def test_a_model_of_another_task_without_a_class_is_refused_by_its_keys(tmp_path: Path) -> None:
    configured(written(tmp_path, BertForMaskedLM(BertConfig(**SIZES))), architectures=None)
    with pytest.raises(CheckpointError) as caught:
        read(str(tmp_path))
    unused, missing = str(caught.value).split("; missing: ")
    assert unused.startswith("unused keys: cls.predictions.bias, cls.predictions.transform.")
    assert missing == "classifier.bias, classifier.weight, head.0.bias, head.0.weight"


@pytest.mark.parametrize("key", ["cls.predictions.bias", "bert.encoder.layer.3.output.dense.bias", "stray"])
def test_a_key_without_a_place_is_refused(key: str, tmp_path: Path) -> None:
    written(tmp_path, original("bert"))
    rewritten(tmp_path, lambda state: state | {key: torch.zeros(3)})
    with pytest.raises(CheckpointError, match=f"^unused keys: {key}$"):
        read(str(tmp_path))


def test_every_missing_key_is_refused(kind: str, tmp_path: Path) -> None:
    written(tmp_path, original(kind))
    whole = load_file(tmp_path / "model.safetensors")
    for key in whole:
        rewritten(tmp_path, lambda state, gone=key: {k: t for k, t in whole.items() if k != gone})
        with pytest.raises(CheckpointError, match=r"missing: [\w.]+$"):
            read(str(tmp_path))


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("vocab_size", 119, r"another shape: bert\.embeddings\.word_embeddings\.weight \[120, 32\]"),
        ("max_position_embeddings", 41, r"another shape: bert\.embeddings\.position_embeddings\.weight"),
        ("type_vocab_size", 3, r"another shape: bert\.embeddings\.token_type_embeddings\.weight \[2, 32\]"),
        (
            "intermediate_size",
            49,
            r"another shape: bert\.encoder\.layer\.0\.intermediate\.dense\.bias \[48\]",
        ),
        ("hidden_size", 36, "another shape: "),
        ("num_hidden_layers", 2, r"unused keys: bert\.encoder\.layer\.2\."),
        ("num_hidden_layers", 4, r"^missing: blocks\.3\."),
        ("num_attention_heads", 5, "num_attention_heads 5 does not divide the width 32"),
        ("hidden_act", "silu", "hidden_act is 'silu'; known: gelu"),
        ("position_embedding_type", "relative_key", "position_embedding_type is 'relative_key'"),
        ("is_decoder", True, "is_decoder is True"),
        ("pad_token_id", 120, "pad_token_id 120 is not one of 120 tokens"),
        ("id2label", {"0": "a"}, "id2label: 1 names for 3 outputs"),
        ("problem_type", "ranking", "problem_type is 'ranking'"),
    ],
)
def test_a_config_that_does_not_fit_the_weights_is_refused(
    field: str, value: Any, said: str, tmp_path: Path
) -> None:
    configured(written(tmp_path, original("bert")), **{field: value})
    with pytest.raises(CheckpointError, match=said):
        read(str(tmp_path))


NONSENSE: tuple[Any, ...] = ("12", -1, 0, 2.5, True, [3], {"a": 1}, 10**30, float("nan"), float("inf"))


@pytest.mark.parametrize(
    "field",
    [
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "max_position_embeddings",
        "type_vocab_size",
        "layer_norm_eps",
        "hidden_act",
        "id2label",
        "problem_type",
        "architectures",
    ],
)
def test_nonsense_in_a_config_is_refused_by_its_field(field: str, tmp_path: Path) -> None:
    written(tmp_path, original("bert"))
    plain = json.loads((tmp_path / "config.json").read_text())
    for value in NONSENSE:
        if field == "layer_norm_eps" and value in (2.5, 10**30):
            continue
        (tmp_path / "config.json").write_text(json.dumps(plain | {field: value}))
        with pytest.raises(CheckpointError, match=field):
            read(str(tmp_path))


@pytest.mark.parametrize("value", NONSENSE)
def test_nonsense_for_an_architecture_is_refused(value: Any, tmp_path: Path) -> None:
    configured(written(tmp_path, original("bert")), model_type=value)
    with pytest.raises(CheckpointError, match=r"model_type|its config says"):
        read(str(tmp_path))


@pytest.mark.parametrize("kind", ["bert", "roberta"])
@pytest.mark.parametrize("shape", [(), (0,), (0, 32), (1,), (7, 7, 7)])
def test_tensors_of_any_shape_are_refused_by_their_keys(
    kind: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    written(tmp_path, original(kind))
    whole = load_file(tmp_path / "model.safetensors")
    chosen = [key for key in whole if "layer" not in key or "layer.0" in key]
    for key in chosen:
        rewritten(tmp_path, lambda state, odd=key: whole | {odd: torch.zeros(shape)})
        with pytest.raises(CheckpointError, match=key.replace(".", r"\.")):
            read(str(tmp_path))


def test_weights_that_are_whole_numbers_are_refused(tmp_path: Path) -> None:
    written(tmp_path, original("bert"))
    rewritten(tmp_path, lambda state: {key: tensor.to(torch.int8) for key, tensor in state.items()})
    with pytest.raises(
        CheckpointError, match=r"bert\.pooler\.dense\.weight of torch\.int8 for head\.0\.weight"
    ):
        read(str(tmp_path))


def test_positions_that_end_before_the_first_token_are_refused(tmp_path: Path) -> None:
    configured(written(tmp_path, original("roberta")), pad_token_id=39)
    with pytest.raises(
        CheckpointError, match="max_position_embeddings 40 has no position after pad_token_id 39"
    ):
        read(str(tmp_path))
