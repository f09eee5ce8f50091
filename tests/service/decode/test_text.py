from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertTokenizerFast, RobertaTokenizerFast

from service.bundle import TextInput
from service.decode.limits import Limits
from service.decode.text import TextDecoder
from service.errors import InvalidInput, TooLarge

CORPUS = [
    "fn main() { let value = 1; }",
    "def main(): return value",
    "the value of größe is 日本",
    "print(value)",
]


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["[PAD]", "[CLS]", "[SEP]"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return tokenizer


def words() -> Tokenizer:
    vocabulary = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3, "hello": 4, "world": 5, "##s": 6}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.add_special_tokens(["[PAD]", "[CLS]", "[SEP]", "[UNK]"])
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return tokenizer


def decoder(
    tokenizer: Tokenizer | None = None,
    *,
    max_tokens: int = 64,
    token_types: bool = False,
    pairs: bool = False,
    limits: Limits | None = None,
) -> TextDecoder:
    data = (tokenizer or byte_level()).to_str().encode()
    spec = TextInput(max_tokens=max_tokens, token_types=token_types, pairs=pairs)
    return TextDecoder(spec, data, limits)


def bert() -> BertTokenizerFast:
    names = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]", "hello", "world", "##s", "a", "b", ",", "[", "]"]
    return BertTokenizerFast(vocab={name: index for index, name in enumerate(names)})


def roberta() -> RobertaTokenizerFast:
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "he"]
    return RobertaTokenizerFast(vocab={name: i for i, name in enumerate(names)}, merges=[("h", "e")])


@pytest.fixture(scope="module", params=[bert, roberta])
def original(request: pytest.FixtureRequest) -> Any:
    """A tokenizer of transformers that takes pairs."""
    return request.param()


def pair_decoder(original: Any = None, *, max_tokens: int = 64, limits: Limits | None = None) -> TextDecoder:
    tokenizer = (original or bert()).backend_tokenizer
    return decoder(tokenizer, max_tokens=max_tokens, token_types=True, pairs=True, limits=limits)


def test_tokens_are_slices_of_the_text_and_specials_their_names() -> None:
    item = decoder(words()).decode("Hello  WORLDS")
    assert item.tokens == ("[CLS]", "Hello", "WORLD", "S", "[SEP]")
    assert item.offsets == ((0, 0), (0, 5), (7, 12), (12, 13), (13, 13))
    assert item.special == (True, False, False, False, True)
    assert item.tensors["input_ids"].tolist() == [1, 4, 5, 6, 2]
    assert item.tensors["input_ids"].dtype == np.int64
    assert (item.truncated, item.dropped_tokens, item.cost) == (False, 0, 5)
    assert "token_types" not in item.tensors


def test_an_unknown_word_is_shown_as_it_was_written() -> None:
    item = decoder(words()).decode("hello there")
    assert item.tokens == ("[CLS]", "hello", "there", "[SEP]")
    assert item.special == (True, False, False, True)


def test_ordinary_tokens_of_a_byte_level_tokenizer_cover_the_text() -> None:
    text = "fn main() { return größe }"
    item = decoder().decode(text)
    covered = {place for start, end in item.offsets for place in range(start, end)}
    assert covered == set(range(len(text)))
    for token, (start, end), special in zip(item.tokens, item.offsets, item.special, strict=True):
        assert special or token == text[start:end]


def test_the_bytes_of_one_character_share_its_place() -> None:
    item = decoder().decode("a🦀b")
    ordinary = [
        (token, place)
        for token, place, special in zip(item.tokens, item.offsets, item.special, strict=True)
        if not special
    ]
    assert ordinary[0] == ("a", (0, 1))
    assert ordinary[1:-1] == [("🦀", (1, 2))] * 4
    assert ordinary[-1] == ("b", (2, 3))


def test_the_tokenizer_agrees_with_the_library_where_nothing_is_cut() -> None:
    tokenizer = byte_level()
    for text in CORPUS:
        assert decoder(tokenizer).decode(text).tensors["input_ids"].tolist() == tokenizer.encode(text).ids


def test_truncation_and_padding_in_the_file_are_not_used() -> None:
    tokenizer = words()
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=32)
    item = decoder(tokenizer).decode("hello world hello world")
    assert item.tensors["input_ids"].tolist() == [1, 4, 5, 4, 5, 2]


