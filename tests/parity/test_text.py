"""Text classifiers of transformers from a folder to served predictions and maps, from texts as typed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertTokenizerFast,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    DistilBertTokenizerFast,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaTokenizerFast,
    TextClassificationPipeline,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
    XLMRobertaTokenizerFast,
)

from models.checkpoints.config import Config
from models.checkpoints.tokens import text_input
from service.bundle import TextInput
from service.decode.text import TextDecoder
from service.job import Job, Outcome, Payload, Wanted
from service.maps import DEFAULT, Selection
from service.predictor import Predictor

Array = NDArray[Any]
Relevance = Callable[..., tuple[Array, Array]]
LOGITS, ROWS, RELEVANCE = 1e-4, 1e-5, 1e-4  # how far from transformers; the last of the largest value
MAPS = {"cls", "rollout", "received", "value_norm", "relevance", "grad_sam", "attention"}
CORPUS = [
    "The quick brown fox jumps over the lazy dog, and the dog does not mind at all.",
    "Attention is what a model looks at; a map of it shows where.",
    "Ein größeres Haus steht am Fluss, und niemand weiß, wem es gehört.",
    "def main(values):\n    return [value * 2 for value in values]",
    "日本語の文章もあります。東京は大きい。",
    "Prices rose by 3.5 % in 2021 - more than was expected!",
]
TEXTS = [
    "fox",
    "The QUICK brown fox, isn't it?",
    "  größer\tund naïve café\n\nΩ 東京 🦀 zzz-unknown-ŧ ",
    "def main():\n    return 3.5 % 2",
]
NASTY = [
    "ÉCOLE naïve Ångström cafe\u0301 İstanbul ß ẞ",
    "東京は大きい。中国abc한국어",
    "   leading and trailing   ",
    "fox",
    "🦀🦀 family 👨\u200d👩\u200d👧 ok",
    "tab\tnew\nline\r\nand\u00a0space\u2003wide",
    "zero\u200bwidth\u200d \ufeffmark \x00null\x7f",
    "SHOUTING Words",
    "x" * 300,
    "1234567890 3.14 -7 ½ ٣",
    "don't (stop) ... !?",
]
LONG = " ".join(CORPUS * 12)
PAIRS = [("A dog?", "The lazy dog, and the fox."), (LONG, "short"), ("short", LONG), (LONG, LONG)]


def word_piece() -> dict[str, Any]:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator([text.lower() for text in CORPUS], trainer)
    return {"vocab": tokenizer.get_vocab()}


def byte_level() -> dict[str, Any]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return {"vocab": model["vocab"], "merges": [tuple(pair) for pair in model["merges"]]}


def unigram() -> dict[str, Any]:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=200,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return {"vocab": [(token, score) for token, score in model["vocab"]]}


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One architecture: its classes and what its config says; `skipped` positions are not used."""

    config: Any
    model: Any
    tokenizer: Any
    vocabulary: Callable[[], dict[str, Any]]
    small: dict[str, Any]
    real: dict[str, Any]
    own: dict[str, Any]
    skipped: int = 0


