"""The application: its life, its limits on bodies, and one shape for every error."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.app import create_app
from service.bundle import BundleError
from service.errors import Overloaded
from service.settings import Settings

ROOT = Path(__file__).parents[2]
PROBLEM = "application/problem+json"
PREDICT = "/v1/models/tiny-text/predict"


def test_the_process_is_alive_and_ready(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready"}


def test_it_is_not_ready_before_its_models_are_loaded(settings: Settings) -> None:
    client = TestClient(create_app(settings))
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 503


def test_it_does_not_start_without_a_model(tmp_path: Path) -> None:
    with (
        pytest.raises(BundleError, match="holds no model"),
        TestClient(create_app(Settings(models=tmp_path))),
    ):
        pass


def test_two_applications_live_side_by_side(text_repository: Path, client: TestClient) -> None:
    with TestClient(create_app(Settings(models=text_repository, device="cpu", slots=1))) as other:
        key = other.post(PREDICT, json={"text": "a"}).json()["id"]
        assert other.get(f"/v1/predictions/{key}").status_code == 200
        assert client.get(f"/v1/predictions/{key}").status_code == 410
    assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "title"),
    [
        ("GET", "/nothing", 404, "Not Found"),
        ("GET", "/v1/models/tiny-text/predict", 405, "Method Not Allowed"),
        ("DELETE", "/v1/models", 405, "Method Not Allowed"),
    ],
)
def test_unknown_paths_and_methods_have_the_shape_of_a_problem(
    client: TestClient, method: str, path: str, status: int, title: str
) -> None:
    response = client.request(method, path)
    assert response.status_code == status
    assert response.headers["content-type"] == PROBLEM
    assert response.json()["title"] == title
    assert response.json()["status"] == status


@pytest.mark.parametrize("path", ["/healthz", "/v1/models", "/nothing", "/openapi.json"])
def test_browsers_guess_no_content_type(client: TestClient, path: str) -> None:
    assert client.get(path).headers["x-content-type-options"] == "nosniff"


def test_the_openapi_document_names_every_endpoint_and_option(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    predict = "/v1/models/{name}/predict"
    drawn = "/v1/predictions/{id}/{item}/maps/{map}.{format}"
    assert {path for path in paths if not path.startswith("/v2")} == {
        *("/healthz", "/readyz", "/metrics", "/v1/models", "/v1/models/{name}", predict),
        *("/v1/models/{name}/versions/{version}", "/v1/models/{name}/versions/{version}/predict"),
        *("/v1/predictions/{id}", "/v1/predictions/{id}/{item}/input.webp", drawn),
    }
    options = {one["name"] for one in paths[predict]["post"]["parameters"]}
    assert {"top_k", "maps", "layers", "heads", "target", "inline"} <= options
    assert {"layer", "head", "target", "frame", "size"} <= {
        one["name"] for one in paths[drawn]["get"]["parameters"]
    }


def test_a_fault_of_ours_is_logged_and_not_shown(
    client: TestClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(jobs: Any) -> Any:
        raise RuntimeError("secret of /etc/passwd")

    predictor = client.app.state.inference.registry.get("tiny-text")  # type: ignore[attr-defined]
    monkeypatch.setattr(predictor, "run", run)
    response = client.post(PREDICT, json={"text": "a"})
    assert response.status_code == 500
    assert response.headers["content-type"] == PROBLEM
    assert response.json() == {
        "type": "about:blank",
        "title": "Internal Server Error",
        "status": 500,
        "detail": "the server failed on this request; its log says why",
    }
    assert "secret of /etc/passwd" in caplog.text
    monkeypatch.undo()
    assert client.post(PREDICT, json={"text": "a"}).status_code == 200


def test_a_full_queue_says_when_to_come_again(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    async def submit(runner: Any, jobs: Any) -> Any:
        raise Overloaded("the queue is full", field="queue", limit=256)

    monkeypatch.setattr(client.app.state.inference.scheduler, "submit", submit)  # type: ignore[attr-defined]
    response = client.post(PREDICT, json={"text": "a"})
    assert response.status_code == 503
    assert response.headers["content-type"] == PROBLEM
    assert response.headers["retry-after"] == "1"
    assert (response.json()["field"], response.json()["limit"]) == ("queue", 256)
    monkeypatch.undo()
    assert client.post(PREDICT, json={"text": "a"}).status_code == 200


class Client:
    """Sends a body piece by piece, and counts how much of it is taken."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self.pieces = pieces
        self.taken = 0
        self.sent: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        self.taken += 1
        piece = next(self.pieces, None)
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    async def post(self, app: Any, headers: list[tuple[bytes, bytes]]) -> int:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "path": PREDICT,
            "raw_path": PREDICT.encode(),
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "headers": [(b"content-type", b"application/json"), *headers],
            "client": ("test", 1),
            "server": ("test", 1),
        }
        async with asyncio.timeout(20):
            await app(scope, self.receive, self.send)
        status: int = self.sent[0]["status"]
        return status


