"""Predictions that are kept: whose they are, and what becomes of them when their model goes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from service.app import create_app
from service.settings import Settings

TEXT = {"text": "fn main() {}"}
NAMES = ("anna", "ben")


def authorization(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer key of {name}"}


@pytest.fixture
def keyed(text_repository: Path) -> Iterator[TestClient]:
    """A server with a key for each of two clients."""
    keys = [
        {"name": name, "sha256": sha256(f"key of {name}".encode()).hexdigest(), "scopes": ["predict"]}
        for name in NAMES
    ]
    settings = Settings(models=text_repository, device="cpu", slots=1, api_keys=keys)
    with TestClient(create_app(settings)) as client:
        yield client


@pytest.fixture
def two_versions(text_repository: Path) -> Iterator[TestClient]:
    """The text model as version 1, and as version 2 with its labels the other way round."""
    folder = text_repository / "tiny-text"
    shutil.copytree(folder / "1", folder / "2")
    manifest = json.loads((folder / "2" / "manifest.json").read_text())
    manifest |= {"version": "2", "labels": manifest["labels"][::-1]}
    (folder / "2" / "manifest.json").write_text(json.dumps(manifest))
    with TestClient(create_app(Settings(models=text_repository, device="cpu", slots=1))) as client:
        yield client


def test_a_prediction_can_be_read_only_with_the_key_that_made_it(keyed: TestClient) -> None:
    anna, ben = map(authorization, NAMES)
    made = keyed.post("/v1/models/tiny-text/predict", json=TEXT | {"maps": ["cls"]}, headers=anna)
    prediction = f"/v1/predictions/{made.json()['id']}"
    for path in (prediction, f"{prediction}/0/maps/cls.npy", f"{prediction}/0/maps/received.svg"):
        assert keyed.get(path, headers=anna).status_code == 200
        others = keyed.get(path, headers=ben)
        never = keyed.get(path.replace(made.json()["id"], "01ARZ3NDEKTSV4RRFFQ69G5FAV"), headers=ben)
        assert others.status_code == never.status_code == 410
        assert others.json() == never.json()  # not even that it exists
        assert keyed.get(path).status_code == 401


def test_versions_are_served_side_by_side_and_the_latest_by_default(two_versions: TestClient) -> None:
    asked = {
        version: two_versions.post(f"/v1/models/tiny-text{version}/predict", json=TEXT).json()
        for version in ("", "/versions/1", "/versions/2")
    }
    assert [one["version"] for one in asked.values()] == ["2", "1", "2"]
    latest, first, second = (one["predictions"][0] for one in asked.values())
    assert latest == second
    assert first["score"] == second["score"]
    assert first["label"] != second["label"]
    assert two_versions.get("/v1/models/tiny-text").json()["version"] == "2"
    assert two_versions.get("/v1/models/tiny-text/versions/1").json()["version"] == "1"
    listed = two_versions.get("/v1/models").json()["models"]
    assert [(one["name"], one["version"], one["state"]) for one in listed] == [
        ("tiny-text", "1", "ready"),
        ("tiny-text", "2", "ready"),
    ]


@pytest.mark.parametrize("path", ["versions/3", "versions/x", "versions/01"])
def test_a_version_that_is_not_there_is_404_and_says_which_are(two_versions: TestClient, path: str) -> None:
    for response in (
        two_versions.get(f"/v1/models/tiny-text/{path}"),
        two_versions.post(f"/v1/models/tiny-text/{path}/predict", json=TEXT),
    ):
        assert response.status_code == 404
        assert response.json()["field"] == "version"
        assert "it has 1, 2" in response.json()["detail"]


def test_what_was_made_can_be_fetched_after_its_model_was_unloaded(
    two_versions: TestClient, text_repository: Path
) -> None:
    made = two_versions.post("/v1/models/tiny-text/predict", json=TEXT | {"maps": ["cls"]}).json()
    prediction = f"/v1/predictions/{made['id']}"
    before = {
        format: two_versions.get(f"{prediction}/0/maps/cls.{format}").content
        for format in ("npy", "svg", "html")
    }
    shutil.rmtree(text_repository / "tiny-text" / "2")
    assert two_versions.post("/v2/repository/models/tiny-text/load").status_code == 200
    assert two_versions.post("/v1/models/tiny-text/predict", json=TEXT).json()["version"] == "1"
    assert two_versions.get(prediction).json() == made
    for format, body in before.items():
        assert two_versions.get(f"{prediction}/0/maps/cls.{format}").content == body
    gone = two_versions.get(f"{prediction}/0/maps/rollout.npy")
    assert (gone.status_code, gone.json()["field"]) == (410, "map")
    assert "tiny-text/2" in gone.json()["detail"]
