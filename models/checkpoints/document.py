"""Text and JSON that come with a checkpoint, read within limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from models.checkpoints.checkpoint import CheckpointError

MOST_BYTES = 64 * 1024**2  # several times the largest index of weights that is published


def read_text(path: Path, *, most: int = MOST_BYTES) -> str:
    """A file of UTF-8, without its byte order mark; raises CheckpointError."""
    try:
        if not path.is_file():  # a pipe or a device would never end
            raise CheckpointError(f"{path}: no such file")
        with path.open("rb") as file:
            data = file.read(most + 1)
        if len(data) > most:
            raise CheckpointError(f"{path.name}: larger than {most} bytes")
        return data.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path.name}: {error}") from None


def parse_json(name: str, text: str) -> Any:
    """What a JSON text says; raises CheckpointError."""
    try:
        document = json.loads(text)
        json.dumps(document, ensure_ascii=False).encode()  # half a surrogate pair could not be written again
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{name}: no JSON ({error})") from None
    return document


def read_json(path: Path) -> dict[str, Any]:
    """A file that is one JSON object; raises CheckpointError."""
    document = parse_json(path.name, read_text(path))
    if not isinstance(document, dict):
        raise CheckpointError(f"{path.name}: no JSON object")
    return document
