"""The image, built from the Dockerfile by buildah on a base made of Debian packages."""

from __future__ import annotations

import ast
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "image"
BASE = "localhost/regard-test-base"
IMAGE = "localhost/regard-test"
PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BUILD_SECONDS = 1200

log = logging.getLogger("image-test")


def call(*command: str, seconds: float = 300, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command; raises RuntimeError with the end of its output where it fails."""
    done = subprocess.run(command, text=True, capture_output=True, timeout=seconds, check=False)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command[:4])} ...: {(done.stdout + done.stderr)[-4000:]}")
    return done


class Buildah:
    """buildah with a storage of its own, which ends with it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="regard-image-", dir="/var/tmp"))
        store = ["--root", str(self.folder / "root"), "--runroot", str(self.folder / "run")]
        self.prefix = ["env", f"TMPDIR={self.folder}", "buildah", *store]

    def __call__(self, command: str, *args: str, seconds: float = 300, check: bool = True) -> str:
        return call(*self.prefix, command, *args, seconds=seconds, check=check).stdout.strip()

    def run(self, container: str, *args: str) -> subprocess.CompletedProcess[str]:
        """What a command does inside a container."""
        return call(*self.prefix, "run", "--isolation", "chroot", container, "--", *args, check=False)

    def remove(self) -> None:
        self("rm", "--all", check=False)
        self("rmi", "--all", "--force", check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def install_tools() -> None:
    missing = [tool for tool in ("buildah", "debootstrap") if shutil.which(tool) is None]
    if missing:
        log.info("installing %s", ", ".join(missing))
        os.environ["DEBIAN_FRONTEND"] = "noninteractive"
        call("apt-get", "update", "--quiet")
        call("apt-get", "install", "--yes", "--no-install-recommends", *missing)


def base_archive(suite: str) -> Path:
    """A small Debian with Python as a tar file."""
    archive = CACHE / f"{suite}.tar"
    if not archive.exists():
        log.info("making a base of Debian %s", suite)
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="regard-base-", dir="/var/tmp") as folder:
            call("debootstrap", "--variant=minbase", f"--include={PACKAGES}", suite, folder, seconds=900)
            shutil.rmtree(Path(folder) / "var/cache/apt/archives", ignore_errors=True)
            partial = archive.with_suffix(".partial")
            call("tar", "--create", "--numeric-owner", "--file", str(partial), "--directory", folder, ".")
            partial.rename(archive)
    return archive


def host_pip() -> dict[str, str]:
    """The options pip has on this machine, the environment's before those of files."""
    listed = call(sys.executable, "-m", "pip", "config", "list", check=False).stdout
    options: dict[str, str] = {}
    for line in sorted(listed.splitlines(), key=lambda line: line.startswith(":env:")):
        key, _, value = line.partition("=")
        options[key.rpartition(".")[2]] = " ".join(str(ast.literal_eval(value)).split())
    return options


def pip_arguments(options: dict[str, str], folder: Path) -> Iterator[str]:
    """The options as a secret of the build, and the local paths they name as read-only volumes."""
    if not options:
        return
    config = folder / "pip.conf"
    config.write_text("[global]\n" + "".join(f"{key} = {value}\n" for key, value in options.items()))
    yield f"--secret=id=pip,src={config}"
    for path in local_paths(options):
        yield f"--volume={path}:{path}:ro"


def local_paths(options: dict[str, str]) -> list[Path]:
    """Files and folders of this machine that the options name.

    Of a local index it is the folder around it, since the packages may stand beside it.
    """
    paths = set()
    for word in " ".join(options.values()).split():
        path = Path(word.removeprefix("file://"))
        if path.is_absolute() and path.exists():
            paths.add(path.parent if word.startswith("file://") and len(path.parts) > 3 else path)
    return sorted(paths)


def build(buildah: Buildah, suite: str) -> None:
    container = buildah("from", "scratch")
    buildah("add", "--quiet", container, str(base_archive(suite)), "/")
    buildah("config", "--env", f"PATH={PATH}", container)
    buildah("commit", "--quiet", "--rm", "--format", "docker", container, BASE)
    log.info("building")
    started = time.monotonic()
    buildah(
        "build",
        *("--isolation", "chroot", "--format", "docker", "--layers=false", "--pull-never"),
        *("--build-arg", f"BASE={BASE}", "--build-arg", "DEVICE=cpu", "--tag", IMAGE),
        *pip_arguments(host_pip(), buildah.folder),
        str(ROOT),
        seconds=BUILD_SECONDS,
    )
    sizes = {
        entry["names"][0].partition(":")[0]: entry["size"]
        for entry in json.loads(buildah("images", "--json"))
        if entry.get("names")
    }
    taken = time.monotonic() - started
    log.info("built in %.0f s: %s, of which the base is %s", taken, sizes[IMAGE], sizes[BASE])
