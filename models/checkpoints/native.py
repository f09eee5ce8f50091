"""Regard's own checkpoint: `checkpoint.json`, `model.safetensors` and, for text, `tokenizer.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from models.cbam import CBAMConfig, CBAMResNet
from models.checkpoints.checkpoint import Checkpoint, CheckpointError, Choices, Family
from models.checkpoints.keys import fill, rule
from models.checkpoints.source import Source, open_source
from models.checkpoints.tokens import TOKENIZER
from models.text import TextConfig, TextTransformer
from models.video import XCLIP, TowerConfig, VideoClassifier, XCLIPConfig

DOCUMENT = "checkpoint.json"
FORMAT = "regard-checkpoint-1"
FAMILIES: dict[type[nn.Module], Family] = {TextTransformer: "text", CBAMResNet: "image", XCLIP: "video"}
TITLES: dict[Family, str] = {"text": "text transformer", "image": "CBAM ResNet", "video": "X-CLIP"}


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
    save_file(
        {key: tensor.contiguous() for key, tensor in model.state_dict().items()}, folder / "model.safetensors"
    )
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
    document = source.document(DOCUMENT) or {}
    if document.get("format") != FORMAT:
        raise CheckpointError(f"{DOCUMENT}: format is {document.get('format')!r}, not {FORMAT!r}")
    try:
        return _read(source, document)
    except KeyError as error:
        raise CheckpointError(f"{DOCUMENT}: no {error}") from None


def _read(source: Source, document: Mapping[str, Any]) -> Checkpoint:
    family: Family = document["family"]
    with torch.device("meta"):
        model = build(family, document["architecture"])
    fill(model, source.state, [rule("(.+)", "{}")])
    if isinstance(model, XCLIP):
        with torch.no_grad():
            model = VideoClassifier(model, model.text(torch.tensor(document["label_ids"]))).eval()
    return Checkpoint(
        model=model,
        family=family,
        architecture=TITLES[family],
        source=document["name"],
        name=document["name"],
        version=document["version"],
        description=document["description"],
        labels=tuple(document["labels"]),
        activation="softmax",
        preprocessing=document["preprocessing"],
        card=document["card"],
        weights=source.weights,
        tokenizer=source.beside(TOKENIZER),
    )


def build(family: Family, architecture: Mapping[str, Any]) -> nn.Module:
    """An untrained model of this family from plain data; raises CheckpointError where it does not fit."""
    try:
        return _build(family, architecture)
    except (TypeError, ValueError, KeyError) as error:
        raise CheckpointError(f"architecture: {error}") from None


def _build(family: Family, architecture: Mapping[str, Any]) -> nn.Module:
    if family == "text":
        return TextTransformer(TextConfig(**architecture))
    if family == "image":
        return CBAMResNet(CBAMConfig(**architecture))
    if family != "video":
        raise ValueError(f"unknown family {family!r}")
    towers: dict[str, Any] = {
        key: TowerConfig(**value) if isinstance(value, dict) else value for key, value in architecture.items()
    }
    return XCLIP(XCLIPConfig(**towers))
