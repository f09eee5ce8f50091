"""SOURCE to files: a local folder or file, or a model of the hub."""

from __future__ import annotations

import json
import pickle
import re
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from models.checkpoints.checkpoint import Checkpoint, CheckpointError, Family, Scoring

CONFIG = "config.json"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
# In order of preference; an index names the files of weights that are split.
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
SUFFIXES = (".tar", ".pth", ".pt", ".bin", ".safetensors", ".ckpt")
SIDE_FILES = ("*.json", "*.txt")
# Plain data that published checkpoints pickle beside their tensors: timm's arguments, X-CLIP's settings.
HARMLESS: list[Any] = [Namespace, (OrderedDict, "yacs.config.CfgNode")]
# What training frameworks put before every key, and where they keep the model's own state.
WRAPPERS = ("module.", "_orig_mod.")
NESTED = ("state_dict", "model", "model_state_dict")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A checkpoint's files: `folder` holds what lies beside the weights, `config` is config.json or empty."""

    name: str
    folder: Path
    weights: tuple[Path, ...]
    config: dict[str, Any]
    state: Mapping[str, Tensor]

    def beside(self, name: str) -> Path | None:
        """The file of this name beside the weights, if there is one."""
        path = self.folder / name
        return path if path.is_file() else None

    def document(self, name: str) -> dict[str, Any] | None:
        """A JSON object beside the weights, if there is one; raises CheckpointError where it is none."""
        path = self.beside(name)
        return None if path is None else read_json(path)

    def checkpoint(
        self,
        model: nn.Module,
        *,
        family: Family,
        architecture: str,
        labels: tuple[str, ...],
        preprocessing: dict[str, Any],
        activation: Scoring = "softmax",
        tokenizer: Path | None = None,
    ) -> Checkpoint:
        """What was read from this source, named after it."""
        return Checkpoint(
            model=model,
            family=family,
            architecture=architecture,
            source=self.name,
            name=bundle_name(self.name),
            version="1",
            description=f"{architecture}, from {self.name}.",
            labels=labels,
            activation=activation,
            preprocessing=preprocessing,
            card=None,
            weights=self.weights,
            tokenizer=tokenizer,
        )


def bundle_name(source: str) -> str:
    """What a source is served as: the last part of its name, without suffix and revision."""
    last = source.rpartition("/")[2].partition("@")[0]
    for suffix in SUFFIXES:
        last = last.removesuffix(suffix)
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("._-")[:128].lower() or "model"


def open_source(source: str) -> Source:
    """A local folder or file, else a model of the hub; raises CheckpointError.

    Nothing of a checkpoint is executed: pickles are read as tensors and plain data or not at all.
    """
    path = Path(source)
    if path.is_dir():
        return _folder(path, path.resolve().name)
    if path.is_file():
        return Source(
            name=path.name, folder=path.parent, weights=(path,), config={}, state=read_state((path,))
        )
    if not HUB_ID.fullmatch(source):
        raise CheckpointError(f"{source}: no such folder or file, and no id of the hub (OWNER/NAME)")
    folder = _download(source)
    return _folder(folder, f"{source}@{folder.name}")


def _folder(folder: Path, name: str) -> Source:
    config = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    weights = _weights(folder)
    return Source(name=name, folder=folder, weights=weights, config=config, state=read_state(weights))


def _weights(folder: Path) -> tuple[Path, ...]:
    found = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if found is None:
        raise CheckpointError(f"{folder.name}: no weights; looked for {', '.join(WEIGHTS)}")
    if found.suffix != ".json":
        return (found,)
    named = read_json(found).get("weight_map")
    if not isinstance(named, dict) or not named:
        raise CheckpointError(f"{found.name}: no weight_map")
    parts = sorted({str(part) for part in named.values()})
    for part in parts:
        if Path(part).name != part or not (folder / part).is_file():
            raise CheckpointError(f"{found.name}: {part} is not in the folder")
    return tuple(folder / part for part in parts)


def _download(name: str) -> Path:
    """The hub's files that export needs, weights in one format alone."""
    try:
        folder = Path(snapshot_download(name, allow_patterns=[*SIDE_FILES, "model*.safetensors"]))
        if not any(folder.glob("model*.safetensors")):
            folder = Path(snapshot_download(name, allow_patterns=[*SIDE_FILES, "pytorch_model*.bin"]))
    except (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        OSError,
    ) as error:
        first = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"{name}: no such folder, and the hub did not give it ({type(error).__name__}: {first})"
        ) from error
    return folder


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; raises CheckpointError."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path.name}: no JSON ({error})") from None
    if not isinstance(document, dict):
        raise CheckpointError(f"{path.name}: no JSON object")
    return document


def read_state(paths: tuple[Path, ...]) -> dict[str, Tensor]:
    """Tensors by key of safetensors or pickle files, without what wraps them; raises CheckpointError."""
    state: dict[str, Tensor] = {}
    for path in paths:
        part = _read(path)
        if twice := sorted(state.keys() & part.keys()):
            raise CheckpointError(f"{path.name}: keys of another file again: {', '.join(twice)}")
        state |= part
    return state


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path.name}: {error}") from None
    return _unwrapped(path.name, _unpickle(path))


def _unpickle(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(HARMLESS):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except pickle.UnpicklingError as error:
        first = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"{path.name}: holds more than tensors and plain data, and is not read: {first}"
        ) from None
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path.name}: no checkpoint of torch ({error})") from None


def _is_zip(path: Path) -> bool:
    """Whether this is torch's format since 1.6, the one that can be mapped instead of read."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _unwrapped(name: str, document: Any) -> dict[str, Tensor]:
    """The state dict in what a training run saved."""
    while isinstance(document, dict) and (inner := next((k for k in NESTED if k in document), None)):
        if not isinstance(document[inner], dict):
            break
        document = document[inner]
    if not isinstance(document, dict) or not document:
        raise CheckpointError(f"{name}: no state dict")
    odd = sorted(str(key) for key, value in document.items() if not isinstance(value, Tensor))
    if odd:
        raise CheckpointError(f"{name}: no tensors: {', '.join(odd)}")
    state: dict[str, Tensor] = dict(document)
    for wrapper in WRAPPERS:
        if all(key.startswith(wrapper) for key in state):
            state = {key.removeprefix(wrapper): tensor for key, tensor in state.items()}
    return state