def endless() -> Iterator[bytes]:
    """Far more than any limit here."""
    return itertools.repeat(b" " * 1000, 10_000)


def post(client: TestClient, sender: Client, *headers: tuple[bytes, bytes]) -> int:
    """Send in the application's own event loop."""
    assert client.portal is not None
    return client.portal.call(sender.post, client.app, list(headers))


def assert_too_large(sender: Client, settings: Settings) -> None:
    body = b"".join(message.get("body", b"") for message in sender.sent)
    assert b'"field":"body"' in body
    assert b'"limit":%d' % settings.max_body_bytes in body
    assert dict(sender.sent[0]["headers"])[b"content-type"] == PROBLEM.encode()


def test_a_body_over_the_limit_by_its_length_is_refused_before_it_is_read(
    client: TestClient, settings: Settings
) -> None:
    sender = Client(endless())
    assert post(client, sender, (b"content-length", b"%d" % (settings.max_body_bytes + 1))) == 413
    assert sender.taken == 0
    assert_too_large(sender, settings)
    assert client.post(PREDICT, json={"text": "a"}).status_code == 200


def test_a_body_without_a_length_is_read_up_to_the_limit(client: TestClient, settings: Settings) -> None:
    sender = Client(endless())
    assert post(client, sender, (b"transfer-encoding", b"chunked")) == 413
    assert sender.taken == settings.max_body_bytes // 1000 + 1
    assert_too_large(sender, settings)
    assert client.post(PREDICT, json={"text": "a"}).status_code == 200


def test_a_length_that_lies_does_not_help(client: TestClient, settings: Settings) -> None:
    sender = Client(endless())
    assert post(client, sender, (b"content-length", b"10")) == 413
    assert sender.taken <= settings.max_body_bytes // 1000 + 1


def test_a_body_at_the_limit_is_read(client: TestClient, settings: Settings) -> None:
    body = b'{"text": "a"}'.ljust(settings.max_body_bytes)
    assert client.post(PREDICT, content=body, headers={"content-type": "application/json"}).status_code == 200


def test_a_client_who_leaves_while_sending_leaves_the_service_as_it_was(client: TestClient) -> None:
    class Leaving(Client):
        async def receive(self) -> dict[str, Any]:
            piece = next(self.pieces, None)
            if piece is None:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": piece, "more_body": True}

    assert post(client, Leaving(iter([b'{"te', b'xt"']))) == 499
    assert client.post(PREDICT, json={"text": "a"}).status_code == 200
    assert "waiting=0" in repr(client.app.state.inference.scheduler)  # type: ignore[attr-defined]


def test_a_service_process_never_loads_torch(text_repository: Path) -> None:
    script = f"""
import sys
from importlib.metadata import entry_points
import typer
import service.app, service.__main__
from service.settings import Settings
from fastapi.testclient import TestClient

for entry in entry_points(group="regard.commands"):
    entry.load()(typer.Typer(), None)
with TestClient(service.app.create_app(Settings(models={str(text_repository)!r}, slots=1))) as client:
    answer = client.post("{PREDICT}", json={{"text": "a", "maps": ["cls"]}}).json()
    assert client.get(answer["predictions"][0]["maps"][0]["links"]["html"]).status_code == 200
print(*sorted({{"torch", "onnx", "onnxscript", "models"}} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
