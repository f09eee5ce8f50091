"""Maps are kept by clients and asked for again without being drawn again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from service import predictions
from service.app import create_app
from service.routes import caching
from service.settings import Settings

TEXT = {"text": "fn main() { println!(); }", "maps": ["cls"]}


@pytest.fixture
def url(client: TestClient) -> str:
    """Where the maps of a prediction are."""
    made = client.post("/v1/models/tiny-text/predict", json=TEXT)
    return f"/v1/predictions/{made.json()['id']}/0/maps"


@pytest.mark.parametrize(
    "path", ["cls.svg", "cls.html?theme=dark", "cls.json", "cls.npy?layer=all", "rollout.svg"]
)
def test_what_a_client_has_is_not_drawn_again(
    client: TestClient, url: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = client.get(f"{url}/{path}")
    tag = first.headers["etag"]
    assert first.status_code == 200
    assert first.headers["cache-control"] == "private, max-age=900"
    assert first.headers["vary"] == "authorization"
    monkeypatch.setattr(predictions, "_draw", None)
    for given in (tag, f'"other", {tag}', f"W/{tag}"):
        again = client.get(f"{url}/{path}", headers={"if-none-match": given})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        for name in ("cache-control", "content-security-policy"):  # a browser takes over those of a 304
            assert again.headers[name] == first.headers[name]


@pytest.mark.parametrize("given", ['"other"', "*", "", "cls", '"'])
def test_what_a_client_does_not_have_is_sent(client: TestClient, url: str, given: str) -> None:
    first = client.get(f"{url}/cls.svg")
    again = client.get(f"{url}/cls.svg", headers={"if-none-match": given})
    assert (again.status_code, again.content) == (200, first.content)


def test_everything_that_changes_the_bytes_changes_the_tag(
    client: TestClient, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [
        f"{name}{query}"
        for name in ("cls.svg", "cls.html", "cls.json", "rollout.svg")
        for query in ("", "?special=hide", "?words=true", "?mass=0.5", "?mass=0.6", "?top=3")
    ]
    paths += ["cls.svg?layer=0", "cls.svg?head=0", "cls.svg?scale=mass", "cls.svg?colormap=viridis"]
    paths += ["cls.svg?theme=dark", "cls.png?size=300", "cls.png?layer=all"]
    tags = [client.get(f"{url}/{path}").headers["etag"] for path in paths]
    assert len(set(tags)) == len(paths)
    assert client.get(f"{url}/cls.svg").headers["etag"] == tags[0]
    other = client.post("/v1/models/tiny-text/predict", json=TEXT).json()["id"]
    assert client.get(f"/v1/predictions/{other}/0/maps/cls.svg").headers["etag"] not in tags
    monkeypatch.setattr(caching, "release", lambda: "99.0")
    assert client.get(f"{url}/cls.svg").headers["etag"] not in tags


def test_errors_are_not_to_be_kept(client: TestClient, url: str) -> None:
    tag = client.get(f"{url}/cls.svg").headers["etag"]
    for path in ("cls.svg?layer=99", "cls.gif", "nothing.svg", "cls.svg?top=0"):
        refused = client.get(f"{url}/{path}", headers={"if-none-match": tag})
        assert refused.status_code in (400, 404)
        assert not {"etag", "cache-control"} & set(refused.headers)
    beyond = client.get(url.replace("/0/maps", "/7/maps") + "/cls.svg", headers={"if-none-match": tag})
    assert (beyond.status_code, beyond.json()["field"]) == (404, "item")


@pytest.fixture
def forgetful(text_repository: Path) -> Iterator[TestClient]:
    """A server that has room for about one prediction."""
    with TestClient(
        create_app(Settings(models=text_repository, device="cpu", slots=1, store_bytes=8000))
    ) as client:
        yield client


def test_a_prediction_that_is_gone_is_gone_whatever_the_client_has(forgetful: TestClient) -> None:
    made = forgetful.post("/v1/models/tiny-text/predict", json=TEXT).json()["id"]
    path = f"/v1/predictions/{made}/0/maps/cls.svg"
    tag = forgetful.get(path).headers["etag"]
    assert forgetful.get(path, headers={"if-none-match": tag}).status_code == 304
    for _ in range(3):
        forgetful.post("/v1/models/tiny-text/predict", json=TEXT)
    gone = forgetful.get(path, headers={"if-none-match": tag})
    assert (gone.status_code, gone.json()["field"]) == (410, "id")
