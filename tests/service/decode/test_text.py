from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

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
    limits: Limits | None = None,
) -> TextDecoder:
    data = (tokenizer or byte_level()).to_str().encode()
    return TextDecoder(TextInput(max_tokens=max_tokens, token_types=token_types), data, limits)


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
