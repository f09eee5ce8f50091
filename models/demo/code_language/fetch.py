"""Fetching the projects' archives with the clients of their registries, apt-get and npm, and opening them."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

from models.demo.code_language.projects import Client, Project

# apt-get reads all package lists at each start: a batch saves that, and the bar still moves.
BATCH = 10
COMMANDS: dict[Client, tuple[str, ...]] = {
    "source": ("apt-get", "source", "--download-only", "--tar-only"),
    "debian": ("apt-get", "download"),
    "npm": ("npm", "pack", "--silent", "--ignore-scripts"),
}


def archives(folder: Path, project: Project) -> list[Path]:
    """The archives of a project in `folder`; empty if they are not there."""
    if project.client == "npm":
        stem = project.name.removeprefix("@").replace("/", "-")
        pattern = f"npm/{stem}-{project.version}.tgz"
    elif project.client == "debian":
        pattern = f"debian/{project.name}_{project.version.replace(':', '%3a')}_*.deb"
    else:
        upstream = project.version.rpartition(":")[2]
        upstream = upstream.rpartition("-")[0] or upstream
        pattern = f"source/{project.name}_{upstream}.*tar.*"
    return sorted(
        path for path in folder.glob(pattern) if ".debian.tar." not in path.name and path.suffix != ".asc"
    )


def fetch(folder: Path, projects: Sequence[Project], advance: Callable[[int], None]) -> None:
    """Download what is missing into `folder`; `advance` is told how many projects are done.

    Raises:
        RuntimeError: a client is not installed or fails.
    """
    missing = [project for project in projects if not archives(folder, project)]
    advance(len(projects) - len(missing))
    if any(project.client == "source" for project in missing):
        _list_sources(folder.resolve())
    for client, command in COMMANDS.items():
        wanted = [project for project in missing if project.client == client]
        mark = "@" if client == "npm" else "="
        options = _options(folder.resolve()) if client == "source" else []
        for start in range(0, len(wanted), BATCH):
            batch = wanted[start : start + BATCH]
            words = [f"{project.name}{mark}{project.version}" for project in batch]
            _call([*command, *options, *words], folder / client)
            advance(len(batch))


def opened(path: Path) -> tarfile.TarFile:
    """An archive of any client, to be read member by member."""
    if path.suffix != ".deb":
        return tarfile.open(path)
    data = _call(["dpkg-deb", "--fsys-tarfile", str(path.resolve())], path.parent)
    return tarfile.open(fileobj=io.BytesIO(data))


def _options(folder: Path) -> list[str]:
    """What makes apt-get work on package lists of its own, so that the system's stay as they are."""
    state = folder / "apt"
    settings = {
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": state / "parts",
        "Dir::State::lists": state / "lists",
        "Dir::Cache": state / "cache",
    }
    return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]


def _list_sources(folder: Path) -> None:
    """Fetch the lists of source packages from the archives that the system takes its packages from."""
    state, system = folder / "apt", Path("/etc/apt")
    for name in ("lists/partial", "cache", "parts"):
        (state / name).mkdir(parents=True, exist_ok=True)
    for path in [system / "sources.list", *sorted((system / "sources.list.d").glob("*"))]:
        if path.suffix in {".list", ".sources"} and path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
            copy = "\n".join(map(_as_source, lines)) + "\n"
            (state / "parts" / path.name).write_text(copy, encoding="utf-8")
    _call(["apt-get", "update", *_options(folder)], folder)


def _as_source(line: str) -> str:
    if line.startswith("Types:"):
        return "Types: deb-src"
    return f"deb-src {line.removeprefix('deb ')}" if line.startswith("deb ") else line


def _call(command: list[str], folder: Path) -> bytes:
    program = shutil.which(command[0])
    if program is None:
        raise RuntimeError(f"{command[0]} is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([program, *command[1:]], cwd=folder, capture_output=True, check=False)  # noqa: S603
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise RuntimeError(f"{' '.join(command[:2])} failed: {said[-500:]}")
    return done.stdout
