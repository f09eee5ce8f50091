"""Text to tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import Encoding, Tokenizer

from service.bundle import TextInput
from service.decode.budget import Budget
from service.decode.item import TEXT_FIELDS, Array, TextItem
from service.decode.limits import Limits
from service.errors import InvalidInput

UNCOUNTED = 2000  # bytes of UTF-8: short texts are decoded on the event loop, which must not wait for memory
PEAK = 640  # bytes of memory for a byte of UTF-8; the most measured, of byte-level BPE and WordPiece, is 550


class TextDecoder:
    """Texts, alone or in pairs, to `input_ids` [N] int64; may be called from several threads at once.

    What is typed is data: "[SEP]" in a text becomes ordinary tokens, never the special one.
    """

    def __init__(
        self,
        spec: TextInput,
        tokenizer: Path | bytes,
        limits: Limits | None = None,
        budget: Budget | None = None,
    ) -> None:
        data = tokenizer if isinstance(tokenizer, bytes) else tokenizer.read_bytes()
        self._spec = spec
        self._limits = limits or Limits()
        self._budget = budget or Budget(self._limits)
        self._tokenizer: Tokenizer = Tokenizer.from_buffer(data)
        # A tokenizer file carries the truncation and padding of its training.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True
        self.vocabulary = 1 + max(self._tokenizer.get_vocab().values())  # ids are below it
        texts = 2 if spec.pairs else 1
        specials = self._tokenizer.num_special_tokens_to_add(is_pair=spec.pairs)
        if specials + texts > spec.max_tokens:
            raise ValueError(f"max_tokens {spec.max_tokens} leaves no room beside {specials} special tokens")

    def decode(self, text: str, pair: str | None = None) -> TextItem:
        """Tokens of a text, or of a text and its pair, cut to `max_tokens` and said so in the item.

        Each text's offsets count its own characters; the byte tokens of one character all have that
        character's. Raises InvalidInput, TooLarge, Overloaded.
        """
        texts = (text,) if pair is None else (text, pair)
        size = self._check(texts)
        if size <= UNCOUNTED:
            return self._encode(texts)
        with self._budget.reserve(size * PEAK, field=TEXT_FIELDS[0]):
            return self._encode(texts)

    def _encode(self, texts: tuple[str, ...]) -> TextItem:
        encoding = self._tokenizer.encode(texts[0], texts[1] if len(texts) > 1 else None)
        sequences: list[int | None] = encoding.sequence_ids  # None for special tokens
        counts = [sequences.count(segment) for segment in range(len(texts))]
        for field, count in zip(TEXT_FIELDS, counts, strict=False):
            if count == 0:
                raise InvalidInput(f"the {field} has no tokens", field=field)
        shares = _shares(counts, self._spec.max_tokens - sequences.count(None))
        dropped = tuple(count - share for count, share in zip(counts, shares, strict=True))
        return self._item(texts, encoding, _kept(sequences, shares), dropped)

    def tokens(self, ids: Sequence[int]) -> tuple[str, ...]:
        """Ids as the vocabulary names them; "" where it has a gap."""
        return tuple(self._tokenizer.id_to_token(one) or "" for one in ids)

    def blank(self, tokens: int = 1) -> TextItem:
        """An item of that many padding tokens, for warming up."""
        pad = self._spec.pad_id
        return TextItem(
            tensors=self._tensors([pad] * tokens, [0] * tokens),
            texts=("",),
            tokens=(self._tokenizer.id_to_token(pad) or "",) * tokens,
            offsets=((0, 0),) * tokens,
            segments=(0,) * tokens,
            special=(True,) * tokens,
            dropped=(0,),
        )

    def _check(self, texts: tuple[str, ...]) -> int:
        """How many bytes the texts are in UTF-8; raises InvalidInput and TooLarge."""
        if len(texts) > 1 and not self._spec.pairs:
            raise InvalidInput("the model takes one text, without a text_pair", field="text_pair")
        characters = nbytes = 0
        for field, text in zip(TEXT_FIELDS, texts, strict=False):
            counted = "characters" if not characters else "characters in both texts"
            characters += len(text)
            self._limits.hold("max_characters", characters, field=field, what=counted)
            if not text.strip():
                raise InvalidInput(f"the {field} is empty", field=field)
            try:
                nbytes += len(text.encode())
            except UnicodeEncodeError as error:
                detail = f"character {error.start} is half of a surrogate pair"
                raise InvalidInput(detail, field=field) from error
        return nbytes

    def _item(
        self, texts: tuple[str, ...], encoding: Encoding, kept: list[int], dropped: tuple[int, ...]
    ) -> TextItem:
        ids, types, names = encoding.ids, encoding.type_ids, encoding.tokens
        sequences, places = encoding.sequence_ids, encoding.offsets
        tokens, offsets, segments = [], [], []
        segment = end = 0
        for i in kept:
            sequence = sequences[i]
            if sequence is None:
                start, token = end, names[i]
            else:
                segment, (start, end) = sequence, places[i]
                token = texts[segment][start:end] or names[i]
            tokens.append(token)
            offsets.append((start, end))
            segments.append(segment)
        return TextItem(
            tensors=self._tensors([ids[i] for i in kept], [types[i] for i in kept]),
            texts=texts,
            tokens=tuple(tokens),
            offsets=tuple(offsets),
            segments=tuple(segments),
            special=tuple(sequences[i] is None for i in kept),
            dropped=dropped,
        )

    def _tensors(self, ids: list[int], types: list[int]) -> dict[str, Array]:
        tensors: dict[str, Array] = {"input_ids": np.array(ids, np.int64)}
        if self._spec.token_types:
            tensors["token_types"] = np.array(types, np.int64)
        return tensors


def _shares(counts: Sequence[int], room: int) -> tuple[int, ...]:
    """How many of its tokens each text keeps: of two, the longer is cut first, down to the other's length.

    As `longest_first` of transformers does it: an odd place is the longer text's, else the second one's.
    """
    if sum(counts) <= room:
        return tuple(counts)
    if len(counts) == 1:
        return (room,)
    shorter = min(*counts, room // 2)
    longer = room - shorter
    return (longer, shorter) if counts[0] > counts[1] else (shorter, longer)


def _kept(sequences: Sequence[int | None], shares: Sequence[int]) -> list[int]:
    """Positions of the tokens that stay: all special ones, and of each text as many as its share."""
    left = list(shares)
    kept = []
    for position, segment in enumerate(sequences):
        if segment is not None:
            left[segment] -= 1
        if segment is None or left[segment] >= 0:
            kept.append(position)
    return kept
