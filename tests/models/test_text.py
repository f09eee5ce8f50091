"""The text transformer against BERT and DistilBERT of transformers, on random weights."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
)

from models.text import TextConfig, TextTransformer

CLOSE = {"rtol": 0.0, "atol": 1e-5}
SIZES = TextConfig(vocabulary=97, labels=5, width=32, layers=3, heads=4, feedforward=48, positions=20)
LENGTHS = torch.tensor([11, 4, 1, 7])

BERT = {
    r"bert\.embeddings\.word_embeddings": "embeddings.token",
    r"bert\.embeddings\.position_embeddings": "embeddings.position",
    r"bert\.embeddings\.token_type_embeddings": "embeddings.token_type",
    r"bert\.embeddings\.LayerNorm": "embeddings.norm",
    r"bert\.encoder\.layer\.(\d+)\.attention\.self\.(query|key|value)": r"blocks.\1.attention.\2",
    r"bert\.encoder\.layer\.(\d+)\.attention\.output\.dense": r"blocks.\1.attention.out",
    r"bert\.encoder\.layer\.(\d+)\.attention\.output\.LayerNorm": r"blocks.\1.attention_norm",
    r"bert\.encoder\.layer\.(\d+)\.intermediate\.dense": r"blocks.\1.feedforward.0",
    r"bert\.encoder\.layer\.(\d+)\.output\.dense": r"blocks.\1.feedforward.2",
    r"bert\.encoder\.layer\.(\d+)\.output\.LayerNorm": r"blocks.\1.feedforward_norm",
    r"bert\.pooler\.dense": "head.0",
    r"classifier": "classifier",
}
DISTILBERT = {
    r"distilbert\.embeddings\.word_embeddings": "embeddings.token",
    r"distilbert\.embeddings\.position_embeddings": "embeddings.position",
    r"distilbert\.embeddings\.LayerNorm": "embeddings.norm",
    r"distilbert\.transformer\.layer\.(\d+)\.attention\.q_lin": r"blocks.\1.attention.query",
    r"distilbert\.transformer\.layer\.(\d+)\.attention\.k_lin": r"blocks.\1.attention.key",
    r"distilbert\.transformer\.layer\.(\d+)\.attention\.v_lin": r"blocks.\1.attention.value",
    r"distilbert\.transformer\.layer\.(\d+)\.attention\.out_lin": r"blocks.\1.attention.out",
    r"distilbert\.transformer\.layer\.(\d+)\.sa_layer_norm": r"blocks.\1.attention_norm",
    r"distilbert\.transformer\.layer\.(\d+)\.ffn\.lin1": r"blocks.\1.feedforward.0",
    r"distilbert\.transformer\.layer\.(\d+)\.ffn\.lin2": r"blocks.\1.feedforward.2",
    r"distilbert\.transformer\.layer\.(\d+)\.output_layer_norm": r"blocks.\1.feedforward_norm",
    r"pre_classifier": "head.0",
    r"classifier": "classifier",
}


def renamed(state: dict[str, Tensor], table: dict[str, str]) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    for key, tensor in state.items():
        module, _, kind = key.rpartition(".")
        (name,) = [re.sub(old, new, module) for old, new in table.items() if re.fullmatch(old, module)]
        out[f"{name}.{kind}"] = tensor
    return out


def stir(model: nn.Module) -> None:
    """Weights far from their initial values, so that no part can be left out unnoticed."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name.lower():
                parameter.add_(0.3 * torch.randn_like(parameter))
            else:
                parameter.normal_(0, 0.25)
    model.eval()


@pytest.fixture(scope="module")
def bert() -> tuple[BertForSequenceClassification, TextTransformer]:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=SIZES.vocabulary,
        hidden_size=SIZES.width,
        num_hidden_layers=SIZES.layers,
        num_attention_heads=SIZES.heads,
        intermediate_size=SIZES.feedforward,
        max_position_embeddings=SIZES.positions,
        type_vocab_size=2,
        num_labels=SIZES.labels,
        attn_implementation="eager",
    )
    theirs = BertForSequenceClassification(config)
    stir(theirs)
    ours = TextTransformer(with_sizes(token_types=2, head="tanh", dropout=0.1))
    ours.load_state_dict(renamed(theirs.state_dict(), BERT), strict=True)
    return theirs, ours.eval()


def with_sizes(**settings: object) -> TextConfig:
    return TextConfig(**(vars(SIZES) | settings))


def batch() -> tuple[Tensor, Tensor, Tensor]:
    """Right-padded ids, token types (the second half of each sample is its second part), and the mask."""
    torch.manual_seed(1)
    width = int(LENGTHS.max())
    mask = torch.arange(width) < LENGTHS[:, None]
    ids = torch.randint(1, SIZES.vocabulary, (len(LENGTHS), width)) * mask
    types = ((torch.arange(width) >= LENGTHS[:, None] / 2) & mask).long()
    return ids, types, mask


