"""A bundle is read only if it is exactly what its manifest says."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from service.bundle import BundleError, read


@pytest.fixture
def folder(repository: Path, tmp_path: Path) -> Path:
    """A sound bundle that may be broken."""
    return shutil.copytree(repository / "tiny-text" / "1", tmp_path / "1")


def change(folder: Path, **fields: Any) -> None:
    """Write other fields into the manifest."""
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def named(folder: Path) -> dict[str, str]:
    """What the manifest says of files."""
    files: dict[str, str] = json.loads((folder / "manifest.json").read_text())["files"]
    return files


def test_a_sound_bundle_is_read(folder: Path) -> None:
    manifest = read(folder)
    assert (manifest.name, manifest.version, manifest.family) == ("tiny-text", "1", "text")
    assert set(manifest.files) == {
        *("model.onnx", "tokenizer.json"),
        *("maps/cls.onnx", "maps/received.onnx", "maps/rollout.onnx", "maps/rollout-tuned.onnx"),
        *("maps/value_norm.onnx", "maps/attention.onnx", "maps/gradients.onnx", "maps/proof.onnx"),
    }


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "maps/cls.onnx"])
def test_a_changed_byte_is_noticed(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(BundleError, match=f"1: {name} does not match its checksum"):
        read(folder)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "maps/rollout.onnx"])
def test_a_missing_file_is_noticed(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"1: {name} is missing"):
        read(folder)


def test_a_missing_file_that_only_the_manifest_knows_is_noticed(folder: Path) -> None:
    change(folder, files=named(folder) | {"model.onnx.data": "0" * 64})
    with pytest.raises(BundleError, match=r"1: model.onnx.data is missing"):
        read(folder)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "maps/rollout.onnx"])
def test_a_needed_file_must_have_a_checksum(folder: Path, name: str) -> None:
    files = named(folder)
    del files[name]
    change(folder, files=files)
    with pytest.raises(BundleError, match=f"1: {name} is not named in the manifest"):
        read(folder)


@pytest.mark.parametrize("name", ["code.py", "maps/more.onnx", ".hidden"])
def test_a_file_that_is_not_named_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_text("import os")
    with pytest.raises(BundleError, match=f"1: {name} is not named in the manifest"):
        read(folder)


def test_a_linked_file_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.move(folder / "model.onnx", tmp_path / "elsewhere")
    (folder / "model.onnx").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match=r"model\.onnx is a link"):
        read(folder)


def test_a_linked_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.move(folder / "maps", tmp_path / "elsewhere")
    (folder / "maps").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(BundleError, match="maps is a link"):
        read(folder)


def test_a_pipe_is_refused_and_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    change(folder, files=named(folder) | {"pipe": "0" * 64})
    with pytest.raises(BundleError, match="pipe is a link or no plain file"):
        read(folder)


@pytest.mark.parametrize(
    "name", ["../1/model.onnx", "/etc/hostname", "maps/../../x", "a\\b", "manifest.json"]
)
def test_a_path_outside_the_bundle_is_refused(folder: Path, name: str) -> None:
    change(folder, files=named(folder) | {name: "0" * 64})
    with pytest.raises(BundleError, match=r"manifest.json: files: .* is not inside the bundle"):
        read(folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pickle", "model.pkl"),
        ("schema_version", 2),
        ("family", "sound"),
        ("name", "../up"),
        ("version", "one"),
        ("labels", []),
        ("precision", "fp64"),
        ("files", {"model.onnx": "abc"}),
    ],
)
def test_a_wrong_field_is_named(folder: Path, field: str, value: Any) -> None:
    change(folder, **{field: value})
    with pytest.raises(BundleError, match=f"1: manifest.json: {field}"):
        read(folder)


@pytest.mark.parametrize("field", ["files", "labels", "preprocessing", "maps", "parity"])
def test_a_missing_field_is_named(folder: Path, field: str) -> None:
    document = json.loads((folder / "manifest.json").read_text())
    del document[field]
    (folder / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(BundleError, match=f"1: manifest.json: {field}"):
        read(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"[" * 100_000])
def test_a_manifest_that_is_none_is_refused(folder: Path, content: bytes) -> None:
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"1: manifest.json"):
        read(folder)


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"manifest.json cannot be read: No such file"):
        read(tmp_path)


def map_with(folder: Path, **fields: Any) -> list[dict[str, Any]]:
    """The manifest's maps, the first of them changed."""
    first, *others = json.loads((folder / "manifest.json").read_text())["maps"]
    return [first | fields, *others]


@pytest.mark.parametrize(
    "fields",
    [
        {"heads": None},
        {"axes": ["token"]},
        {"axes": ["head", "frame", "token"]},
        {"kind": "grid"},
        {"default_layer": 9},
        {"layers": ["layers.0"]},
        {"outputs": ["cls.layers.0", "cls.layers.0"]},
        {"name": "rollout"},
    ],
)
def test_a_map_that_contradicts_itself_is_refused(folder: Path, fields: dict[str, Any]) -> None:
    change(folder, maps=map_with(folder, **fields))
    with pytest.raises(BundleError, match="map"):
        read(folder)


def test_preprocessing_of_another_family_is_refused(folder: Path) -> None:
    change(folder, family="video")
    with pytest.raises(BundleError, match="the family is video"):
        read(folder)


def test_parity_is_that_of_the_maps(folder: Path) -> None:
    parity = json.loads((folder / "manifest.json").read_text())["parity"]
    del parity["maps"]["cls"]
    change(folder, parity=parity)
    with pytest.raises(BundleError, match="parity is not that of the maps"):
        read(folder)
