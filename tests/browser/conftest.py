"""Debian's Chromium on the page of a running server, and a guard over what the page does beside its work."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Route

from service.bundle import MANIFEST, MODEL, Manifest, MapSpec, digest
from service.settings import DEMO, Settings
from tests.browser.chromium import CHROMIUM, launched, running

REQUIRED = os.environ.get("BROWSER_TESTS") == "required"
LONG = 4096  # tokens
LONG_MAPS = ("cls", "rollout", "received", "attention")
# What Chromium itself says of an answer that is an error; the page shows it in words.
REFUSED = "Failed to load resource: the server responded with a status of"


@pytest.fixture(scope="session")
def long_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The built-in text model for texts of LONG tokens, with the maps that the page needs for those."""
    root = tmp_path_factory.mktemp("long")
    folder = root / "long-text" / "1"
    shutil.copytree(DEMO / "code-language" / "1", folder)
    changed = {name: lengthened(folder / name) for name in (MODEL, MapSpec.path("gradients"))}
    manifest = Manifest.model_validate_json((folder / MANIFEST).read_text())
    parity = manifest.parity
    longer = manifest.model_copy(
        update={
            "name": "long-text",
            "preprocessing": manifest.preprocessing.model_copy(update={"max_tokens": LONG}),
            "files": manifest.files | changed,
            "maps": tuple(spec for spec in manifest.maps if spec.name in LONG_MAPS),
            "parity": parity.model_copy(update={"maps": {name: parity.maps[name] for name in LONG_MAPS}}),
        }
    )
    (folder / MANIFEST).write_text(longer.model_dump_json())
    with running(Settings(models=root)) as address:
        yield address


def lengthened(path: Path) -> str:
    """Give the table of positions of a graph LONG rows, its own again and again; the file's new checksum."""
    graph = onnx.load(path)
    (table,) = [one for one in graph.graph.initializer if one.name.endswith("embeddings.position.weight")]
    positions = numpy_helper.to_array(table)
    table.CopyFrom(numpy_helper.from_array(np.tile(positions, (LONG // len(positions), 1)), table.name))
    graph.graph.ClearField("value_info")  # it says the table's old shape
    onnx.save(graph, path)
    return digest(path)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The built-in models."""
    with running(Settings()) as address:
        yield address


# Playwright keeps an event loop running in its thread while it is open: other tests must not find it there.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        assert not REQUIRED, "no chromium is installed, and BROWSER_TESTS says that one is required"
        pytest.skip("no chromium is installed")
    with launched() as browser:
        yield browser


class Watch:
    """What a page did beside its work: errors and requests to other hosts; refusals are counted."""

    def __init__(self, page: Page, address: str) -> None:
        self.errors: list[str] = []
        self.foreign: list[str] = []
        self.asked: list[str] = []
        self.refused = 0
        self._host = urlsplit(address).netloc
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("dialog", lambda dialog: self.errors.append(f"a dialog: {dialog.message}"))
        page.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        if message.text.startswith(REFUSED):
            self.refused += 1
        elif message.type in ("error", "warning"):
            self.errors.append(message.text)

    def _request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        self.asked.append(f"{request.method} {parts.path}{'?' * bool(parts.query)}{parts.query}")
        if parts.scheme not in ("blob", "data") and parts.netloc != self._host:
            self.foreign.append(request.url)


Visit = Callable[..., Page]


@pytest.fixture
def visit(browser: Browser, server: str, request: pytest.FixtureRequest) -> Iterator[Visit]:
    """Opens the page, with a script to run before its own and options of a browser context; sees at the end
    that nothing went wrong unseen.

    A test that uses `refused` expects answers that are errors; no other has any.
    """
    opened: list[tuple[Page, Watch]] = []

    def open_page(address: str = server, *, ready: bool = True, script: str = "", **options: object) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        context.set_default_timeout(20_000)
        page = context.new_page()
        opened.append((page, Watch(page, address)))
        page.add_init_script(script)
        page.goto(address)
        if ready:
            page.wait_for_selector("html[data-ready]")
        return page

    open_page.watches = opened  # type: ignore[attr-defined]
    yield open_page
    for page, watch in opened:
        page.context.close()
        assert (watch.errors, watch.foreign) == ([], [])
        assert watch.refused == 0 or "refused" in request.fixturenames


@pytest.fixture
def refused() -> None:
    """Says that answers may be errors."""


@pytest.fixture
def page(visit: Visit) -> Page:
    """The page, ready."""
    return visit()


@pytest.fixture(scope="module")
def modules(browser: Browser, server: str) -> Iterator[Page]:
    """The page for its modules alone, which tests may call but not change."""
    page = browser.new_page()
    page.goto(server)
    yield page
    page.close()


@pytest.fixture
def asked(visit: Visit) -> Callable[[], list[str]]:
    """What the first page has asked the server for."""
    return lambda: list(visit.watches[0][1].asked)  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def once() -> Callable[[Page, str, int, dict[str, object]], None]:
    """Lets the next request for a path be answered with a problem."""

    def answer(page: Page, pattern: str, status: int, document: dict[str, object], **headers: str) -> None:
        def refuse(route: Route) -> None:
            route.fulfill(
                status=status,
                json={"title": "Refused", "status": status, **document},
                headers={"content-type": "application/problem+json", **headers},
            )

        page.route(pattern, refuse, times=1)

    return answer
