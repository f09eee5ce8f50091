"""Regard's own checkpoint: `checkpoint.json`, `model.safetensors` and, for text, `tokenizer.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from models.cbam import CBAMConfig, CBAMResNet
from models.checkpoints.checkpoint import Checkpoint, CheckpointError, Choices, Family
from models.checkpoints.config import LARGEST, MOST_LAYERS, Config
from models.checkpoints.keys import fill, rule
from models.checkpoints.label_texts import embeddings
from models.checkpoints.labels import check_count, check_names, read_labels
from models.checkpoints.source import Source, open_source
from models.checkpoints.tokens import find_tokenizer, open_tokenizer
from models.text import TextConfig, TextTransformer
from models.video import XCLIP, TowerConfig, VideoClassifier, XCLIPConfig

DOCUMENT = "checkpoint.json"
FORMAT = "regard-checkpoint-1"
FAMILIES: dict[type[nn.Module], Family] = {TextTransformer: "text", CBAMResNet: "image", XCLIP: "video"}
TITLES: dict[Family, str] = {"text": "text transformer", "image": "CBAM ResNet", "video": "X-CLIP"}
ABSENT = ("token_types",)  # sizes that may be 0

C = TypeVar("C")


class Document(BaseModel):
    """What `checkpoint.json` says."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: Literal["regard-checkpoint-1"]
    family: Family
    name: str
    version: str = Field(pattern=r"^[0-9]+$")
    description: str
    architecture: dict[str, Any]
    labels: list[str] = Field(min_length=1)
    label_ids: list[list[int]] | None
    preprocessing: dict[str, Any]
    card: dict[str, Any] | None


def save(
    folder: Path,
    model: nn.Module,
    *,
    name: str,
    version: str,
    description: str,
    labels: Sequence[str],
    preprocessing: Mapping[str, Any],
    card: Mapping[str, Any] | None,
    label_ids: Sequence[Sequence[int]] | None = None,
) -> None:
    """Write the checkpoint of a `TextTransformer`, a `CBAMResNet` or an `XCLIP`.

    `label_ids` are the token ids of each label's text, for X-CLIP alone. A text model's `tokenizer.json` is
    written by its recipe. Raises ValueError where label ids are missing or not one row per label.
    """
    if (label_ids is not None) != isinstance(model, XCLIP) or len(label_ids or labels) != len(labels):
        raise ValueError("an X-CLIP, and no other model, has the token ids of each of its labels")
    document = {
        "format": FORMAT,
        "family": FAMILIES[type(model)],
        "name": name,
        "version": version,
        "description": description,
        "architecture": asdict(model.config),  # type: ignore[call-overload]
        "labels": list(labels),
        "label_ids": label_ids,
        "preprocessing": dict(preprocessing),
        "card": card,
    }
    folder.mkdir(parents=True, exist_ok=True)
    # Not `save_file`, whose files none but their owner may read.
    state = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
    (folder / "model.safetensors").write_bytes(safetensors.torch.save(state))
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    (folder / DOCUMENT).write_text(text, encoding="utf-8")


def fits(source: Source) -> bool:
    """Whether this is one."""
    return source.beside(DOCUMENT) is not None


def load(folder: Path) -> Checkpoint:
    """Read a checkpoint; raises CheckpointError where the folder is none."""
    return read(open_source(str(folder)), Choices())


def read(source: Source, choices: Choices) -> Checkpoint:
    """Raises CheckpointError where the checkpoint does not fit."""
    document = _document(source)
    family, labels = document.family, check_names(f"{DOCUMENT}: labels", document.labels)
    model = build(family, document.architecture)
    fill(model, source.state, [rule("(.+)", "{}")])
    if isinstance(model, XCLIP):
        if choices.labels is not None:
            raise CheckpointError(f"labels: those of this X-CLIP are fixed by {DOCUMENT}")
        model = _with_labels(model, document)
    elif choices.labels is not None:
        labels = check_count(read_labels(choices.labels), len(labels))
    tokenizer = None
    if isinstance(model, TextTransformer):
        Config(document.preprocessing, place=f"{DOCUMENT}: preprocessing").count(
            "max_tokens", most=model.config.positions
        )
        tokenizer = find_tokenizer(source, choices)
        open_tokenizer(tokenizer, vocabulary=model.config.vocabulary)
    return Checkpoint(
        model=model,
        family=family,
        architecture=TITLES[family],
        source=document.name,
        name=document.name,
        version=document.version,
        description=document.description,
        labels=labels,
        activation="softmax",
        preprocessing=document.preprocessing,
        card=document.card,
        weights=source.weights,
        tokenizer=tokenizer,
    )


def build(family: Family, architecture: Mapping[str, Any]) -> nn.Module:
    """A model of this family on "meta" from plain data; raises CheckpointError where it does not fit."""
    try:
        with torch.device("meta"):
            if family == "text":
                return TextTransformer(_config(TextConfig, architecture))
            if family == "image":
                return CBAMResNet(_config(CBAMConfig, architecture))
            return XCLIP(_config(XCLIPConfig, architecture))
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{DOCUMENT}: architecture: {error}") from None


def _document(source: Source) -> Document:
    try:
        return Document.model_validate(source.document(DOCUMENT) or {})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        said = "missing" if first["type"] == "missing" else f"{first['input']!r}: {first['msg']}"
        raise CheckpointError(f"{DOCUMENT}: {place} is {said}") from None


def _with_labels(model: XCLIP, document: Document) -> VideoClassifier:
    """The model with its labels encoded, which is all that it still needs its text tower for."""
    rows, config = document.label_ids or [], model.config
    known = all(0 <= token < config.vocabulary for row in rows for token in row)
    if len(rows) != len(document.labels) or not known or {len(row) for row in rows} != {config.context}:
        raise CheckpointError(
            f"{DOCUMENT}: label_ids are not {len(document.labels)} rows of {config.context} token ids "
            f"below {config.vocabulary}"
        )
    return VideoClassifier(model, embeddings(model, rows)).eval()


def _config(kind: type[C], given: Mapping[str, Any]) -> C:
    """A model's config from plain data; a size that cannot be built is refused before anything is."""
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for name, value in given.items():
        if hints.get(name) is TowerConfig and isinstance(value, dict):
            values[name] = _config(TowerConfig, value)
        elif name in hints and _allowed(name, value, hints[name]):
            values[name] = value
        else:
            raise ValueError(f"{name} is {value!r}, which no {kind.__name__} has")
    return kind(**values)


def _allowed(name: str, value: Any, hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if hint is float:  # a rate, or what keeps a division from zero
        return isinstance(value, float) and 0 <= value < 1
    if hint is int and type(value) is int:
        most = MOST_LAYERS if name == "layers" else LARGEST
        return (0 if name in ABSENT else 1) <= value <= most
    return hint is bool and isinstance(value, bool)