def test_logits_are_those_of_bert(bert: tuple[BertForSequenceClassification, TextTransformer]) -> None:
    theirs, ours = bert
    ids, types, mask = batch()
    with torch.no_grad():
        expected = theirs(input_ids=ids, attention_mask=mask.long(), token_type_ids=types).logits
        found = ours(ids, LENGTHS, types)[0]["logits"]
        typeless = theirs(input_ids=ids, attention_mask=mask.long()).logits
        assert expected.std() > 0.1
        torch.testing.assert_close(found, expected, **CLOSE)
        torch.testing.assert_close(ours(ids, LENGTHS)[0]["logits"], typeless, **CLOSE)
    assert (expected - typeless).abs().max() > 0.01


def test_class_rows_are_those_of_bert(bert: tuple[BertForSequenceClassification, TextTransformer]) -> None:
    theirs, ours = bert
    ids, types, mask = batch()
    with torch.no_grad():
        expected = theirs(
            input_ids=ids, attention_mask=mask.long(), token_type_ids=types, output_attentions=True
        ).attentions
        taps = ours(ids, LENGTHS, types)[1] | {"lengths": LENGTHS}
        program = ours.programs()["cls"]
        found = program(*(taps[name] for name in program.inputs))
    assert len(found) == len(expected) == SIZES.layers
    for ours_rows, their_matrix in zip(found, expected, strict=True):
        torch.testing.assert_close(ours_rows, their_matrix[:, :, 0], **CLOSE)
        assert their_matrix[0, :, 0].std() > 0.01  # far from uniform


def test_logits_and_class_rows_are_those_of_distilbert() -> None:
    torch.manual_seed(2)
    config = DistilBertConfig(
        vocab_size=SIZES.vocabulary,
        dim=SIZES.width,
        n_layers=SIZES.layers,
        n_heads=SIZES.heads,
        hidden_dim=SIZES.feedforward,
        max_position_embeddings=SIZES.positions,
        activation="relu",
        num_labels=SIZES.labels,
        attn_implementation="eager",
    )
    theirs = DistilBertForSequenceClassification(config)
    stir(theirs)
    ours = TextTransformer(with_sizes(head="relu", activation="relu"))
    ours.load_state_dict(renamed(theirs.state_dict(), DISTILBERT), strict=True)
    ours.eval()
    ids, _, mask = batch()
    with torch.no_grad():
        expected = theirs(input_ids=ids, attention_mask=mask.long(), output_attentions=True)
        outputs, taps = ours(ids, LENGTHS)
        program = ours.programs()["cls"]
        found = program(*((taps | {"lengths": LENGTHS})[name] for name in program.inputs))
    torch.testing.assert_close(outputs["logits"], expected.logits, **CLOSE)
    for rows, matrix in zip(found, expected.attentions, strict=True):
        torch.testing.assert_close(rows, matrix[:, :, 0], **CLOSE)


def test_padding_does_not_change_a_prediction(
    bert: tuple[BertForSequenceClassification, TextTransformer],
) -> None:
    """Nor a map: see `programs/test_text.py`."""
    _, model = bert
    ids, types, mask = batch()
    noise = torch.randint_like(ids, SIZES.vocabulary)
    with torch.no_grad():
        together = model(torch.where(mask, ids, noise), LENGTHS, types)[0]["logits"]
        for index, length in enumerate(LENGTHS.tolist()):
            part = slice(index, index + 1)
            alone = model(ids[part, :length], LENGTHS[part], types[part, :length])[0]["logits"]
            torch.testing.assert_close(together[part], alone, **CLOSE)


def test_the_linear_head_is_the_classifier_on_the_class_token() -> None:
    torch.manual_seed(3)
    model = TextTransformer(with_sizes(head="linear"))
    stir(model)
    last: list[Tensor] = []
    model.blocks[-1].register_forward_hook(lambda module, inputs, output: last.append(output[0]))
    ids, _, _ = batch()
    with torch.no_grad():
        logits = model(ids, LENGTHS)[0]["logits"]
        expected = last[0][:, 0] @ model.classifier.weight.T + model.classifier.bias
    torch.testing.assert_close(logits, expected, **CLOSE)


def test_dropout_works_in_training_alone() -> None:
    torch.manual_seed(4)
    model = TextTransformer(with_sizes(dropout=0.5))
    ids, _, _ = batch()
    with torch.no_grad():
        assert not torch.equal(model(ids, LENGTHS)[0]["logits"], model(ids, LENGTHS)[0]["logits"])
        model.eval()
        assert torch.equal(model(ids, LENGTHS)[0]["logits"], model(ids, LENGTHS)[0]["logits"])


def test_every_layer_hands_out_what_maps_and_proofs_are_made_of() -> None:
    model = TextTransformer(SIZES).eval()
    ids, _, _ = batch()
    kinds = ("query", "key", "value", "mixed")
    assert list(model(ids, LENGTHS)[1]) == [f"{layer}.{kind}" for layer in model.layers for kind in kinds]
    assert model.layers == [f"layers.{index}" for index in range(SIZES.layers)]
