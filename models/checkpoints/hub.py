"""A model of the hub to a folder: the files that export reads, and no others."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError

from models.checkpoints.checkpoint import CheckpointError

ID = re.compile(r"[\w.-]+/[\w.-]+")
SIDE_FILES = ("*.json", "*.txt")
# Each format's files, in order of preference; the second is fetched only where the first is not there.
FORMATS = (
    ("model.safetensors", "model-*-of-*.safetensors"),
    ("pytorch_model.bin", "pytorch_model-*-of-*.bin"),
)
SECONDS = 10  # for the hub's first answer
SUBFOLDERS = "*/*"  # of a model: other formats and runs


def download(name: str) -> Path:
    """The local copy of a model, named after its commit; raises CheckpointError.

    Where the hub cannot be asked, the copy of an earlier download is good enough.
    """
    unreached = _unreached(name)
    try:
        for weights in FORMATS:
            wanted = [*SIDE_FILES, *weights]
            folder = Path(
                snapshot_download(
                    name,
                    allow_patterns=wanted,
                    ignore_patterns=SUBFOLDERS,
                    local_files_only=unreached is not None,
                )
            )
            if any(path.match(pattern) for path in folder.iterdir() for pattern in weights):
                break
    except Exception as error:  # the client raises its own kinds, those of its transport and of its parser
        raise CheckpointError(f"{name}: no such folder, and {_reason(unreached or error)}") from None
    return folder


def _unreached(name: str) -> Exception | None:
    """Why the hub does not answer, if it does not; without a limit the client would wait for ever."""
    try:
        HfApi().model_info(name, timeout=SECONDS)
    except Exception as error:
        return error
    return None


def _reason(error: Exception) -> str:
    if isinstance(error, GatedRepoError):
        return "on the hub it is gated: accept its terms there and log in"
    if isinstance(error, RepositoryNotFoundError):
        return "the hub has no such model, or a private one"
    if isinstance(error, OfflineModeIsEnabled):
        return "no copy of it is kept here while HF_HUB_OFFLINE keeps the hub away"
    first = str(error).strip().partition("\n")[0]
    return f"the hub did not give it ({type(error).__name__}: {first})"
