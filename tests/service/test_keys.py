"""Keys close what they should, before a body is read, and appear nowhere."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from starlette.types import Message, Scope

from service.app import create_app
from service.keys import Keys, needed_scope
from service.settings import Settings

PREDICT = "/v1/models/tiny-text/predict"
SECRETS = {
    "reader": "reader-secret",
    "other": "other-secret",
    "chief": "chief-secret",
    "both": "both-secret",
}
SCOPES = {"reader": ["predict"], "other": ["predict"], "chief": ["admin"], "both": ["predict", "admin"]}
KEYS = [
    {"name": name, "sha256": hashlib.sha256(secret.encode()).hexdigest(), "scopes": SCOPES[name]}
    for name, secret in SECRETS.items()
]


@pytest.fixture(scope="module")
def closed(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A server with keys."""
    root = tmp_path_factory.mktemp("models")
    (root / "tiny-text").symlink_to(repository / "tiny-text")
    settings = Settings(models=root, device="cpu", slots=1, api_keys=KEYS)
    with TestClient(create_app(settings)) as client:
        yield client


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {SECRETS[name]}"}


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/openapi.json", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"]
)
def test_some_paths_are_open(closed: TestClient, path: str) -> None:
    assert closed.get(path).status_code not in (401, 403)


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", PREDICT, "predict"),
        ("GET", "/v1/models", "predict"),
        ("GET", "/v1/predictions/01M7WX87WV9AAXMJFC7HTHKGAK", "predict"),
        ("GET", "/v2", "predict"),
        ("GET", "/v2/models/tiny-text", "predict"),
        ("POST", "/v2/models/tiny-text/infer", "predict"),
        ("GET", "/v2/models/stats", "predict"),
        ("POST", "/v2/repository/index", "predict"),
        ("GET", "/what/comes/later", "predict"),
        ("GET", "/metrics", "admin"),
        ("POST", "/v2/repository/models/nothing/load", "admin"),
        ("POST", "/v2/repository/models/nothing/unload", "admin"),
    ],
)
def test_others_need_a_key_with_the_scope(closed: TestClient, method: str, path: str, scope: str) -> None:
    allowed = {"predict": ["reader", "both"], "admin": ["chief", "both"]}[scope]
    for name in SECRETS:
        status = closed.request(method, path, headers=bearer(name)).status_code
        assert (status == 403) == (name not in {*allowed, *(["other"] if scope == "predict" else [])}), name
    for headers in ({}, {"authorization": "Bearer nobody's"}):
        response = closed.request(method, path, headers=headers)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["x-request-id"]
        body = response.json()
        if path.startswith("/v2"):
            assert list(body) == ["error"]
        else:
            assert (body["status"], body["field"]) == (401, "authorization")


@pytest.mark.parametrize(
    "path", ["/metrics/", "/v2/repository/models/a/b/load", "/v2/repository/models/x/load/"]
)
def test_a_path_that_is_nearly_an_administrators_is_one(path: str) -> None:
    assert needed_scope(path) == "admin"


@pytest.mark.parametrize(
    "path", ["/healthz/", "/docsx", "//", "/v2/healthy", "/openapi.json\n", "/v2/health"]
)
def test_a_path_that_is_nearly_open_is_not(path: str) -> None:
    assert needed_scope(path) == "predict"


@pytest.mark.parametrize(
    "header",
    [
        "reader-secret",
        "Basic reader-secret",
        "Bearer",
        "Bearer ",
        "Bearer reader-secre",
        "Bearer \xff\xfe",
        "",
    ],
)
def test_what_is_no_known_key_is_refused(closed: TestClient, header: str) -> None:
    response = closed.get("/v1/models", headers={"authorization": header.encode("latin-1")})
    assert response.status_code == 401


def test_the_word_bearer_may_be_written_in_any_case(closed: TestClient) -> None:
    assert closed.get("/v1/models", headers={"authorization": "bearer reader-secret"}).status_code == 200


def predict(client: TestClient, name: str) -> Any:
    response = client.post(PREDICT, json={"text": "a", "maps": ["cls"]}, headers=bearer(name))
    assert response.status_code == 200, response.text
    return response.json()


def test_a_prediction_and_its_maps_are_read_with_the_key_that_made_it_alone(closed: TestClient) -> None:
    answer = predict(closed, "reader")
    paths = [f"/v1/predictions/{answer['id']}", *answer["predictions"][0]["maps"][0]["links"].values()]

    def statuses(name: str) -> set[int]:
        return {closed.get(path, headers=bearer(name)).status_code for path in paths}

    assert statuses("reader") == {200}
    assert statuses("other") == statuses("both") == {410}
    unknown = closed.get("/v1/predictions/01M7WX87WV9AAXMJFC7HTHKGAK", headers=bearer("other"))
    assert unknown.json() == closed.get(paths[0], headers=bearer("other")).json()


def test_keys_and_their_hashes_are_never_shown(closed: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    answers: list[httpx2.Response] = []
    for secret in (*SECRETS.values(), "guessed-secret"):
        for path in ("/v1/models", "/metrics", "/nothing", "/v2/models/x"):
            answers.append(closed.get(path, headers={"authorization": f"Bearer {secret}"}))
    shown = caplog.text + "".join(answer.text + repr(answer.headers) for answer in answers)
    shown += repr(closed.app.state.inference.settings)  # type: ignore[attr-defined]
    for hidden in (*SECRETS.values(), "guessed-secret", *(key["sha256"] for key in KEYS)):
        assert str(hidden) not in shown


async def refuse_to_receive() -> Message:
    raise AssertionError("nothing may be read")


async def call(keys: Any, *headers: tuple[bytes, bytes]) -> tuple[int, list[Scope]]:
    """The status of a request through the middleware, and the scopes that got past it."""
    passed: list[Scope] = []
    sent: list[Message] = []

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        passed.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": PREDICT, "headers": list(headers)}
    await Keys(app, keys=keys)(scope, refuse_to_receive, send)
    return sent[0]["status"], passed


@pytest.mark.anyio
async def test_a_refusal_reads_nothing_and_a_client_has_a_name() -> None:
    keys = Settings(api_keys=KEYS).api_keys
    assert await call(keys) == (401, [])
    assert await call(keys, (b"authorization", b"Bearer chief-secret")) == (403, [])
    status, (scope,) = await call(keys, (b"authorization", b"Bearer reader-secret"))
    assert (status, scope["state"]["client"]) == (200, "reader")


@pytest.mark.anyio
async def test_without_keys_everybody_is_let_in_and_nobody_has_a_name() -> None:
    status, (scope,) = await call(())
    assert (status, scope["state"]["client"]) == (200, None)


@pytest.mark.anyio
async def test_every_key_is_compared_whichever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare(first: bytes, second: bytes) -> bool:
        compared.append(second)
        return first == second

    monkeypatch.setattr("service.keys.hmac.compare_digest", compare)
    for secret in ("reader-secret", "both-secret", "nobody's"):
        compared.clear()
        await call(Settings(api_keys=KEYS).api_keys, (b"authorization", f"Bearer {secret}".encode()))
        assert len(compared) == len(KEYS)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
