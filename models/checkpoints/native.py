"""Regard's own checkpoint: `checkpoint.json`, `model.safetensors` and, for text, `tokenizer.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from models.cbam import CBAMConfig, CBAMResNet
from models.text import TextConfig, TextTransformer
from models.video import XCLIP, TowerConfig, VideoClassifier, XCLIPConfig

Family = Literal["text", "image", "video"]
FAMILIES: dict[type[nn.Module], Family] = {TextTransformer: "text", CBAMResNet: "image", XCLIP: "video"}


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A model ready for export and what has to be known to serve it.

    `preprocessing` says how raw input becomes the model's, in the words of the bundle's input schema;
    `weights` is the file that was read,
    `source` what it is called where it comes from, `name` what it is to be served as.
    """

    model: nn.Module
    family: Family
    source: str
    name: str
    version: str
    description: str
    labels: tuple[str, ...]
    preprocessing: dict[str, Any]
    card: dict[str, Any] | None
    weights: Path
    tokenizer: Path | None


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
        "format": "regard-checkpoint-1",
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
    (folder / "checkpoint.json").write_text(text, encoding="utf-8")


def load(folder: Path) -> Checkpoint:
    """Read a checkpoint; every key of the weights must fit.

    Raises ValueError where the folder is no such checkpoint, RuntimeError where a key is missing or unused.
    """
    document = json.loads((folder / "checkpoint.json").read_text(encoding="utf-8"))
    if document.get("format") != "regard-checkpoint-1":
        raise ValueError(f"{folder}/checkpoint.json: format is {document.get('format')!r}")
    state = load_file(folder / "model.safetensors")
    family: Family = document["family"]
    model = build(family, document["architecture"])
    model.load_state_dict(state, strict=True)
    model.eval()
    if isinstance(model, XCLIP):
        with torch.no_grad():
            model = VideoClassifier(model, model.text(torch.tensor(document["label_ids"]))).eval()
    tokenizer = folder / "tokenizer.json"
    return Checkpoint(
        model=model,
        family=family,
        source=document["name"],
        name=document["name"],
        version=document["version"],
        description=document["description"],
        labels=tuple(document["labels"]),
        preprocessing=document["preprocessing"],
        card=document["card"],
        weights=folder / "model.safetensors",
        tokenizer=tokenizer if tokenizer.exists() else None,
    )


def build(family: Family, architecture: Mapping[str, Any]) -> nn.Module:
    """An untrained model of this family from plain data; raises ValueError where it does not fit."""
    try:
        return _build(family, architecture)
    except TypeError as error:
        raise ValueError(f"architecture: {error}") from None


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