SMALL: dict[str, Any] = {
    "vocab_size": 450,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
THREE = {0: "no", 1: "perhaps", 2: "yes"}
KINDS = {
    "bert": Kind(
        config=BertConfig,
        model=BertForSequenceClassification,
        tokenizer=BertTokenizerFast,
        vocabulary=word_piece,
        small=SMALL,
        real={},
        own={"id2label": THREE},
    ),
    "distilbert": Kind(
        config=DistilBertConfig,
        model=DistilBertForSequenceClassification,
        tokenizer=DistilBertTokenizerFast,
        vocabulary=word_piece,
        small={
            "vocab_size": 450,
            "dim": 32,
            "n_layers": 2,
            "n_heads": 4,
            "hidden_dim": 64,
            "max_position_embeddings": 64,
        },
        real={},
        own={"id2label": {0: "grade"}, "problem_type": "regression"},
    ),
    "roberta": Kind(
        config=RobertaConfig,
        model=RobertaForSequenceClassification,
        tokenizer=RobertaTokenizerFast,
        vocabulary=byte_level,
        small=SMALL,
        real={"vocab_size": 50265, "max_position_embeddings": 514},
        own={
            "id2label": THREE,
            "problem_type": "multi_label_classification",
            "type_vocab_size": 1,
            "layer_norm_eps": 1e-5,
        },
        skipped=2,
    ),
    "xlm-roberta": Kind(
        config=XLMRobertaConfig,
        model=XLMRobertaForSequenceClassification,
        tokenizer=XLMRobertaTokenizerFast,
        vocabulary=unigram,
        small=SMALL,
        real={},
        own={"id2label": {0: "toxic"}, "type_vocab_size": 1, "layer_norm_eps": 1e-5},
        skipped=2,
    ),
}


def stirred(model: Any) -> Any:
    """Every weight far from where training starts, so that none can be left out unnoticed.

    Queries, keys and the head are stirred most: in a deep post-norm model all tokens else become one, and the
    rows of its last layers are uniform whatever is wrong with them.
    """
    generator = torch.Generator().manual_seed(3)
    sharp = re.compile(r"(query|key|q_lin|k_lin)\.weight|(pooler|classifier)\.")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = (1.5 if sharp.search(name) else 0.5) * model.config.hidden_size**-0.5
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return model.eval()


@dataclass(frozen=True, kw_only=True)
class Served:
    """A model of transformers, its tokenizer as anybody loads it, and what Regard made of their folder."""

    model: Any
    tokenizer: Any
    predictor: Predictor


@pytest.fixture(scope="module", params=list(KINDS))
def served(
    request: pytest.FixtureRequest,
    size: str,
    export: Callable[..., Predictor],
    tmp_path_factory: pytest.TempPathFactory,
) -> Served:
    if size == "real" and request.param == "xlm-roberta":
        pytest.skip("RoBERTa's layout; its quarter of a million tokens add nothing but memory")
    kind = KINDS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    sizes = kind.small if size == "small" else kind.real
    torch.manual_seed(0)
    model = stirred(kind.model(kind.config(**sizes, **kind.own, attn_implementation="eager")))
    model.save_pretrained(folder)
    longest = model.config.max_position_embeddings - kind.skipped
    kind.tokenizer(**kind.vocabulary(), model_max_length=longest).save_pretrained(folder)
    return Served(model=model, tokenizer=AutoTokenizer.from_pretrained(folder), predictor=export(folder))


def run(predictor: Predictor, payloads: list[Payload], selection: Selection = DEFAULT) -> list[Outcome]:
    maps = frozenset(spec.name for spec in predictor.manifest.maps)
    wanted = Wanted(maps=maps, selection=selection, proof=True)
    return predictor.run([Job(item=predictor.decode(payload), wanted=wanted) for payload in payloads])


@torch.no_grad()
def theirs(served: Served, *, double: bool = False, **encoding: Any) -> tuple[Array, list[Array]]:
    """Logits [K] and the class rows [H, N] of every layer by transformers, of one input."""
    model = served.model.double() if double else served.model
    try:
        found = model(**encoding, output_attentions=True)
    finally:
        model.float()
    return found.logits[0].numpy(), [attention[0, :, 0].numpy() for attention in found.attentions]


def check(served: Served, payload: Payload, encoding: Any) -> None:
    """Tokens, logits and class rows of one input; where fp32 rounds more than the tolerance, twice as far."""
    item = served.predictor.decode(payload)
    assert item.tensors["input_ids"].tolist() == encoding["input_ids"][0].tolist()
    if "token_types" in item.tensors:
        assert item.tensors["token_types"].tolist() == encoding["token_type_ids"][0].tolist()
    (outcome,) = run(served.predictor, [payload])
    logits, rows = theirs(served, **encoding)
    exact_logits, exact_rows = theirs(served, double=True, **encoding)
    assert outcome.logits.shape == logits.shape
    rounding = np.abs(logits - exact_logits).max()
    assert np.abs(outcome.logits - logits).max() <= max(LOGITS, 2 * rounding)
    found = outcome.maps["cls"].layers
    assert len(found) == len(rows)
    for layer, (row, expected, exact) in enumerate(zip(found, rows, exact_rows, strict=True)):
        rounding = np.abs(expected - exact).max()
        assert row.shape == expected.shape
        assert np.abs(row - expected).max() <= max(ROWS, 2 * rounding), layer


@pytest.mark.parametrize("text", [*TEXTS, LONG], ids=range(len(TEXTS) + 1))
def test_tokens_logits_and_class_rows_of_a_text_are_those_of_transformers(served: Served, text: str) -> None:
    encoding = served.tokenizer(text, truncation=True, return_tensors="pt")
    check(served, Payload(data=text), encoding)


def test_a_long_text_is_cut_to_the_models_positions(served: Served) -> None:
    item = served.predictor.decode(Payload(data=LONG))
    assert item.truncated
    assert item.cost == served.tokenizer.model_max_length


@pytest.mark.parametrize("pair", PAIRS, ids=range(len(PAIRS)))
def test_tokens_logits_and_class_rows_of_a_pair_are_those_of_transformers(
    served: Served, pair: tuple[str, str]
) -> None:
    encoding = served.tokenizer(*pair, truncation=True, return_tensors="pt")
    check(served, Payload(data=pair[0], pair=pair[1]), encoding)


def test_scores_are_those_of_the_pipeline(served: Served) -> None:
    predictor = served.predictor
    pipeline = TextClassificationPipeline(model=served.model, tokenizer=served.tokenizer, device="cpu")
    for text, outcome in zip(TEXTS, run(predictor, [Payload(data=text) for text in TEXTS]), strict=True):
        expected = {one["label"]: one["score"] for one in pipeline(text, top_k=None)}
        found = dict(zip(predictor.manifest.labels, predictor.scores(outcome.logits), strict=True))
        assert found == pytest.approx(expected, abs=LOGITS)


def test_a_mixed_batch_says_what_each_input_says_alone(served: Served) -> None:
    payloads = [Payload(data=text) for text in (TEXTS[1], LONG, TEXTS[0], TEXTS[2])]
    payloads.append(Payload(data=PAIRS[0][0], pair=PAIRS[0][1]))
    for payload, found in zip(payloads, run(served.predictor, payloads), strict=True):
        (alone,) = run(served.predictor, [payload])
        np.testing.assert_allclose(found.logits, alone.logits, atol=LOGITS, rtol=0)
        assert set(found.maps) == MAPS
        for name, one in found.maps.items():
            for layer, other in zip(one.layers, alone.maps[name].layers, strict=True):
                np.testing.assert_allclose(
                    layer, other, atol=ROWS * max(1, 10 * other.max()), rtol=0, err_msg=name
                )


@pytest.mark.parametrize("text", [*TEXTS, LONG], ids=range(len(TEXTS) + 1))
def test_relevance_of_a_text_is_autograd_s_through_transformers(
    served: Served, text: str, relevance: Relevance
) -> None:
    encoding = served.tokenizer(text, truncation=True, return_tensors="pt")
    for target in range(len(served.predictor.manifest.labels)):
        expected, exact = [], []
        for model, into in ((served.model, expected), (served.model.double(), exact)):
            outputs = model(**encoding, output_attentions=True)
            into += relevance(outputs.logits[0, target], outputs.attentions)
            served.model.float()
        (outcome,) = run(served.predictor, [Payload(data=text)], Selection(target=target))
        for name, fp32, truth in zip(("relevance", "grad_sam"), expected, exact, strict=True):
            (found,) = outcome.maps[name].layers
            assert found.shape == truth.shape
            largest, rounding = np.abs(truth).max(), np.abs(fp32 - truth).max()
            assert largest * found.size > 1e-5  # Grad-SAM is a mean over as many queries
            assert np.abs(found - truth).max() <= max(RELEVANCE * largest, 2 * rounding), (name, target)


@pytest.mark.parametrize("text", [*TEXTS, LONG], ids=range(len(TEXTS) + 1))
def test_every_row_of_every_layer_is_that_of_transformers(served: Served, text: str) -> None:
    encoding = served.tokenizer(text, truncation=True, return_tensors="pt")
    with torch.no_grad():
        attentions = served.model(**encoding, output_attentions=True).attentions
        exact = served.model.double()(**encoding, output_attentions=True).attentions
    served.model.float()
    for layer, (expected, truth) in enumerate(zip(attentions, exact, strict=True)):
        (outcome,) = run(served.predictor, [Payload(data=text)], Selection(layers=layer))
        (found,) = outcome.maps["attention"].layers
        rounding = float((expected - truth).abs().max())
        assert np.abs(found - truth[0].numpy()).max() <= max(ROWS, 2 * rounding)
        assert outcome.proof is not None
        assert outcome.proof.row_sum_error < ROWS
        assert outcome.proof.output_error < ROWS


def test_outputs_are_far_from_uniform(served: Served) -> None:
    """The comparisons above would pass with little effort on a model that hardly looks at its input."""
    outcomes = run(served.predictor, [Payload(data=text) for text in TEXTS])
    assert np.stack([outcome.logits for outcome in outcomes]).std(0).max() > 100 * LOGITS
    for row in outcomes[3].maps["cls"].layers:
        assert row.max() > 2 / row.shape[-1]


SETTINGS: list[tuple[str, Any, dict[str, Any]]] = [
    *[
        (model_type, made, settings)
        for model_type, made in (("bert", BertTokenizerFast), ("distilbert", DistilBertTokenizerFast))
        for settings in (
            {},
            {"do_lower_case": False},
            {"strip_accents": False},
            {"do_lower_case": False, "strip_accents": True},
            {"tokenize_chinese_chars": False},
        )
    ],
    ("roberta", RobertaTokenizerFast, {}),
    ("roberta", RobertaTokenizerFast, {"add_prefix_space": True}),
    ("roberta", RobertaTokenizerFast, {"trim_offsets": False}),
    ("xlm-roberta", XLMRobertaTokenizerFast, {}),
    ("xlm-roberta", XLMRobertaTokenizerFast, {"add_prefix_space": False}),
]


def described(folder: Path, model_type: str) -> dict[str, Any]:
    """What is read of a tokenizer for a model with two token types."""
    sizes = {"vocabulary": 450, "positions": 1000, "pad_id": 0, "token_types": 2}
    return text_input(folder / "tokenizer.json", model=Config({"model_type": model_type}), **sizes)


def check_ids(folder: Path, spec: dict[str, Any], tokenizer: Any) -> None:
    decoder = TextDecoder(TextInput(**spec), folder / "tokenizer.json")
    encodings = [(text, None, tokenizer(text)) for text in NASTY]
    encodings += [(text, "Ein größeres", tokenizer(text, "Ein größeres")) for text in NASTY]
    for text, pair, encoding in encodings:
        tensors = decoder.decode(text, pair).tensors
        assert tensors["input_ids"].tolist() == encoding["input_ids"], (text, pair)
        assert ("token_types" in tensors) == ("token_type_ids" in encoding)
        if "token_types" in tensors:
            assert tensors["token_types"].tolist() == encoding["token_type_ids"]


@pytest.mark.parametrize(("model_type", "made", "settings"), SETTINGS, ids=range(len(SETTINGS)))
def test_a_saved_tokenizer_gives_the_ids_and_the_types_of_transformers(
    model_type: str, made: Any, settings: dict[str, Any], tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    made(**KINDS[model_type].vocabulary(), **settings).save_pretrained(first)
    AutoTokenizer.from_pretrained(first).save_pretrained(second)
    for folder in (first, second):
        check_ids(folder, described(folder, model_type), AutoTokenizer.from_pretrained(folder))


@pytest.mark.parametrize("model_type", ["bert", "distilbert", "roberta", "xlm-roberta"])
@pytest.mark.parametrize("named", [None, "PreTrainedTokenizerFast", "UnknownTokenizer"])
def test_a_tokenizer_of_no_class_of_its_own_gives_the_ids_and_the_types_of_transformers(
    named: str | None, model_type: str, tmp_path: Path
) -> None:
    kind = KINDS[model_type]
    kind.tokenizer(**kind.vocabulary()).save_pretrained(tmp_path)
    kind.config().save_pretrained(tmp_path)
    beside = tmp_path / "tokenizer_config.json"
    fields = json.loads(beside.read_text()) | {"tokenizer_class": named}
    beside.write_text(json.dumps(fields))
    check_ids(tmp_path, described(tmp_path, model_type), AutoTokenizer.from_pretrained(tmp_path))


def test_a_tokenizer_that_follows_its_file_alone_gives_the_ids_of_transformers(tmp_path: Path) -> None:
    RobertaTokenizerFast(**byte_level(), add_prefix_space=True).save_pretrained(tmp_path)
    made = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=False)
    PreTrainedTokenizerFast(tokenizer_object=made, add_prefix_space=False).save_pretrained(tmp_path)
    check_ids(tmp_path, described(tmp_path, "roberta"), AutoTokenizer.from_pretrained(tmp_path))
