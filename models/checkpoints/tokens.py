"""Text to tokens: what a checkpoint brings for it, checked against the model's sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from models.checkpoints.checkpoint import CheckpointError, Choices
from models.checkpoints.source import Source

TOKENIZER = "tokenizer.json"
SLOW = ("vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model", "spm.model")
CONVERT = (
    "convert it once with transformers: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER), "
    "or give one with --tokenizer"
)


def find_tokenizer(source: Source, choices: Choices) -> Path:
    """The tokenizer.json that was chosen, else the one beside the weights; raises CheckpointError."""
    if choices.tokenizer is not None:
        path = choices.tokenizer
        path = path / TOKENIZER if path.is_dir() else path
        if not path.is_file():
            raise CheckpointError(f"tokenizer: {choices.tokenizer}: no {TOKENIZER}")
        return path
    found = source.beside(TOKENIZER)
    if found is not None:
        return found
    slow = [name for name in SLOW if source.beside(name) is not None]
    if slow:
        raise CheckpointError(f"tokenizer: {slow[0]} alone, without {TOKENIZER}; {CONVERT}")
    raise CheckpointError(f"tokenizer: the source has no {TOKENIZER}; give one with --tokenizer")


def open_tokenizer(path: Path, *, vocabulary: int) -> Tokenizer:
    """A tokenizer all of whose tokens a model of this vocabulary knows; raises CheckpointError."""
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exceptions
        raise CheckpointError(f"tokenizer: {path.name}: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    highest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    if highest >= vocabulary:
        raise CheckpointError(
            f"tokenizer: its ids go to {highest}, the model's embedding has {vocabulary} rows"
        )
    return tokenizer


def text_input(
    source: Source, path: Path, *, vocabulary: int, positions: int, pad_id: int, token_types: int
) -> dict[str, Any]:
    """How text becomes this model's input, in the words of the bundle's schema; raises CheckpointError.

    Texts are cut to the model's positions, or to fewer where the tokenizer's own config says so.
    """
    tokenizer = open_tokenizer(path, vocabulary=vocabulary)
    if not 0 <= pad_id < vocabulary:
        raise CheckpointError(f"config.json: pad_token_id {pad_id} is not one of {vocabulary} tokens")
    longest = (source.document("tokenizer_config.json") or {}).get("model_max_length")
    if isinstance(longest, int) and 0 < longest < positions:
        positions = longest
    alone, pair = (tokenizer.num_special_tokens_to_add(is_pair) for is_pair in (False, True))
    return {
        "kind": "text",
        "max_tokens": positions,
        "pad_id": pad_id,
        "token_types": token_types > 1,
        "pairs": pair > alone,
    }
