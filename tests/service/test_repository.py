"""The model repository on disk: what counts as a version, and when one has changed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from service.repository import Place, Repository


def write(root: Path, *places: str) -> Path:
    for place in places:
        (root / place).mkdir(parents=True)
        (root / place / "manifest.json").write_text("{}")
        (root / place / "model.onnx").write_text("graph")
    return root


def test_versions_are_found_from_the_lowest_to_the_highest(tmp_path: Path) -> None:
    write(tmp_path, "b/9", "a/10", "a/2", "a/1")
    assert list(Repository(tmp_path).look()) == [("a", "1"), ("a", "2"), ("a", "10"), ("b", "9")]


def test_what_is_hidden_half_written_or_no_version_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, "a/1", ".export-x1/1", "a/.2", "a/next", "a/-3", "a/1.5", "a/٣")
    (tmp_path / "a" / "7").mkdir()  # no manifest yet
    (tmp_path / "a" / "8").touch()
    (tmp_path / "b").mkdir()
    (tmp_path / "README.md").touch()
    assert list(Repository(tmp_path).look()) == [("a", "1")]


def test_a_repository_that_cannot_be_read_is_not_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        Repository(tmp_path / "missing").look()


def add(folder: Path) -> None:
    (folder / "maps").mkdir()
    (folder / "maps" / "cls.onnx").touch()


def replace_file(folder: Path) -> None:
    """Another file of the same name, size and time."""
    file, found = folder / "model.onnx", (folder / "model.onnx").stat()
    (folder / "new").write_text("other")
    os.utime(folder / "new", ns=(found.st_atime_ns, found.st_mtime_ns))
    os.replace(folder / "new", file)


def write_in_place(folder: Path) -> None:
    file, found = folder / "model.onnx", (folder / "model.onnx").stat()
    file.write_text("other")
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns + 1))


def replace_folder(folder: Path) -> None:
    shutil.copytree(folder, folder.with_name("copy"))  # with the times of the files
    shutil.rmtree(folder)
    folder.with_name("copy").rename(folder)


@pytest.mark.parametrize(
    "change",
    [add, replace_file, write_in_place, replace_folder, lambda folder: (folder / "model.onnx").unlink()],
)
def test_every_change_is_seen_without_reading_a_file(tmp_path: Path, change: Callable[[Path], None]) -> None:
    write(tmp_path, "a/1", "a/2")
    repository = Repository(tmp_path)
    before = repository.look()
    assert repository.look() == before
    change(tmp_path / "a" / "1")
    after = repository.look()
    assert after[Place("a", "1")] != before[Place("a", "1")]
    assert after[Place("a", "2")] == before[Place("a", "2")]


def test_a_version_may_be_a_link_that_is_pointed_elsewhere(tmp_path: Path) -> None:
    write(tmp_path / "store", "old", "new")
    (tmp_path / "models" / "a").mkdir(parents=True)
    link = tmp_path / "models" / "a" / "1"
    link.symlink_to(tmp_path / "store" / "old")
    repository = Repository(tmp_path / "models")
    before = repository.look()
    assert list(before) == [("a", "1")]
    link.unlink()
    link.symlink_to(tmp_path / "store" / "new")
    assert repository.look() != before


def test_a_folder_that_may_not_be_read_is_no_model_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "a/1")
    (tmp_path / "lost+found").mkdir()
    scandir = os.scandir

    def guarded(path: Path) -> object:
        if Path(path).name == "lost+found":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    assert list(Repository(tmp_path).look()) == [("a", "1")]


def test_a_model_that_cannot_be_reached_for_a_moment_has_not_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "a/1")
    scandir = os.scandir

    def stale(path: Path) -> object:
        if Path(path).name == "a":
            raise OSError(116, "Stale file handle")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", stale)
    with pytest.raises(OSError, match="Stale"):
        Repository(tmp_path).look()


def test_a_copy_of_the_same_size_and_time_in_the_same_inode_is_another_content(tmp_path: Path) -> None:
    write(tmp_path, "a/1")
    path = tmp_path / "a" / "1" / "model.onnx"
    times = path.stat()
    before = Repository(tmp_path).look()
    path.write_text("other")  # in place: the inode stays
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (times.st_size, times.st_mtime_ns)
    assert Repository(tmp_path).look() != before