def test_a_long_text_keeps_its_end_token_and_says_what_was_dropped() -> None:
    text = "hello " * 20
    item = decoder(words(), max_tokens=8).decode(text)
    assert item.tensors["input_ids"].tolist() == [1, 4, 4, 4, 4, 4, 4, 2]
    assert (item.truncated, item.dropped_tokens) == (True, 14)
    assert item.offsets[-1] == (35, 35)


def test_a_text_of_exactly_max_tokens_is_whole() -> None:
    item = decoder(words(), max_tokens=8).decode("hello " * 6)
    assert (item.truncated, item.dropped_tokens, len(item.tokens)) == (False, 0, 8)


def test_truncation_agrees_with_the_library() -> None:
    tokenizer = byte_level()
    text = " ".join(CORPUS)
    item = decoder(tokenizer, max_tokens=16).decode(text)
    tokenizer.enable_truncation(16)
    assert item.tensors["input_ids"].tolist() == tokenizer.encode(text).ids


def test_a_special_token_that_is_typed_is_ordinary_text() -> None:
    item = decoder(words()).decode("hello [SEP] world")
    assert item.tensors["input_ids"].tolist().count(2) == 1
    assert item.special.count(True) == 2


def test_token_types_are_given_where_the_model_takes_them() -> None:
    item = decoder(words(), token_types=True).decode("hello")
    assert item.tensors["token_types"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("text", ["", " ", "\n\t  \u3000"])
def test_an_empty_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="empty") as caught:
        decoder().decode(text)
    assert caught.value.field == "text"


def test_a_text_without_tokens_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no tokens"):
        decoder(words()).decode("\x01\x02")


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(InvalidInput, match="character 2") as caught:
        decoder().decode("ab\ud83d")
    assert caught.value.field == "text"


def test_nul_is_a_character_like_others() -> None:
    item = decoder().decode("a\0b")
    assert item.tokens[1:-1] == ("a", "\0", "b")


def test_too_many_characters_are_refused_by_name() -> None:
    limited = decoder(limits=Limits(max_characters=10))
    assert limited.decode("x" * 10)
    with pytest.raises(TooLarge, match="11 characters, max_characters is 10") as caught:
        limited.decode("x" * 11)
    assert (caught.value.field, caught.value.limit) == ("text", 10)


def test_a_text_at_the_limit_is_decoded() -> None:
    item = decoder(max_tokens=512).decode("x" * 100_000)
    assert len(item.tokens) == 512


def test_a_model_without_room_for_a_token_is_refused() -> None:
    with pytest.raises(ValueError, match="no room"):
        decoder(max_tokens=2)
    with pytest.raises(ValueError, match="no room"):
        pair_decoder(max_tokens=4)
    assert pair_decoder(max_tokens=5).decode("hello", "world").cost == 5


def test_a_tokenizer_is_read_from_its_file(tmp_path: Path) -> None:
    words().save(str(tmp_path / "tokenizer.json"))
    loaded = TextDecoder(TextInput(max_tokens=8), tmp_path / "tokenizer.json")
    assert loaded.decode("hello").tokens == ("[CLS]", "hello", "[SEP]")


def test_one_decoder_serves_several_threads() -> None:
    shared = decoder(max_tokens=16)
    texts = [text * n for n in range(1, 20) for text in CORPUS]
    expected = [shared.decode(text).tensors["input_ids"].tolist() for text in texts]
    with ThreadPoolExecutor(4) as pool:
        found = [item.tensors["input_ids"].tolist() for item in pool.map(shared.decode, texts)]
    assert found == expected


def test_a_blank_item_has_the_length_asked_for() -> None:
    item = decoder(token_types=True).blank(5)
    assert {name: tensor.shape for name, tensor in item.tensors.items()} == {
        "input_ids": (5,),
        "token_types": (5,),
    }
    assert item.cost == len(item.offsets) == len(item.special) == 5


def test_a_pair_is_two_texts_with_places_of_their_own() -> None:
    item = pair_decoder().decode("Hello  worlds", "a, b")
    assert item.texts == ("Hello  worlds", "a, b")
    assert item.tokens == ("[CLS]", "Hello", "world", "s", "[SEP]", "a", ",", "b", "[SEP]")
    assert item.segments == (0, 0, 0, 0, 0, 1, 1, 1, 1)
    assert item.special == (True, False, False, False, True, False, False, False, True)
    assert item.offsets == ((0, 0), (0, 5), (7, 12), (12, 13), (13, 13), (0, 1), (1, 2), (3, 4), (4, 4))
    assert item.tensors["token_types"].tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1]
    assert (item.truncated, item.dropped, item.cost) == (False, (0, 0), 9)


