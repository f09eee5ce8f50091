"""The page's files: what they are served as, what the page may do, and that nothing else is served."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

import service
from service.app import create_app
from service.keys import make_key
from service.settings import Settings

UI = Path(service.__file__).parent / "ui"
FILES = sorted(path.relative_to(UI).as_posix() for path in UI.rglob("*") if path.is_file())
MODULES = {name for name in FILES if name.endswith(".js")}
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".rs": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
    ".mp4": "video/mp4",
}
PAGE = (UI / "index.html").read_text()


def test_the_page_may_load_from_its_own_server_alone(client: TestClient) -> None:
    response = client.get("/")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    given = response.headers["content-security-policy"]
    policy = dict(part.partition(" ")[::2] for part in given.split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["trusted-types"] == "'none'"
    assert "unsafe" not in given


@pytest.mark.parametrize("path", ["/ui/app.js", "/ui/style.css", "/v1/models"])
def test_no_other_answer_may_load_anything(client: TestClient, path: str) -> None:
    assert "script-src" not in client.get(path).headers["content-security-policy"]


@pytest.mark.parametrize("name", FILES)
def test_a_file_has_its_type_and_is_asked_for_by_its_tag(client: TestClient, name: str) -> None:
    response = client.get(f"/ui/{name}")
    assert response.content == (UI / name).read_bytes()
    kind = response.headers["content-type"]
    assert kind == TYPES.get(Path(name).suffix, kind)
    assert response.headers["cache-control"] == "no-cache"
    again = client.get(f"/ui/{name}", headers={"if-none-match": response.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["cache-control"] == "no-cache"


def test_colours_are_asked_for_by_their_tag(client: TestClient) -> None:
    response = client.get("/ui/colors.json")
    again = client.get("/ui/colors.json", headers={"if-none-match": response.headers["etag"]})
    assert again.status_code == 304
    assert len(response.content) < 60_000


@pytest.mark.parametrize(
    "path",
    ["/ui/../keys.py", "/ui/%2e%2e/keys.py", "/ui/..%2fkeys.py", "/ui//etc/passwd", "/ui/", "/ui/no.js"],
)
def test_what_lies_elsewhere_is_not_there(client: TestClient, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"


def test_the_page_needs_no_key_but_what_it_asks_does(settings: Settings) -> None:
    _, key = make_key("reader", ["predict"])
    with TestClient(create_app(settings.model_copy(update={"api_keys": [key]}))) as client:
        assert client.get("/").status_code == 200
        assert client.get("/ui/app.js").status_code == 200
        assert client.get("/ui/colors.json").status_code == 200
        assert client.get("/v1/models").status_code == 401


def test_every_module_is_fetched_at_once() -> None:
    """Else a browser finds them one behind the other, which takes a second."""
    named = re.findall(r'(?:modulepreload" href|module" src)="/ui/([^"]+)"', PAGE)
    assert sorted(named) == sorted(MODULES)


def test_every_module_is_checked_and_of_readable_length() -> None:
    for name in MODULES:
        text = (UI / name).read_text()
        assert text.startswith("// @ts-check\n/** "), name
        assert len(text.splitlines()) <= 300, name
        assert "innerHTML" not in text, name


def test_the_page_names_no_other_host() -> None:
    for name in [*MODULES, "index.html", "style.css"]:
        found = re.findall(r"https?://(?!www\.w3\.org/)\S+", (UI / name).read_text())
        assert found == [], name


def test_every_example_is_there_and_each_family_has_one() -> None:
    examples = json.loads((UI / "examples" / "examples.json").read_text())
    assert {one["family"] for one in examples} == {"text", "image", "video"}
    there = {path.name for path in (UI / "examples").iterdir()} - {"examples.json"}
    assert {one["file"] for one in examples} == there
