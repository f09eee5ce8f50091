"""A tokenizer that the model does not know, or that does not work, is refused; one that does is described."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from models.checkpoints.checkpoint import CheckpointError, Choices
from models.checkpoints.config import Config
from models.checkpoints.source import Source
from models.checkpoints.tokens import find_tokenizer, open_tokenizer, text_input

BERT = Config({"model_type": "bert"})
SIZES: dict[str, Any] = {"model": BERT, "vocabulary": 10, "positions": 64, "pad_id": 0, "token_types": 2}


@pytest.fixture
def tokenizer() -> Tokenizer:
    """Ids 0 to 6, lower case, pairs."""
    vocabulary = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3, "hello": 4, "world": 5, "##s": 6}
    found = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    found.normalizer = normalizers.BertNormalizer(lowercase=True)
    found.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    found.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    return found


@pytest.fixture
def path(tokenizer: Tokenizer, tmp_path: Path) -> Path:
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def source(folder: Path) -> Source:
    return Source(name="s", folder=folder, weights=(), config={}, state={})


def write_config(path: Path, **fields: Any) -> None:
    (path.parent / "tokenizer_config.json").write_text(json.dumps(fields))


def rewrite(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_a_tokenizer_is_described_in_the_bundles_words(path: Path) -> None:
    assert text_input(path, **SIZES) == {
        "kind": "text",
        "max_tokens": 64,
        "pad_id": 0,
        "token_types": True,
        "pairs": True,
    }


def test_a_tokenizer_without_a_form_for_pairs_takes_none(tokenizer: Tokenizer, path: Path) -> None:
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.save(str(path))
    assert text_input(path, **SIZES)["pairs"] is False


@pytest.mark.parametrize("token_types", [0, 1])
def test_a_model_with_one_token_type_is_given_none(token_types: int, path: Path) -> None:
    assert text_input(path, **SIZES | {"token_types": token_types})["token_types"] is False


def test_a_tokenizer_that_gives_no_token_types_gives_none(path: Path) -> None:
    write_config(path, model_input_names=["input_ids", "attention_mask"])
    assert text_input(path, **SIZES)["token_types"] is False


@pytest.mark.parametrize(
    ("said", "cut"), [(32, 32), (32.0, 32), (64, 64), (512, 64), (int(1e30), 64), (1e30, 64), (None, 64)]
)
def test_texts_are_cut_to_the_shorter_of_the_models_and_the_tokenizers_length(
    said: Any, cut: int, path: Path
) -> None:
    write_config(path, model_max_length=said)
    assert text_input(path, **SIZES)["max_tokens"] == cut


@pytest.mark.parametrize("said", ["512", -1, 0, True, [512], float("nan")])
def test_a_length_that_is_none_is_refused(said: Any, path: Path) -> None:
    write_config(path, model_max_length=said)
    with pytest.raises(
        CheckpointError, match=r"tokenizer_config\.json: model_max_length is .*, not a positive"
    ):
        text_input(path, **SIZES)


def test_no_room_beside_the_special_tokens_is_refused(path: Path) -> None:
    write_config(path, model_max_length=5)
    assert text_input(path, **SIZES)["max_tokens"] == 5
    write_config(path, model_max_length=4)
    with pytest.raises(CheckpointError, match="cut to 4 tokens, 3 of them special"):
        text_input(path, **SIZES)


def test_a_padding_id_that_the_model_does_not_have_is_refused(path: Path) -> None:
    with pytest.raises(CheckpointError, match="pad_token_id 10 is not one of 10 tokens"):
        text_input(path, **SIZES | {"pad_id": 10})


def test_ids_beyond_the_embedding_are_refused(path: Path) -> None:
    open_tokenizer(path, vocabulary=7)
    with pytest.raises(CheckpointError, match="its ids go to 6, the model's embedding has 6 rows"):
        open_tokenizer(path, vocabulary=6)


def test_added_tokens_beyond_the_embedding_are_refused(tokenizer: Tokenizer, path: Path) -> None:
    tokenizer.add_tokens(["new"])
    tokenizer.save(str(path))
    with pytest.raises(CheckpointError, match="its ids go to 7"):
        open_tokenizer(path, vocabulary=7)


@pytest.mark.parametrize("place", ["[CLS]", "[SEP]"])
def test_special_tokens_beyond_the_embedding_are_refused(place: str, path: Path) -> None:
    def far(document: dict[str, Any]) -> None:
        document["post_processor"]["special_tokens"][place]["ids"] = [4711]

    rewrite(path, far)
    with pytest.raises(CheckpointError, match="its ids go to 4711"):
        open_tokenizer(path, vocabulary=7)


def test_token_types_that_the_model_does_not_have_are_refused(path: Path) -> None:
    def third(document: dict[str, Any]) -> None:
        document["post_processor"]["pair"][3]["Sequence"]["type_id"] = 2

    rewrite(path, third)
    with pytest.raises(CheckpointError, match="token types go to 2, the model has 2"):
        text_input(path, **SIZES)
    assert text_input(path, **SIZES | {"token_types": 3})["token_types"]


def test_truncation_and_padding_in_the_file_are_not_used(tokenizer: Tokenizer, path: Path) -> None:
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=40)
    tokenizer.save(str(path))
    found = open_tokenizer(path, vocabulary=7)
    assert found.encode("hello world hellos").ids == [1, 4, 5, 4, 6, 2]


def test_truncation_that_crashes_the_library_is_not_used(path: Path) -> None:
    truncation = {"max_length": 1, "strategy": "LongestFirst", "stride": 5, "direction": "Right"}
    rewrite(path, lambda document: document.update(truncation=truncation))
    assert text_input(path, **SIZES)["max_tokens"] == 64


@pytest.mark.parametrize("text", ["", "{}", "[]", "no json", '{"model": {"type": "Rune"}}'])
def test_a_broken_file_is_refused(text: str, path: Path) -> None:
    path.write_text(text)
    with pytest.raises(CheckpointError, match=r"^tokenizer: tokenizer\.json: "):
        open_tokenizer(path, vocabulary=7)


def test_a_file_that_is_no_text_is_refused(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CheckpointError, match=r"^tokenizer: tokenizer\.json: "):
        open_tokenizer(path, vocabulary=7)


@pytest.mark.parametrize("charsmap", ["AAAA", "BAAAAP////8AAAAA"], ids=["on loading", "on use"])
def test_a_file_on_which_the_library_panics_is_refused(charsmap: str, path: Path) -> None:
    broken = {"type": "Precompiled", "precompiled_charsmap": charsmap}
    rewrite(path, lambda document: document.update(normalizer=broken))
    with pytest.raises(CheckpointError, match=r"^tokenizer: tokenizer\.json: "):
        open_tokenizer(path, vocabulary=7)


def test_a_tokenizer_that_fails_on_an_unknown_word_is_refused(path: Path) -> None:
    rewrite(path, lambda document: document["model"].update(unk_token="[NONE]"))
    with pytest.raises(CheckpointError, match=r"^tokenizer: tokenizer\.json: .*Missing \[UNK\]"):
        open_tokenizer(path, vocabulary=7)


def test_an_interrupt_is_no_refusal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(name: str) -> Tokenizer:
        raise KeyboardInterrupt

    monkeypatch.setattr("models.checkpoints.tokens.Tokenizer.from_file", interrupt, raising=False)
    with pytest.raises(KeyboardInterrupt):
        open_tokenizer(path, vocabulary=7)


@pytest.mark.parametrize("lowers", [True, False])
def test_a_config_that_says_otherwise_of_case_is_refused(
    lowers: bool, tokenizer: Tokenizer, path: Path
) -> None:
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowers)
    tokenizer.save(str(path))
    write_config(path, do_lower_case=lowers)
    assert text_input(path, **SIZES)
    write_config(path, do_lower_case=not lowers)
    with pytest.raises(
        CheckpointError, match=rf"do_lower_case is {not lowers}, tokenizer\.json says otherwise"
    ):
        text_input(path, **SIZES)


LOWERS = normalizers.BertNormalizer(lowercase=True)
KEEPS = normalizers.BertNormalizer(lowercase=False, handle_chinese_chars=False)
STRIPS = normalizers.BertNormalizer(lowercase=False, strip_accents=True)
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False)
SPACED_BYTES = pre_tokenizers.ByteLevel(add_prefix_space=True)
CONTRADICTIONS = [
    ({"normalizer": LOWERS}, {"strip_accents": True}, {"strip_accents": False}),
    ({"normalizer": KEEPS}, {"strip_accents": False}, {"strip_accents": True}),
    ({"normalizer": STRIPS}, {"strip_accents": True}, {"strip_accents": False}),
    ({"normalizer": LOWERS}, {"tokenize_chinese_chars": True}, {"tokenize_chinese_chars": False}),
    ({"normalizer": KEEPS}, {"tokenize_chinese_chars": False}, {"tokenize_chinese_chars": True}),
    (
        {"normalizer": normalizers.Sequence([normalizers.NFC(), LOWERS])},
        {"do_lower_case": True},
        {"do_lower_case": False},
    ),
    ({"pre_tokenizer": BYTES}, {"add_prefix_space": False}, {"add_prefix_space": True}),
    ({"pre_tokenizer": SPACED_BYTES}, {"add_prefix_space": True}, {"add_prefix_space": False}),
    (
        {"pre_tokenizer": pre_tokenizers.Metaspace(prepend_scheme="always")},
        {"add_prefix_space": True},
        {"add_prefix_space": False},
    ),
    (
        {"pre_tokenizer": pre_tokenizers.Metaspace(prepend_scheme="never")},
        {"add_prefix_space": False},
        {"add_prefix_space": True},
    ),
    ({"pre_tokenizer": pre_tokenizers.Metaspace(prepend_scheme="first")}, {}, {"add_prefix_space": True}),
    (
        {"post_processor": processors.RobertaProcessing(("[SEP]", 2), ("[CLS]", 1), trim_offsets=False)},
        {"trim_offsets": False},
        {"trim_offsets": True},
    ),
    # What a class takes a setting for is said as well, by its name.
    ({"normalizer": LOWERS}, {"tokenizer_class": "BertTokenizer"}, {"strip_accents": False}),
    ({"normalizer": KEEPS}, {}, {"tokenizer_class": "BertTokenizerFast", "tokenize_chinese_chars": False}),
    (
        {"normalizer": STRIPS},
        {"tokenizer_class": "DistilBertTokenizer", "do_lower_case": False, "strip_accents": True},
        {"tokenizer_class": "DistilBertTokenizer", "do_lower_case": False, "strip_accents": None},
    ),
    ({"pre_tokenizer": SPACED_BYTES}, {}, {"tokenizer_class": "RobertaTokenizer"}),
    (
        {"pre_tokenizer": pre_tokenizers.Metaspace(prepend_scheme="never")},
        {"tokenizer_class": "SomeTokenizer"},
        {"tokenizer_class": "XLMRobertaTokenizer"},
    ),
    # A class that follows tokenizer.json contradicts nothing.
    (
        {"normalizer": LOWERS},
        {"tokenizer_class": "PreTrainedTokenizerFast", "do_lower_case": False},
        {"tokenizer_class": "BertTokenizerFast", "do_lower_case": False},
    ),
    ({"normalizer": LOWERS}, {"tokenizer_class": "TokenizersBackend", "do_lower_case": False}, None),
]


@pytest.mark.parametrize(("parts", "agreed", "said"), CONTRADICTIONS, ids=range(len(CONTRADICTIONS)))
def test_only_a_config_that_says_otherwise_of_a_setting_is_refused(
    parts: dict[str, Any],
    agreed: dict[str, Any],
    said: dict[str, Any] | None,
    tokenizer: Tokenizer,
    path: Path,
) -> None:
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    tokenizer.save(str(path))
    write_config(path, **agreed)
    assert text_input(path, **SIZES)
    if said is not None:
        write_config(path, **said)
        with pytest.raises(
            CheckpointError, match=r" is (True|False).*, tokenizer\.json says otherwise; convert"
        ):
            text_input(path, **SIZES)


def test_a_refusal_names_the_setting_and_where_it_comes_from(tokenizer: Tokenizer, path: Path) -> None:
    tokenizer.pre_tokenizer = SPACED_BYTES
    tokenizer.save(str(path))
    for fields, said in (
        ({"add_prefix_space": False}, "add_prefix_space is False, "),
        (
            {"tokenizer_class": "RobertaTokenizer"},
            "add_prefix_space is False by default of RobertaTokenizer, ",
        ),
    ):
        write_config(path, **fields)
        with pytest.raises(CheckpointError, match=rf"tokenizer_config\.json: {said}"):
            text_input(path, **SIZES)


@pytest.mark.parametrize(
    "fields",
    [
        {"do_lower_case": "yes"},
        {"strip_accents": 1},
        {"tokenize_chinese_chars": []},
        {"truncation_side": None},
        {"truncation_side": ["right"]},
        {"tokenizer_class": 3},
        {"tokenizer_class": ["BertTokenizer"]},
        {"model_input_names": "input_ids"},
    ],
    ids=str,
)
def test_a_setting_that_makes_no_sense_is_refused(fields: dict[str, Any], path: Path) -> None:
    write_config(path, **fields)
    with pytest.raises(CheckpointError, match=rf"tokenizer_config\.json: {next(iter(fields))} is "):
        text_input(path, **SIZES)


def test_a_class_that_the_models_config_names_wrongly_is_refused(path: Path) -> None:
    model = Config({"model_type": "bert", "tokenizer_class": 3})
    with pytest.raises(CheckpointError, match=r"^config\.json: tokenizer_class is 3"):
        text_input(path, **SIZES | {"model": model})


def test_a_tokenizer_that_cuts_texts_at_the_left_is_refused(tokenizer: Tokenizer, path: Path) -> None:
    write_config(path, truncation_side="right", padding_side="left")
    assert text_input(path, **SIZES)
    write_config(path, truncation_side="left")
    with pytest.raises(CheckpointError, match="truncation_side is 'left'; supported: 'right'"):
        text_input(path, **SIZES)
    write_config(path)
    for side in ("right", "left"):
        tokenizer.enable_truncation(16, direction=side)
        tokenizer.save(str(path))
        if side == "right":
            assert text_input(path, **SIZES)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: truncation on the left; supported: right"):
        text_input(path, **SIZES)


@pytest.mark.parametrize(
    ("named", "model", "typed"),
    [
        ("BertTokenizer", {}, True),
        ("BertTokenizerFast", {"model_type": "roberta"}, True),
        ("ElectraTokenizerFast", {}, True),
        ("DistilBertTokenizer", {"model_type": "bert"}, False),
        ("RobertaTokenizerFast", {"model_type": "bert"}, False),
        ("XLMRobertaTokenizer", {"model_type": "bert"}, False),
        ("PreTrainedTokenizerFast", {"model_type": "bert"}, False),
        ("MyTokenizer", {"model_type": "bert"}, False),
        (None, {"model_type": "bert"}, True),
        (None, {"model_type": "bert", "tokenizer_class": "DistilBertTokenizer"}, False),
        (None, {"model_type": "roberta", "tokenizer_class": "BertTokenizer"}, True),
        (None, {"model_type": "roberta"}, False),
        (None, {"model_type": ["bert"]}, False),
    ],
)
def test_the_class_says_whether_token_types_are_given(
    named: str | None, model: dict[str, Any], typed: bool, path: Path
) -> None:
    write_config(path, tokenizer_class=named)
    assert text_input(path, **SIZES | {"model": Config(model)})["token_types"] is typed
    names = ["input_ids"] if typed else ["input_ids", "token_type_ids"]
    write_config(path, tokenizer_class=named, model_input_names=names)
    assert text_input(path, **SIZES | {"model": Config(model)})["token_types"] is not typed


def test_a_tokenizer_with_code_of_its_own_is_refused(path: Path) -> None:
    write_config(path, auto_map={"AutoTokenizer": ["mine.Tokenizer", None]})
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json: auto_map"):
        text_input(path, **SIZES)


def test_the_tokenizer_beside_the_weights_is_found(path: Path) -> None:
    assert find_tokenizer(source(path.parent), Choices()) == path


@pytest.mark.parametrize("given", ["folder", "file"])
def test_the_chosen_tokenizer_goes_first(given: str, path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "tokenizer.json").write_text("{}")
    choice = other if given == "folder" else other / "tokenizer.json"
    assert find_tokenizer(source(path.parent), Choices(tokenizer=choice)) == other / "tokenizer.json"


def test_a_chosen_tokenizer_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for missing in (tmp_path, tmp_path / "nothing.json"):
        with pytest.raises(CheckpointError, match=r"no tokenizer\.json"):
            find_tokenizer(source(tmp_path), Choices(tokenizer=missing))


@pytest.mark.parametrize("name", ["vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model"])
def test_a_slow_tokenizer_alone_is_refused_with_the_way_to_convert_it(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with pytest.raises(CheckpointError, match=rf"{name} alone, .* convert it once with transformers"):
        find_tokenizer(source(tmp_path), Choices())


def test_a_source_without_any_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="give one with --tokenizer"):
        find_tokenizer(source(tmp_path), Choices())