def test_both_end_tokens_between_texts_are_of_the_first() -> None:
    item = pair_decoder(roberta()).decode("he", "é")
    assert item.tokens == ("<s>", "he", "</s>", "</s>", "é", "é", "</s>")
    assert item.segments == (0, 0, 0, 0, 1, 1, 1)
    assert item.offsets == ((0, 0), (0, 2), (2, 2), (2, 2), (0, 1), (0, 1), (1, 1))
    assert item.special == (True, False, True, True, False, False, True)


def test_pairs_are_what_transformers_makes_of_them_whatever_is_cut(original: Any) -> None:
    """Every way in which two lengths can exceed the limit, and limits both odd and even."""
    rng = random.Random(0)
    cut = set()
    for limit in (6, 7, 12, 13):
        ours = pair_decoder(original, max_tokens=limit)
        for first in range(1, 13):
            for second in range(1, 13):
                texts = [" ".join(rng.choices("ab,", k=count)) for count in (first, second)]
                item = ours.decode(*texts)
                theirs = original(*texts, truncation=True, max_length=limit, return_token_type_ids=True)
                assert item.tensors["input_ids"].tolist() == theirs["input_ids"], (limit, texts)
                assert item.tensors["token_types"].tolist() == theirs["token_type_ids"]
                whole = original(*texts)["input_ids"]
                assert item.dropped_tokens == len(whole) - len(theirs["input_ids"])
                cut.add(tuple(dropped > 0 for dropped in item.dropped))
    assert len(cut) == 4


def test_a_text_alone_is_what_transformers_makes_of_it(original: Any) -> None:
    text = "hello, worlds a b " * 3
    for limit in (6, 9, 64):
        item = pair_decoder(original, max_tokens=limit).decode(text)
        theirs = original(text, truncation=True, max_length=limit, return_token_type_ids=True)
        assert item.tensors["input_ids"].tolist() == theirs["input_ids"]
        assert item.tensors["token_types"].tolist() == theirs["token_type_ids"]
        assert set(item.segments) == {0}


def test_each_text_says_what_was_dropped_of_it() -> None:
    item = pair_decoder(max_tokens=9).decode("a a a a a", "b b")
    assert item.tokens == ("[CLS]", "a", "a", "a", "a", "[SEP]", "b", "b", "[SEP]")
    assert (item.dropped, item.dropped_tokens, item.truncated) == ((1, 0), 1, True)
    assert item.offsets[5] == (7, 7)
    item = pair_decoder(max_tokens=8).decode("a a a a", "b b b b b b")
    assert item.tokens == ("[CLS]", "a", "a", "[SEP]", "b", "b", "b", "[SEP]")
    assert item.dropped == (2, 3)


def test_a_special_token_that_is_typed_into_a_pair_is_ordinary_text() -> None:
    item = pair_decoder().decode("hello [SEP] a", "[CLS] b [SEP]")
    assert item.tensors["input_ids"].tolist().count(2) == 2
    assert item.special.count(True) == 3
    assert item.tensors["token_types"].tolist().index(1) == item.special.index(True, 1) + 1


@pytest.mark.parametrize(
    ("pair", "match"),
    [("", "empty"), (" \n", "empty"), ("\x01", "no tokens"), ("ab\ud83d", "character 2")],
)
def test_a_pair_that_cannot_be_used_is_refused_by_its_name(pair: str, match: str) -> None:
    with pytest.raises(InvalidInput, match=match) as caught:
        pair_decoder().decode("hello", pair)
    assert caught.value.field == "text_pair"
    with pytest.raises(InvalidInput, match=match) as caught:
        pair_decoder().decode(pair, "hello")
    assert caught.value.field == "text"


def test_characters_of_both_texts_count_together() -> None:
    limited = pair_decoder(limits=Limits(max_characters=10))
    assert limited.decode("a" * 4, "b" * 6)
    with pytest.raises(TooLarge, match="11 characters in both texts, max_characters is 10") as caught:
        limited.decode("a" * 5, "b" * 6)
    assert (caught.value.field, caught.value.limit) == ("text_pair", 10)
    with pytest.raises(TooLarge, match="11 characters, ") as caught:
        limited.decode("a" * 11, "b")
    assert caught.value.field == "text"


def test_a_model_of_single_texts_takes_no_pair() -> None:
    with pytest.raises(InvalidInput, match="one text") as caught:
        decoder(words()).decode("hello", "world")
    assert caught.value.field == "text_pair"
