"""The model repository on disk: NAME/VERSION/ folders, and whether one has changed."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple

from service.bundle import MANIFEST

# Of every file: relative path, size, mtime and ctime in ns, inode. Copies keep sizes and mtimes, and inodes
# are used again, but nobody can set a ctime.
Content = frozenset[tuple[str, int, int, int, int]]


class Place(NamedTuple):
    """Where one version of a model lies."""

    name: str
    version: str

    @property
    def order(self) -> tuple[str, int, str]:
        """By name, then from the lowest version to the highest."""
        return self.name, int(self.version), self.version

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


class Repository:
    """A folder of models."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, place: Place) -> Path:
        return self.root / place.name / place.version

    def look(self) -> dict[Place, Content]:
        """What is there now, in order of names and versions; raises OSError where the root cannot be read.

        Hidden folders, those without a manifest, those that are no version and those that cannot be read
        (`lost+found` on a volume of its own) are left out.
        """
        places = []
        for name in _folders(self.root):
            try:
                versions = _folders(self.root / name)
            except (FileNotFoundError, PermissionError):
                continue
            for version in versions:
                if version.isascii() and version.isdecimal():
                    places.append(Place(name, version))
        places.sort(key=lambda place: place.order)
        contents = {place: content_of(self.folder(place)) for place in places}
        return {place: files for place, files in contents.items() if any(f[0] == MANIFEST for f in files)}


def content_of(folder: Path) -> Content:
    """What identifies a folder's content; a file that vanishes meanwhile is left out."""
    files = set()
    for path in folder.rglob("*"):
        try:
            found = path.lstat()
        except FileNotFoundError:
            continue
        if not stat.S_ISDIR(found.st_mode):
            name = path.relative_to(folder).as_posix()
            files.add((name, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino))
    return frozenset(files)


def _folders(root: Path) -> list[str]:
    """Names of the folders in a folder, but for hidden ones."""
    with os.scandir(root) as entries:
        return [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
