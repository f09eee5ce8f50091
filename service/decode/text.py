"""Text to tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tokenizers import Encoding, Tokenizer

from service.bundle import TextInput
from service.decode.item import Array, TextItem
from service.decode.limits import Limits
from service.errors import InvalidInput

FIELD = "text"


class TextDecoder:
    """Texts to `input_ids` [N] int64; may be called from several threads at once.

    What is typed is data: "[SEP]" in a text becomes ordinary tokens, never the special one.
    """

    def __init__(self, spec: TextInput, tokenizer: Path | bytes, limits: Limits | None = None) -> None:
        data = tokenizer if isinstance(tokenizer, bytes) else tokenizer.read_bytes()
        self._spec = spec
        self._limits = limits or Limits()
        self._tokenizer: Tokenizer = Tokenizer.from_buffer(data)
        # A tokenizer file carries the truncation and padding of its training.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True
        specials = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        if specials >= spec.max_tokens:
            raise ValueError(f"max_tokens {spec.max_tokens} leaves no room beside {specials} special tokens")

    def decode(self, text: str) -> TextItem:
        """Tokens of a text, cut to `max_tokens` and said so in the item.

        `offsets` count characters of `text`; the byte tokens of one character all have that character's.
        Raises InvalidInput, TooLarge.
        """
        self._check(text)
        encoding = self._tokenizer.encode(text)
        special = encoding.special_tokens_mask
        if all(special):
            raise InvalidInput("the text has no tokens", field=FIELD)
        kept = _kept(special, self._spec.max_tokens)
        return self._item(text, encoding, kept)

    def blank(self, tokens: int = 1) -> TextItem:
        """An item of that many padding tokens, for warming up."""
        pad = self._spec.pad_id
        return TextItem(
            tensors=self._tensors([pad] * tokens, [0] * tokens),
            text="",
            tokens=(self._tokenizer.id_to_token(pad) or "",) * tokens,
            offsets=((0, 0),) * tokens,
            special=(True,) * tokens,
            truncated=False,
            dropped_tokens=0,
        )

    def _check(self, text: str) -> None:
        self._limits.hold("max_characters", len(text), field=FIELD, what="characters")
        if not text.strip():
            raise InvalidInput("the text is empty", field=FIELD)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidInput(f"character {error.start} is half of a surrogate pair", field=FIELD) from error

    def _item(self, text: str, encoding: Encoding, kept: list[int]) -> TextItem:
        ids, types, names = encoding.ids, encoding.type_ids, encoding.tokens
        special, places = encoding.special_tokens_mask, encoding.offsets
        tokens, offsets, end = [], [], 0
        for i in kept:
            start, end = (end, end) if special[i] else places[i]
            offsets.append((start, end))
            tokens.append(names[i] if special[i] else text[start:end] or names[i])
        dropped = len(ids) - len(kept)
        return TextItem(
            tensors=self._tensors([ids[i] for i in kept], [types[i] for i in kept]),
            text=text,
            tokens=tuple(tokens),
            offsets=tuple(offsets),
            special=tuple(bool(special[i]) for i in kept),
            truncated=dropped > 0,
            dropped_tokens=dropped,
        )

    def _tensors(self, ids: list[int], types: list[int]) -> dict[str, Array]:
        tensors: dict[str, Array] = {"input_ids": np.array(ids, np.int64)}
        if self._spec.token_types:
            tensors["token_types"] = np.array(types, np.int64)
        return tensors


def _kept(special: list[int], limit: int) -> list[int]:
    """Positions of the tokens that stay: all special ones, and the first ordinary ones up to the limit."""
    room = limit - sum(special)
    kept = []
    for position, is_special in enumerate(special):
        if is_special or room > 0:
            kept.append(position)
            room -= not is_special
    return kept
