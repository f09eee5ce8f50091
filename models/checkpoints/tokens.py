"""Text to tokens: what a checkpoint brings for it, checked against the model's sizes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.normalizers import BertNormalizer

from models.checkpoints.checkpoint import CheckpointError, Choices
from models.checkpoints.config import Config
from models.checkpoints.document import read_json
from models.checkpoints.source import Source

TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
SLOW = ("vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model", "spm.model")
CONVERT = (
    "convert it once with transformers: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER), "
    "or give one with --tokenizer"
)
PROBE = "a ᚠ"  # ordinary, and a letter that no vocabulary is expected to hold


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
    with _refusals(path):
        tokenizer = Tokenizer.from_file(str(path))
        # The file carries the truncation and padding of its training.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        ids = set(tokenizer.get_vocab(with_added_tokens=True).values())
        # Tokens put around a text have ids of their own in the file.
        ids.update(tokenizer.encode(PROBE).ids, tokenizer.encode(PROBE, PROBE).ids)
    highest = max(ids, default=-1)
    if highest >= vocabulary:
        raise CheckpointError(
            f"tokenizer: its ids go to {highest}, the model's embedding has {vocabulary} rows"
        )
    return tokenizer


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """What the library cannot read; it raises bare Exceptions, and panics that are no Exceptions."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise CheckpointError(f"tokenizer: {path.name}: {error}") from None


def text_input(
    path: Path, *, vocabulary: int, positions: int, pad_id: int, token_types: int
) -> dict[str, Any]:
    """How text becomes this model's input, in the words of the bundle's schema; raises CheckpointError.

    Texts are cut to the model's positions, or to fewer where the tokenizer's own config says so.
    """
    if pad_id >= vocabulary:
        raise CheckpointError(f"config.json: pad_token_id {pad_id} is not one of {vocabulary} tokens")
    tokenizer = open_tokenizer(path, vocabulary=vocabulary)
    config = _config(path, tokenizer)
    said = config.given("model_max_length")
    max_tokens = positions if said is None else int(min(positions, config.real("model_max_length", 1)))
    alone, pair = (tokenizer.num_special_tokens_to_add(is_pair) for is_pair in (False, True))
    pairs = pair > alone
    special = pair if pairs else alone
    if max_tokens < special + 1 + pairs:
        raise CheckpointError(f"tokenizer: texts are cut to {max_tokens} tokens, {special} of them special")
    typed = token_types > 1 and "token_type_ids" in config.names("model_input_names", "token_type_ids")
    highest = max((*tokenizer.encode(PROBE).type_ids, *tokenizer.encode(PROBE, PROBE).type_ids), default=0)
    if typed and highest >= token_types:
        raise CheckpointError(f"tokenizer: its token types go to {highest}, the model has {token_types}")
    return {
        "kind": "text",
        "max_tokens": max_tokens,
        "pad_id": pad_id,
        "token_types": typed,
        "pairs": pairs,
    }


def _config(path: Path, tokenizer: Tokenizer) -> Config:
    """What lies beside a tokenizer.json and does not contradict it; empty where nothing does.

    transformers believes its own file, so that tokens would differ from those of the training.
    """
    beside = path.parent / TOKENIZER_CONFIG
    config = Config(read_json(beside) if beside.is_file() else {}, place=TOKENIZER_CONFIG)
    normalizer = tokenizer.normalizer
    if isinstance(normalizer, BertNormalizer):
        lowers = bool(normalizer.lowercase)
        if config.flag("do_lower_case", lowers) != lowers:
            raise CheckpointError(
                f"tokenizer: {TOKENIZER_CONFIG}: do_lower_case is {not lowers}, {path.name} says otherwise; "
                f"{CONVERT}"
            )
    return config
