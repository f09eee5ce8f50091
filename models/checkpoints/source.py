"""SOURCE to files: a local folder or file, or a model of the hub."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from models.checkpoints import hub
from models.checkpoints.checkpoint import Checkpoint, CheckpointError, Family, Scoring
from models.checkpoints.config import Config
from models.checkpoints.document import read_json
from models.checkpoints.weights import find_weights, read_weights

CONFIG = "config.json"
SUFFIXES = (".tar", ".pth", ".pt", ".bin", ".safetensors", ".ckpt")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A checkpoint's files.

    `folder` holds what lies beside the weights and belongs to them; a file that was named alone has none.
    `config` is config.json, or empty.
    """

    name: str
    folder: Path | None
    weights: tuple[Path, ...]
    config: dict[str, Any]
    state: Mapping[str, Tensor]

    def beside(self, name: str) -> Path | None:
        """The file of this name beside the weights, if there is one."""
        if self.folder is None or not (self.folder / name).is_file():
            return None
        return self.folder / name

    def document(self, name: str) -> dict[str, Any] | None:
        """A JSON object beside the weights, if there is one; raises CheckpointError where it is none."""
        path = self.beside(name)
        return None if path is None else read_json(path)

    def required_config(self) -> Config:
        """config.json, where the weights do not say what is computed; raises CheckpointError without one."""
        if not self.config:
            raise CheckpointError(
                f"{self.name}: {CONFIG} is needed, for weights alone do not say what the model computes: "
                "give the folder that holds both"
            )
        return Config(self.config)

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

    A file stands alone, whatever it is called: what lies beside it may belong to another model. Of a folder
    everything belongs to its weights. Nothing of a checkpoint is executed: pickles are read as tensors and
    plain data or not at all.
    """
    if os.path.isfile(source):
        weights, state = read_weights(Path(source))
        return Source(name=Path(source).name, folder=None, weights=weights, config={}, state=state)
    if os.path.isdir(source):
        # As it is called, not as what it links to.
        return _folder(Path(source), name=Path(os.path.abspath(source)).name)
    if not hub.ID.fullmatch(source):
        raise CheckpointError(f"{source}: no such folder or file, and no id of the hub (OWNER/NAME)")
    folder = hub.download(source)
    return _folder(folder, name=f"{source}@{folder.name}")


def _folder(folder: Path, *, name: str) -> Source:
    path = find_weights(folder)
    config = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    for field in ("model_type", "architecture"):
        if not isinstance(config.get(field), str | None):
            raise CheckpointError(f"{CONFIG}: {field} is {config[field]!r}, no name")
    weights, state = read_weights(path)
    return Source(name=name, folder=folder, weights=weights, config=config, state=state)
