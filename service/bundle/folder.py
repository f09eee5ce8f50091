"""A bundle on disk: read only if it is exactly what its manifest says."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import ValidationError

from service.bundle.manifest import MANIFEST, Manifest
from service.bundle.maps import MapSpec

MODEL = "model.onnx"
TOKENIZER = "tokenizer.json"
BLOCK = 1024**2


class BundleError(Exception):
    """A folder that is no sound bundle; says what is wrong and where."""


def digest(*paths: Path) -> str:
    """SHA-256 of files one after the other, in hex."""
    found = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                found.update(block)
    return found.hexdigest()


def first_fault(error: ValidationError, *field: str) -> str:
    """The first thing that a schema found wrong, and where: below `field`, if one is named."""
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, (*field, *first['loc'])))}: {first['msg']}"


def read(folder: Path) -> Manifest:
    """The manifest of a bundle all of whose files are there, unchanged, and named in it.

    Raises BundleError.
    """
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except OSError as error:
        raise BundleError(f"{folder.name}: {MANIFEST} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise BundleError(f"{folder.name}: {MANIFEST}: {first_fault(error)}") from error
    check_files(folder, manifest)
    return manifest


def check_files(folder: Path, manifest: Manifest) -> None:
    """Raise BundleError unless the folder holds exactly the files the manifest names, unchanged."""
    entries = sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    for path in entries:
        if path.is_symlink() or not path.is_file():
            raise BundleError(f"{folder.name}: {path.relative_to(folder)} is a link or no plain file")
    found = {path.relative_to(folder).as_posix() for path in entries} - {MANIFEST}
    needed = {MODEL, *(MapSpec.path(graph) for graph in manifest.graphs)}
    needed |= {TOKENIZER} if manifest.family == "text" else set()
    for name in sorted((needed | set(manifest.files)) - found):
        raise BundleError(f"{folder.name}: {name} is missing")
    for name in sorted((needed | found) - set(manifest.files)):
        raise BundleError(f"{folder.name}: {name} is not named in the manifest")
    for name, expected in manifest.files.items():
        if digest(folder / name) != expected:
            raise BundleError(f"{folder.name}: {name} does not match its checksum")
