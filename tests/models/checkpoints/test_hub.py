"""Models come from the hub with the files that are needed; what goes wrong there is one line, soon."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from models.checkpoints import hub
from models.checkpoints.checkpoint import CheckpointError
from models.checkpoints.source import open_source

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """As much of the hub as its client asks for a model, from files in memory."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.files: dict[str, bytes] = {}
        self.fetched: list[str] = []
        self.refusal: tuple[int, str] | None = None
        self.refused = "/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients may hang up


class Answer(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if self.server.refusal is not None and path.startswith(self.server.refused):
            status, code = self.server.refusal
            self.answer(b'{"error": "no"}', status, {"X-Error-Code": code, "X-Error-Message": "no"})
        elif path in ("/api/models/acme/tiny", "/api/models/acme/tiny/revision/main"):
            self.answer(json.dumps({"id": "acme/tiny", "sha": COMMIT, "siblings": []}).encode())
        elif path == f"/api/models/acme/tiny/tree/{COMMIT}":
            files = self.server.files.items()
            tree = [
                {"type": "file", "path": name, "size": len(data), "oid": f"{hash(name):x}"}
                for name, data in files
            ]
            self.answer(json.dumps(tree).encode())
        elif (name := path.removeprefix(f"/acme/tiny/resolve/{COMMIT}/")) in self.server.files:
            if self.command == "GET":
                self.server.fetched.append(name)
            self.answer(self.server.files[name], 200, {"X-Repo-Commit": COMMIT, "ETag": f'"{hash(name):x}"'})
        else:
            self.answer(b'{"error": "no"}', 404, {"X-Error-Code": "RepoNotFound"})

    def answer(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache, no credentials, no progress bars."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.delenv("HF_TOKEN", raising=False)


def point_to(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub with one model, acme/tiny."""
    save_file({"a": torch.ones(2)}, tmp_path / "w")
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        server.files = {
            "config.json": b'{"model_type": "bert"}',
            "tokenizer.json": b"{}",
            "vocab.txt": b"a",
            "model.safetensors": (tmp_path / "w").read_bytes(),
            "pytorch_model.bin": b"other",
            "model.fp16.safetensors": b"other",
            "tf_model.h5": b"other",
            "README.md": b"other",
            "modeling_tiny.py": b"other",
            "onnx/config.json": b"other",
            "onnx/model.safetensors": b"other",
        }
        point_to(monkeypatch, f"http://127.0.0.1:{server.server_port}")
        yield server
        server.shutdown()
        thread.join()


def test_the_files_that_are_needed_are_fetched_and_no_others(served: Hub) -> None:
    found = open_source("acme/tiny")
    assert sorted(served.fetched) == ["config.json", "model.safetensors", "tokenizer.json", "vocab.txt"]
    assert found.name == f"acme/tiny@{COMMIT}"
    assert found.config == {"model_type": "bert"}
    assert torch.equal(found.state["a"], torch.ones(2))


def test_pickles_are_fetched_where_there_is_nothing_else(served: Hub) -> None:
    del served.files["model.safetensors"]
    hub.download("acme/tiny")
    assert sorted(served.fetched) == ["config.json", "pytorch_model.bin", "tokenizer.json", "vocab.txt"]


def test_a_model_without_weights_is_refused(served: Hub) -> None:
    del served.files["model.safetensors"], served.files["pytorch_model.bin"]
    with pytest.raises(CheckpointError, match="no weights"):
        open_source("acme/tiny")


def test_a_model_that_was_fetched_is_there_without_the_hub(
    served: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    online = open_source("acme/tiny")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    offline = open_source("acme/tiny")
    assert (offline.name, offline.weights) == (online.name, online.weights)


def refused_soon(name: str, message: str) -> None:
    start = time.monotonic()
    with pytest.raises(CheckpointError, match=message) as refusal:
        open_source(name)
    assert time.monotonic() - start < 30
    assert str(refusal.value).startswith(f"{name}: no such folder, and ")
    assert str(refusal.value).isprintable()


def test_no_hub_is_refused_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    point_to(monkeypatch, "http://127.0.0.1:9")
    refused_soon("acme/tiny", r"the hub did not give it \(ConnectError: .*refused\)$")


def test_offline_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused_soon("acme/tiny", "no copy of it is kept here while HF_HUB_OFFLINE keeps the hub away$")


def test_an_unknown_model_is_refused_by_name(served: Hub) -> None:
    refused_soon("acme/gone", "the hub has no such model, or a private one$")


def test_a_hub_that_never_answers_is_refused_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        point_to(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}")
        refused_soon("acme/tiny", r"the hub did not give it \(ReadTimeout: ")


@pytest.mark.parametrize(
    ("refused", "refusal", "message"),
    [
        ("/", (403, "GatedRepo"), "it is gated: accept its terms there and log in$"),
        ("/", (401, "RepoNotFound"), "the hub has no such model, or a private one$"),
        ("/", (500, ""), "the hub did not give it"),
        ("/acme", (403, "GatedRepo"), "it is gated: accept its terms there and log in$"),
    ],
)
def test_what_the_hub_refuses_is_refused_with_its_reason(
    served: Hub, refused: str, refusal: tuple[int, str], message: str
) -> None:
    """Of the model and of its files alone, as where terms have to be accepted."""
    served.refusal, served.refused = refusal, refused
    refused_soon("acme/tiny", message)


@pytest.mark.parametrize("name", ["a--b/c", "-a/b", "a/b.git", "a/" + "b" * 200])
def test_a_name_that_cannot_be_an_id_is_refused(name: str) -> None:
    refused_soon(name, "HFValidationError")
