"""The model repository: what is served, and what is refused and why."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import Any, cast

import pytest
from fastapi.testclient import TestClient

from service.app import create_app
from service.bundle import BundleError
from service.errors import NotFound
from service.registry import Registry
from service.settings import Settings


class Model:
    """Stands for a predictor: its folder's name and version."""

    def __init__(self, folder: Path, **manifest: Any) -> None:
        named = {"name": folder.parent.name, "version": folder.name, **manifest}
        self.manifest = type("Manifest", (), named)
        self.warm = False

    def warm_up(self) -> None:
        self.warm = True


def repository_of(root: Path, *places: str) -> Path:
    """Folders that look like bundles from outside."""
    for place in places:
        (root / place).mkdir(parents=True)
        (root / place / "manifest.json").touch()
    return root


def loaded(root: Path, load: Any = Model) -> Registry:
    registry = Registry(load)
    registry.load(root)
    return registry


def served(registry: Registry) -> list[str]:
    return [f"{one.manifest.name}/{one.manifest.version}" for one in registry.all()]


def test_the_newest_version_of_each_model_is_served(tmp_path: Path) -> None:
    root = repository_of(tmp_path, "a/1", "a/2", "a/10", "b/9")
    assert served(loaded(root)) == ["a/10", "b/9"]


def test_hidden_and_half_written_folders_are_no_models(tmp_path: Path) -> None:
    repository_of(tmp_path, "a/1", ".export-x1/maps", ".hidden/1", "a/.2", "a/next", "a/-3", "a/1.5")
    (tmp_path / "a" / "7").mkdir()  # no manifest yet
    (tmp_path / ".export-x1" / "manifest.json").touch()
    (tmp_path / "README.md").touch()
    registry = loaded(tmp_path)
    assert served(registry) == ["a/1"]
    assert registry.refusals == []


def test_models_are_warmed_up_before_they_are_served(tmp_path: Path) -> None:
    registry = loaded(repository_of(tmp_path, "a/1"))
    assert cast("Any", registry.get("a")).warm
    assert registry.ready


def test_a_repository_without_a_model_is_an_error(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "missing"):
        with pytest.raises(BundleError, match="holds no model"):
            loaded(root)


def test_a_broken_bundle_is_refused_and_the_others_serve(tmp_path: Path) -> None:
    def load(folder: Path) -> Model:
        if folder.parent.name == "b":
            raise BundleError("1: model.onnx is missing")
        return Model(folder)

    registry = loaded(repository_of(tmp_path, "a/1", "b/1", "c/1"), load)
    assert served(registry) == ["a/1", "c/1"]
    ((name, version, reason),) = [(one.name, one.version, one.reason) for one in registry.refusals]
    assert (name, version, reason) == ("b", "1", "1: model.onnx is missing")
    assert not registry.ready


def test_a_librarys_words_go_to_the_log_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def load(folder: Path) -> Model:
        raise RuntimeError(f"cannot parse {folder}")

    with caplog.at_level(logging.ERROR):
        registry = loaded(repository_of(tmp_path, "a/1"), load)
    assert str(tmp_path) not in registry.refusals[0].reason
    assert "RuntimeError" in registry.refusals[0].reason
    assert f"cannot parse {tmp_path}" in caplog.text


@pytest.mark.parametrize("manifest", [{"name": "b"}, {"version": "2"}])
def test_a_bundle_in_another_ones_place_is_refused(tmp_path: Path, manifest: dict[str, str]) -> None:
    registry = loaded(repository_of(tmp_path, "a/1"), lambda folder: Model(folder, **manifest))
    assert served(registry) == []
    assert registry.refusals[0].reason.startswith("the manifest says ")


def test_an_unknown_model_is_named_beside_those_that_are_served(tmp_path: Path) -> None:
    registry = loaded(repository_of(tmp_path, "a/1", "b/1"))
    with pytest.raises(NotFound, match="no model 'c'; served: a, b") as caught:
        registry.get("c")
    assert caught.value.field == "model"


def rewrite(folder: Path, name: str, content: bytes) -> None:
    """Change a file of a bundle and its checksum with it."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = hashlib.sha256(content).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_refusals_are_told_over_http_with_no_word_of_the_machine(
    text_repository: Path, tmp_path: Path
) -> None:
    def bundle(name: str) -> Path:
        return shutil.copytree(text_repository / "tiny-text" / "1", text_repository / name / "1")

    (bundle("changed") / "tokenizer.json").write_text("{}")
    rewrite(bundle("garbage"), "model.onnx", b"garbage")
    rewrite(bundle("wordless"), "tokenizer.json", b"{}")
    bundle("renamed")
    with TestClient(create_app(Settings(models=text_repository, device="cpu", slots=1))) as client:
        models = {model["name"]: model for model in client.get("/v1/models").json()["models"]}
        assert {name: model["state"] for name, model in models.items()} == {
            "tiny-text": "ready",
            **dict.fromkeys(["changed", "garbage", "wordless", "renamed"], "refused"),
        }
        assert models["changed"]["reason"] == "1: tokenizer.json does not match its checksum"
        assert models["renamed"]["reason"] == "the manifest says tiny-text/1"
        assert "the bundle cannot be loaded" in models["garbage"]["reason"]
        assert str(tmp_path) not in client.get("/v1/models").text
        assert client.get("/readyz").status_code == 503
        assert client.post("/v1/models/garbage/predict", json={"text": "a"}).status_code == 404
        assert client.post("/v1/models/tiny-text/predict", json={"text": "a"}).status_code == 200
