"""Text to tokens: what a checkpoint brings for it, checked against the model's sizes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

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
# What transformers 5.23 takes a setting for where tokenizer_config.json names the class and not the setting:
# strip_accents None is as do_lower_case.
BERT_DEFAULTS = {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True}
DEFAULTS: dict[str, Mapping[str, bool | None]] = {
    "BertTokenizer": BERT_DEFAULTS,
    "DistilBertTokenizer": BERT_DEFAULTS,
    "ElectraTokenizer": BERT_DEFAULTS,
    "RobertaTokenizer": {"add_prefix_space": False, "trim_offsets": True},
    "XLMRobertaTokenizer": {"add_prefix_space": True},
}
# Classes that follow tokenizer.json, whatever else is set.
GENERIC = ("TokenizersBackend", "PreTrainedTokenizer")
# Classes that give token types where model_input_names is not said; no other that reads plain text does.
TYPED = (
    "BertTokenizer",
    "ConvBertTokenizer",
    "DebertaTokenizer",
    "DebertaV2Tokenizer",
    "ElectraTokenizer",
    "LayoutLMTokenizer",
    "LxmertTokenizer",
    "MobileBertTokenizer",
    "SqueezeBertTokenizer",
)
TYPED_MODELS = ("bert", "distilbert")  # whose tokenizer is one of them where no class is named
PREFIXED = {"always": True, "never": False}  # "first" is what no setting says
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
        side = (tokenizer.truncation or {}).get("direction", "right")
        tokenizer.no_truncation()
        tokenizer.no_padding()
        ids = set(tokenizer.get_vocab(with_added_tokens=True).values())
        # Tokens put around a text have ids of their own in the file.
        ids.update(tokenizer.encode(PROBE).ids, tokenizer.encode(PROBE, PROBE).ids)
    if side != "right":
        raise CheckpointError(f"tokenizer: {path.name}: truncation on the {side}; supported: right")
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
    path: Path, *, model: Config, vocabulary: int, positions: int, pad_id: int, token_types: int
) -> dict[str, Any]:
    """How text becomes this model's input, in the words of the bundle's schema; raises CheckpointError.

    `model` is the model's config.json, which counts where the tokenizer's own config names no class. Texts
    are cut to the model's positions, or to fewer where the tokenizer's own config says so.
    """
    if pad_id >= vocabulary:
        raise CheckpointError(f"config.json: pad_token_id {pad_id} is not one of {vocabulary} tokens")
    tokenizer = open_tokenizer(path, vocabulary=vocabulary)
    beside = path.parent / TOKENIZER_CONFIG
    config = Config(read_json(beside) if beside.is_file() else {}, place=TOKENIZER_CONFIG)
    named = _class(config, TOKENIZER_CONFIG) or _class(model, "config.json")
    _check(config, named, tokenizer, path)
    said = config.given("model_max_length")
    max_tokens = positions if said is None else int(min(positions, config.real("model_max_length", 1)))
    alone, pair = (tokenizer.num_special_tokens_to_add(is_pair) for is_pair in (False, True))
    pairs = pair > alone
    special = pair if pairs else alone
    if max_tokens < special + 1 + pairs:
        raise CheckpointError(f"tokenizer: texts are cut to {max_tokens} tokens, {special} of them special")
    gives = model.given("model_type") in TYPED_MODELS if named is None else named in TYPED
    names = config.names("model_input_names", *(["token_type_ids"] if gives else []))
    typed = token_types > 1 and "token_type_ids" in names
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


def _class(config: Config, place: str) -> str | None:
    """The class of transformers that a config names; "Fast" is part of the name of old ones."""
    named = config.given("tokenizer_class")
    if not isinstance(named, str | None):
        raise CheckpointError(f"{place}: tokenizer_class is {named!r}, no name")
    return named.removesuffix("Fast") if named else None


def _check(config: Config, named: str | None, tokenizer: Tokenizer, path: Path) -> None:
    """Refuse a tokenizer_config.json that contradicts the tokenizer.json beside it.

    transformers believes the config: it makes normalizer and pre-tokenizer anew from what the config and the
    defaults of its class say, so that tokens would differ from those of the training.
    """
    config.only("truncation_side", "right")
    if named in GENERIC:
        return
    defaults = DEFAULTS.get(named or "", {})
    settings = _settings(tokenizer)
    for name, found in settings.items():
        given = config.given(name) is not None
        said = config.flag(name, True) if given else defaults.get(name)
        if name == "strip_accents" and said is None and name in defaults:
            said = settings["do_lower_case"]
        if said is not None and said != found:
            missing = "" if given else f" by default of {named}"
            raise CheckpointError(
                f"tokenizer: {TOKENIZER_CONFIG}: {name} is {said}{missing}, {path.name} says otherwise; "
                f"{CONVERT}"
            )


def _settings(tokenizer: Tokenizer) -> dict[str, bool | None]:
    """What a tokenizer does of that which tokenizer_config.json has a word for."""
    found: dict[str, bool | None] = {}
    for part in _parts(tokenizer.normalizer):
        if part["type"] == "BertNormalizer":
            accents = part["strip_accents"]
            found["do_lower_case"] = part["lowercase"]
            found["strip_accents"] = part["lowercase"] if accents is None else accents
            found["tokenize_chinese_chars"] = part["handle_chinese_chars"]
    for part in _parts(tokenizer.pre_tokenizer):
        if part["type"] == "ByteLevel":
            found["add_prefix_space"] = part["add_prefix_space"]
        elif part["type"] == "Metaspace":
            found["add_prefix_space"] = PREFIXED.get(part["prepend_scheme"])
    for part in _parts(tokenizer.post_processor):
        if part["type"] == "RobertaProcessing":
            found["trim_offsets"] = part["trim_offsets"]
    return found


def _parts(component: Any) -> list[dict[str, Any]]:
    """What a component of a tokenizer is made of, as tokenizer.json writes it."""
    if component is None:
        return []
    waiting, parts = [json.loads(component.__getstate__())], []
    while waiting:
        part = waiting.pop(0)
        if part["type"] == "Sequence":
            waiting[:0] = next(value for value in part.values() if isinstance(value, list))
        else:
            parts.append(part)
    return parts
