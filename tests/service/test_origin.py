"""A page of another site cannot make a browser change anything; everybody else is let through."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from service.app import create_app
from service.settings import Settings

PREDICT = "/v1/models/tiny-text/predict"
TRUSTED = "https://trusted.example"


@pytest.fixture(scope="module")
def sharing(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    """A server that trusts one origin; it is not started, for nothing has to be predicted."""
    root = tmp_path_factory.mktemp("models")
    (root / "tiny-text").symlink_to(repository / "tiny-text")
    settings = Settings(models=root, device="cpu", slots=1, cors_origins=[TRUSTED])
    return TestClient(create_app(settings))


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({}, False),
        ({"origin": "http://testserver"}, False),
        ({"origin": "https://testserver"}, False),
        ({"origin": "http://testserver:81"}, True),
        ({"origin": "https://evil.example"}, True),
        ({"origin": "null"}, True),
        ({"origin": TRUSTED}, False),
        ({"origin": TRUSTED, "sec-fetch-site": "cross-site"}, False),
        ({"origin": f"{TRUSTED}.evil.example"}, True),
        ({"sec-fetch-site": "cross-site"}, True),
        ({"sec-fetch-site": "same-site"}, True),
        ({"sec-fetch-site": "same-origin"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"origin": "https://outside.example", "sec-fetch-site": "same-origin"}, False),  # behind a proxy
        ({"origin": "http://[half"}, True),
    ],
)
def test_a_post_of_another_sites_page_is_refused(
    sharing: TestClient, headers: dict[str, str], refused: bool
) -> None:
    response = sharing.post("/v1/models/nothing/predict", content=b"a", headers=headers)
    assert response.status_code == (403 if refused else 404)
    if refused:
        assert response.json()["field"] == "origin"
        assert response.headers["content-type"] == "application/problem+json"
    response = sharing.post("/v2/models/nothing/infer", content=b"a", headers=headers)
    assert (response.status_code, list(response.json())) == (403 if refused else 404, ["error"])


def test_reading_is_no_change(sharing: TestClient) -> None:
    assert sharing.get("/v1/models", headers={"origin": "https://evil.example"}).status_code == 200


def test_by_default_no_page_of_another_origin_may_read(client: TestClient) -> None:
    response = client.get("/v1/models", headers={"origin": TRUSTED})
    assert "access-control-allow-origin" not in response.headers
    asked = {"origin": TRUSTED, "access-control-request-method": "POST"}
    assert client.options(PREDICT, headers=asked).status_code == 405


def test_pages_of_a_trusted_origin_may_ask_and_read(sharing: TestClient) -> None:
    asked = {
        "origin": TRUSTED,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }
    response = sharing.options(PREDICT, headers=asked)
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == TRUSTED
    response = sharing.get("/v1/models", headers={"origin": TRUSTED})
    assert response.headers["access-control-allow-origin"] == TRUSTED
    shown = response.headers["access-control-expose-headers"].split(", ")
    assert {"x-map-axes", "x-request-id"} <= set(shown)
    refused = sharing.options(PREDICT, headers=asked | {"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in refused.headers
